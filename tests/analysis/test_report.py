"""``eqspike report``: one file, every text escaped, alive in a real browser."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from analysis.folders import open_run
from analysis.report import page, texts
from analysis.style import figure, svg_of
from eqspike.commands.run import parse_run
from eqspike.provenance import command as made_by
from eqspike.provenance import command_of
from eqspike_seq.files import save_arrays
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
    (data,) = re.findall(r'<script type="application/json" id="texts">(.*?)</script>', html, re.DOTALL)
    assert json.loads(data)[0]["words"][0] == HOSTILE


def test_verdict_comes_first_and_names_what_was_left_out(html: str) -> None:
    assert html.index("test texts are right") < html.index("The runs") < html.index("Pictures")
    assert "spiking wins" in html or "spiking loses" in html
    assert "Left out:" in html and "nowhere" in html


def test_pictures_can_be_taken_away_and_names_in_them_are_their_own(html: str) -> None:
    links = [attributes for tag, attributes in Elements(html).found if tag == "a"]
    names = [link["download"] for link in links]
    assert len(names) == len(set(names)) >= 10
    for link in links:
        content = b64decode((link["href"] or "").split("base64,")[1])
        if (link["download"] or "").endswith(".svg"):
            assert ElementTree.fromstring(content).tag.endswith("svg")
        else:
            assert len(content.splitlines()) > 1
    inline = [a["id"] for tag, a in Elements(html[html.index("<h2>Pictures") :]).found if "id" in a]
    assert len(inline) == len(set(inline))


def test_pictures_print_no_markup_and_names_as_they_are(html: str, folders: list[Path], tmp_path: Path) -> None:
    command("compare", *folders, "--out", tmp_path)
    pictures = {path.stem: path.read_text() for path in tmp_path.glob("*.svg")}
    pictures |= {f"report's {n}": text for n, text in enumerate(re.findall(r"<svg.*?</svg>", html, re.DOTALL))}
    assert len(pictures) >= 16 and ">1 µJ</text>" in pictures["accuracy-over-energy"]  # a log axis
    for name, text in pictures.items():
        assert not MARKUP.search(text.replace(NAMED, "")), name
    assert sum(f">{NAMED}</text>" in text for text in pictures.values()) == 2  # the bars of either command


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


def test_same_runs_same_page(folders: list[Path]) -> None:
    runs = [open_run(path) for path in folders]
    assert page(runs, [], "loihi", made_by) == page(runs, [], "loihi", made_by)


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium here (a distribution's package chromium): the report was not opened in a browser")


@pytest.mark.parametrize("width", [360, 1440])
def test_a_browser_shows_it_without_a_complaint_or_a_request(
    html: str, folders: list[Path], tmp_path: Path, width: int
) -> None:
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
    shot = tmp_path / "shot.png"
    more = (f"--user-data-dir={tmp_path}/profile", "--enable-logging=stderr", f"--window-size={width},2000")
    opened = [chromium(), *flags, *more, "--no-first-run", "--disable-component-update"]
    uri = (folders[0].parent / "report.html").as_uri()
    ran = subprocess.run([*opened, f"--screenshot={shot}", uri], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in ran.stderr, ran.stderr  # where a request refused by the page's own policy would stand too
    assert shot.stat().st_size > 20_000
    dom = subprocess.run([*opened, "--dump-dom", uri], capture_output=True, text=True, timeout=120).stdout
    words = re.search(r'id="words"[^>]*>(.*?)</div>', dom, re.DOTALL)
    assert words and words[1].count("<span") > 5  # the program has run
    assert "alert(1)" in words[1] and "<script>alert" not in words[1]


def test_a_run_without_anything_dense_beside_it_is_reported_all_the_same(folders: list[Path], tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(folders[1], alone)
    ledger = json.loads((alone / "ledger.json").read_text())
    del ledger["dense"]
    (alone / "ledger.json").write_text(json.dumps(ledger))
    assert "An inference takes" in page([open_run(alone)], [], "loihi", made_by)
    other = tmp_path / "other"  # the same texts, another network
    shutil.copytree(folders[0], other)
    settings = (other / "config.toml").read_text()
    (other / "config.toml").write_text(settings.replace("masked = true", "masked = false"))
    assert "the same weights" in page([open_run(other), open_run(folders[1])], [], "loihi", made_by)


def test_pictures_hold_words_of_every_script() -> None:
    """As text, which needs no font here; a warning would fail this test."""
    drawn, ((axis,),) = figure()
    axis.set_title("好 ขอ हिन्दी 👍")
    assert "好 ขอ हिन्दी 👍" in svg_of(drawn).decode()
