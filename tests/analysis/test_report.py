"""``eqspike report``: one file, every text escaped, alive in a real browser."""

import io
import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from base64 import b64decode
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from analysis.answers import confusion, mistakes, texts
from analysis.folders import open_run
from analysis.report import page
from analysis.style import figure, svg_of
from eqspike.commands.run import parse_run, show
from eqspike.provenance import command as made_by
from eqspike.provenance import command_of
from eqspike_seq.files import save_arrays
from tests.browser import Browser, browser
from tests.conftest import MARKUP, command

NAMED = "$x_1$"  # a run; no mathematics
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A dense and a spiking run; the spiking one's folder and words are not to be trusted."""
    place = tmp_path_factory.mktemp("runs")
    for name, flags in ((NAMED, ["dense"]), ("spiking", ["spiking", "--neuron", "sigma-delta"])):
        command("run", "mini", "--limit", 120, "--epochs", 1, "--backend", *flags, "--out", place / name)
    hostile = place / "a&b <b onclick=alert(3)>"
    shutil.move(place / "spiking", hostile)
    arrays = dict(open_run(hostile).samples)
    arrays["tokens"] = arrays["tokens"].astype("<U80")
    arrays["tokens"][:, 0] = HOSTILE
    save_arrays(hostile / "samples.npz", arrays)
    return [place / NAMED, hostile]


@pytest.fixture(scope="module")
def html(folders: list[Path]) -> str:
    out = folders[0].parent / "report.html"
    command("report", *folders, folders[0].parent / "nowhere", "--out", out)
    return out.read_text()


class Elements(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_nothing_in_it_points_anywhere_else(html: str) -> None:
    elements = Elements(html).found
    assert len(elements) > 200
    for tag, attributes in elements:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            target = attributes.get(name) or ""
            assert target.startswith(("#", "data:")) or not target, (tag, name, target[:80])
    assert "default-src 'none'" in html and "@import" not in html


def test_words_labels_and_names_are_text_and_nothing_else(html: str) -> None:
    elements = Elements(html).found
    assert sum(tag == "script" for tag, _ in elements) == 2  # the texts, and the program that shows them
    assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
    assert not any(tag == "b" for tag, _ in elements) and HOSTILE not in html
    (data,) = re.findall(r'<script type="application/json" id="subjects">(.*?)</script>', html, re.DOTALL)
    assert json.loads(data)[1]["texts"][0]["words"][0] == HOSTILE


def test_verdict_comes_first_and_names_what_was_left_out(html: str) -> None:
    parts = ("is right on", 'id="runs"', 'id="texts"', 'id="mistakes"', 'id="compared"', 'id="figures"', 'id="made"')
    places = [html.index(part) for part in parts]
    assert places == sorted(places)
    verdict = html[html.index('id="verdict"') : html.index('id="runs"')]
    assert verdict.count("<li>") == 3 and "than dense EP" in verdict and "The cheapest classifier is" in verdict
    assert "Left out:" in html and "nowhere" in html and len(html) < 2e6


def test_pictures_can_be_taken_away_and_names_in_them_are_their_own(html: str) -> None:
    links = [attributes for tag, attributes in Elements(html).found if tag == "a" and "download" in attributes]
    names = [link["download"] for link in links]
    assert len(names) == len(set(names)) >= 10
    for link in links:
        if (link["download"] or "").endswith(".csv"):
            assert len(b64decode((link["href"] or "").split("base64,")[1]).splitlines()) > 1
    inline = [a["id"] for tag, a in Elements(html[html.index('id="figures"') :]).found if "id" in a]
    assert len(inline) == len(set(inline))


def test_pictures_print_no_markup_and_names_as_they_are(html: str, folders: list[Path], tmp_path: Path) -> None:
    command("compare", *folders, "--out", tmp_path)
    pictures = {path.stem: path.read_text() for path in tmp_path.glob("*.svg")}
    pictures |= {f"report's {n}": text for n, text in enumerate(re.findall(r"<svg.*?</svg>", html, re.DOTALL))}
    assert len(pictures) >= 16 and ">1 µJ</text>" in pictures["accuracy-over-energy"]  # a log axis
    for name, text in pictures.items():
        assert not MARKUP.search(text.replace(NAMED, "")), name
    assert sum(f">{NAMED}</text>" in text for text in pictures.values()) == 2  # the bars of either command
    told = [text for text in pictures.values() if "data-tip" in text]
    assert len(told) >= 4 and all(": " in tip for text in told for tip in re.findall('data-tip="(.*?)"', text))


def test_what_scrolls_or_is_chosen_can_be_reached_by_keyboard(html: str) -> None:
    elements = Elements(html).found
    scrolling = [a for _, a in elements if a.get("class") in ("scroll", "drawing")]
    assert len(scrolling) >= 10 and all(a.get("tabindex") == "0" and a.get("aria-label") for a in scrolling)
    labels = {a.get("for") for tag, a in elements if tag == "label"}
    assert all(a.get("id") in labels for tag, a in elements if tag == "select")
    assert all(a.get("href") for tag, a in elements if tag == "a")


def test_attention_of_a_text_is_that_of_its_real_words(folders: list[Path]) -> None:
    run = open_run(folders[1])
    for index, text in enumerate(texts(run)):
        real = run.samples["mask"][index]
        assert len(text["words"]) == len(text["attention"]) == int(real.sum())
        received = run.samples["attention"][index].astype(float)[real].mean(0)[real]
        assert np.argmax(text["attention"]) == np.argmax(received) and max(text["attention"]) == 1
        assert len(text["rates"]) == 2 and len(text["rates"][0]) == len(text["steps"])
        assert sum(text["spikes"]["s2"]) == int(np.abs(run.samples["free_spikes_s2"][:, index].astype(int)).sum())
        assert set(text["spikes"]) == {"s1", "s2", "s3"}


def test_confusion_and_mistakes_are_those_of_the_predictions(folders: list[Path]) -> None:
    run = open_run(folders[0])
    labels, answers = run.predictions["label"], run.predictions["predicted"]
    found = confusion(run)
    assert found is not None and found["counts"] == confusion_matrix(labels, answers).tolist()
    for key, score in (("recall", recall_score), ("precision", precision_score)):
        scores = score(labels, answers, average=None, zero_division=np.nan)
        assert [row[key] for row in found["classes"]] == [None if np.isnan(s) else pytest.approx(s) for s in scores]
    wrong, names = mistakes(run), run.result.classes
    assert len(wrong) == min(20, int((labels != answers).sum()))
    for each in wrong:
        row = each["row"]
        assert (each["label"], each["answer"]) == (names[labels[row]], names[answers[row]])
        first = each["words"][int(np.argmax(each["attention"]))]
        assert each["deciding"][0] == first and max(each["attention"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "imdb --backend spiking",
        "imdb --backend spiking --neuron sigma-delta --circuit wta --attention-threshold 0.0",
        "mini --no-attention --learning-rate 0.1 0.2 0.3 --shuffle-words",
        "mnist --backend spiking --neuron lif --rule eqspike --hidden 30 --word-dropout 0.0",
    ],
)
def test_the_command_shown_makes_the_same_settings(arguments: str) -> None:
    config = parse_run(arguments.split())
    assert parse_run(command_of(config.settings()).split()[2:]) == config


def test_a_run_ends_within_80_columns_its_next_commands_whole(folders: list[Path]) -> None:
    out = io.StringIO()
    show(folders[1], 1, Console(width=80, file=out, highlight=False, markup=False, emoji=False))
    facts, commands = out.getvalue().split("\n\n")
    assert max(map(len, facts.splitlines())) <= 80 and "than dense EP" in " ".join(facts.split())
    for line, name in zip(commands.splitlines(), ("predict", "report", "energy"), strict=True):
        assert shlex.split(line[14:])[:3] == ["eqspike", name, str(folders[1])]


def test_same_runs_same_page(folders: list[Path]) -> None:
    runs = [open_run(path) for path in folders]
    assert page(runs, [], "loihi", made_by) == page(runs, [], "loihi", made_by)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def long_labels(folders: list[Path]) -> Path:
    """The report on texts of twelve classes, their names 40 characters long."""
    place = folders[0].parent
    names = [f"class {number:02d} {'of a long and winding name ' * 2}"[:40] for number in range(12)]
    lines = [f"cue{number} word{again} word{again % 5},{names[number]}" for again in range(12) for number in range(12)]
    (place / "long.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    for backend in ("dense", "spiking"):
        flags = ("--epochs", 1, "--no-baseline", "--backend", backend)
        command("run", place / "long.csv", *flags, "--out", place / f"long-{backend}")
    command("report", place / "long-dense", place / "long-spiking", "--out", place / "long.html")
    return place / "long.html"


@pytest.mark.parametrize("labels", ["short", "long"])
def test_a_browser_shows_all_of_it_at_every_width_by_day_and_night(
    html: str, folders: list[Path], long_labels: Path, tab: Browser, labels: str
) -> None:
    path = long_labels if labels == "long" else folders[0].parent / "report.html"
    for width, dark in ((390, True), (1024, False), (1440, True), (1440, False)):
        tab.open(path, width, dark)
        assert tab.ask("document.documentElement.scrollWidth <= innerWidth")
        cards = "[...document.querySelectorAll('.card')].map(card => card.getBoundingClientRect().left)"
        assert tab.ask(f"new Set({cards}).size") == (1 if width == 390 else 2)
        hidden = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth).length"
        assert width < 1440 or tab.ask(hidden) == 0, "a table hides columns"
        light = "(element, name) => { const [r, g, b] = getComputedStyle(document.querySelector(element))[name]"
        light += ".match(/\\d+/g).map(Number); return (r + g + b) / 765; }"
        for element, paper in (("body", "body"), (".words", ".words"), (".drawing text", ".drawing"), ("td", "body")):
            name = "fill" if element.endswith("text") else "color"
            ink, ground = (
                tab.ask(f"({light})({json.dumps(on)}, {json.dumps(which)})")
                for on, which in ((element, name), (paper, "backgroundColor"))
            )
            assert ink - ground > 0.6 if dark else ground - ink > 0.6, (element, ink, ground)
        assert tab.ask("document.querySelectorAll('#words span').length") > 2  # the program has run
        assert not tab.complaints


def test_every_part_is_reached_and_worked_by_keyboard(html: str, folders: list[Path], tab: Browser) -> None:
    tab.open(folders[0].parent / "report.html")

    def reach(what: str) -> None:
        for _ in range(120):
            tab.press("Tab")
            if tab.ask(f"document.activeElement.matches({json.dumps(what)})"):
                return
        raise AssertionError(f"no Tab leads to {what}")

    reach(".of-run")
    tab.press("ArrowDown")
    assert tab.ask("document.getElementById('words').textContent").startswith(HOSTILE)
    assert not tab.ask("document.querySelectorAll('#words img, #words script').length")
    reach("#find")
    for letter in "wrong":
        tab.press(letter, letter)
    shown = tab.ask("[...document.querySelectorAll('#found button')].map(button => button.textContent[0]).join('')")
    assert shown and set(shown) == {"✗"}
    tab.press("ArrowDown")
    assert tab.ask("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert "the label is" in tab.ask("document.getElementById('answer').textContent")
    reach(".subject:not([hidden]) summary")
    tab.press("Enter", "\r")
    tab.ask("new Promise(requestAnimationFrame)")
    assert tab.ask("document.querySelectorAll('details[open] .words span').length") > 2
    reach(".sortable th:nth-child(3) button")
    for order in (1, -1):
        tab.press("Enter", "\r")
        cells = "[...document.querySelectorAll('.sortable tbody td:nth-child(3)')].map(cell => +cell.dataset.value)"
        assert (values := tab.ask(cells)) == sorted(values, reverse=order < 0)
    reach(".toggles input")
    tab.press(" ")
    of_first = "[...document.querySelectorAll('[data-series=\"0\"]')].map(each => getComputedStyle(each).display)"
    assert set(tab.ask(of_first)) == {"none"}
    assert not tab.complaints


def test_points_tell_their_values_pictures_are_files_and_print_has_no_controls(
    html: str, folders: list[Path], tab: Browser
) -> None:
    tab.open(folders[0].parent / "report.html")
    tab.ask("window.point = document.querySelector('[data-tip^=\"dense EP\"]')")
    tab.ask("point.scrollIntoView({block: 'center'})")
    x, y = tab.ask("(box => [box.x + box.width / 2, box.y + box.height / 2])(point.getBoundingClientRect())")
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert re.search(r"^dense EP\n.*: [\d.]+", tab.ask("document.getElementById('tip').textContent"))
    tab.ask("window.link = document.querySelector('a.svg')")
    tab.ask("link.addEventListener('click', event => event.preventDefault())")
    tab.ask("link.click()")
    assert tab.ask("link.href").startswith("blob:")
    whole = tab.ask("new XMLSerializer().serializeToString(document.querySelector('.drawing svg'))")
    assert ElementTree.fromstring(whole).tag.endswith("svg")
    tab.call("Emulation.setEmulatedMedia", media="print")
    for part in ("nav", ".controls", ".toggles"):
        assert tab.ask(f"getComputedStyle(document.querySelector({json.dumps(part)})).display") == "none"
    tab.call("Emulation.setEmulatedMedia", media="screen")
    assert not tab.complaints


def test_a_run_without_anything_dense_beside_it_is_reported_all_the_same(folders: list[Path], tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(folders[1], alone)
    ledger = json.loads((alone / "ledger.json").read_text())
    del ledger["dense"]
    (alone / "ledger.json").write_text(json.dumps(ledger))
    told = page([open_run(alone)], [], "loihi", made_by)
    assert "An inference takes" in told and "dense EP" not in told[told.index('id="verdict"') : told.index('id="runs"')]
    other = tmp_path / "other"  # the same texts, another network
    shutil.copytree(folders[0], other)
    settings = (other / "config.toml").read_text()
    (other / "config.toml").write_text(settings.replace("masked = true", "masked = false"))
    assert "than dense EP" in page([open_run(other), open_run(folders[1])], [], "loihi", made_by)


def test_pictures_hold_words_of_every_script() -> None:
    """As text, which needs no font here; a warning would fail this test."""
    drawn, ((axis,),) = figure()
    axis.set_title("好 ขอ हिन्दी 👍")
    assert "好 ขอ हिन्दी 👍" in svg_of(drawn).decode()
