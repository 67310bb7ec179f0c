"""What the README says is so: its figures are those of the result files, its commands parse."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from analysis.energy import DIGITAL, energy
from analysis.folders import open_run
from docs.tools.markdown import INDEX
from docs.tools.tables import BLOCK, filled
from eqspike.cli import COMMANDS
from eqspike.flags import parse_run
from eqspike_seq.config.presets import run_settings
from eqspike_seq.data.imdb import OFFICIAL
from eqspike_seq.runs.folder import changed
from neuromorphic.pricing import read_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINES = [line for line in README.splitlines() if re.match(r"^\|.*\]\(results/", line)]
LINKS = re.compile(r"\]\((results/[\w./-]+)\)(?: `([\w.]+)`)?")


def value(file: str, key: str) -> float:
    found = json.loads((ROOT / file).read_text())
    for part in (key or "test_accuracy").split("."):
        found = found[int(part) if isinstance(found, list) else part]
    return float(found)


@pytest.mark.parametrize(
    ("page", "tables"),
    [
        ("README.md", 1),
        ("docs/mini.md", 1),
        ("docs/index.md", 1),
        ("docs/learnt-words.md", 4),
        ("docs/rates-to-spikes.md", 5),
        ("docs/attention.md", 5),
        ("docs/energy.md", 7),
        ("docs/speed.md", 15),
        ("docs/snli.md", 4),
        ("docs/local-learning.md", 3),
        ("docs/models.md", 2),
        ("docs/promises.md", 4),
        ("docs/how-to/several-machines.md", 3),
        ("docs/how-to/hand-off.md", 1),
        ("docs/how-to/imperfect-hardware.md", 6),
        ("docs/reproduce.md", 3),
    ],
)
def test_tables_are_what_the_result_files_say(page: str, tables: int) -> None:
    text = (ROOT / page).read_text()
    assert len(BLOCK.findall(text)) == tables and filled(text) == text


PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]
SHOWN = re.compile(r"\[`(eqspike run [^`]+)`\]\((?:\.\./)*results/([\w-]+)/result\.json\)")
COMMANDS_SHOWN = sorted({row for page in PAGES for row in SHOWN.findall((ROOT / page).read_text())})


@pytest.mark.parametrize(("command", "folder"), COMMANDS_SHOWN, ids=[folder for _, folder in COMMANDS_SHOWN])
def test_command_of_a_row_has_the_settings_that_its_run_had(command: str, folder: str) -> None:
    saved = run_settings(ROOT / "results" / folder)
    assert not changed(saved, parse_run(shlex.split(command)[2:]))


def test_every_run_of_the_index_has_its_command_in_a_table() -> None:
    indexed = {row for rows in INDEX["tables"].values() for row in rows if " " not in row}  # the others are checks
    first = {folder for folder in indexed if run_settings(ROOT / "results" / folder)["seed"] == 0}
    assert {folder for _, folder in COMMANDS_SHOWN} == first
    assert len(COMMANDS_SHOWN) >= 30
    assert all((ROOT / "results" / name).exists() for name in (*INDEX["notes"], *INDEX["commands"]))


ACCURACY = re.compile(r"\b(\d{2}\.\d{2}|\d{2}\.\d+(?= %| to \d{2}\.\d+ %))(?![\d.])( %<!-- (?!not in)[^>]+ -->)?")


def without_a_file(page: str) -> list[str]:
    """Accuracies in sentences of a page that neither name a file nor are listed as having none."""
    found = []
    prose = re.sub(r"^```.*?^```$|^\|[^\n]*$|`[^`]*`", "", page, flags=re.MULTILINE | re.DOTALL)
    for paragraph in prose.split("\n\n"):
        listed = " ".join(re.findall(r"<!-- not in results: ([\d. ]+) -->", paragraph)).split()
        sentences = re.sub(r"<!-- not in results: .*? -->", "", paragraph)
        marks = ACCURACY.findall(sentences)
        found += [figure for figure, mark in marks if not mark and figure not in listed]
        found += sorted(set(listed) - {figure for figure, mark in marks if not mark})
    return found


@pytest.mark.parametrize("page", PAGES)
def test_accuracies_in_sentences_are_those_of_their_files(page: str) -> None:
    text = (ROOT / page).read_text()
    assert filled(text) == text and not without_a_file(text)


def test_a_stale_or_unmarked_accuracy_is_noticed() -> None:
    """As docs/attention.md had them: 87.81 and 88.22 % where the files hold 87.75 and 88.30 %."""
    stale = "has 87.81 %<!-- imdb-sigma-delta-seed0 --> on test, dense EP 88.22 %<!-- imdb-dense-seed0 -->."
    files = [f"results/{name}/result.json" for name in ("imdb-sigma-delta-seed0", "imdb-dense-seed0")]
    changes, dense = (f"{100 * value(file, ''):.2f}" for file in files)
    assert filled(stale) == stale.replace("87.81", changes).replace("88.22", dense) != stale
    assert without_a_file("has 87.81 % on test") == ["87.81"] and not without_a_file(stale)
    assert without_a_file("`eqspike` 88.24 and 88.25 %\n<!-- not in results: 88.24 -->") == ["88.25"]
    first, second = value("results/imdb-sigma-delta-seed0/curves.json", "accuracy.1"), "1 %<!-- {} accuracy.1 -->"
    second = second.format("imdb-sigma-delta-seed0/curves.json")
    assert filled(second) == second.replace("1 %", f"{100 * first:.0f} %")


def test_there_are_figures() -> None:
    assert len(LINES) >= 10 and all(LINKS.findall(line) for line in LINES)


@pytest.mark.parametrize("number", range(len(LINES)))
def test_figure_is_that_of_its_result_file(number: int) -> None:
    found = LINKS.findall(LINES[number])
    (percent,) = re.findall(r"(\d+\.\d+) %", LINES[number])
    assert percent == f"{100 * mean(value(file, key) for file, key in found):.2f}", LINES[number]
    for seed, (file, _) in enumerate(found):
        if file.endswith("result.json"):
            result = json.loads((ROOT / file).read_text())
            config = tomllib.loads((ROOT / file).with_name("config.toml").read_text())
            assert result["complete"] and result["limit"] is None and result["seed"] == config["run"]["seed"] == seed


def test_figures_said_in_words_are_those_of_the_files() -> None:
    def read(name: str) -> dict[str, Any]:
        return dict(json.loads((ROOT / "results" / name).read_text()))

    folders = [ROOT / "results" / name for name in ("imdb-words-sigma-delta-seed0", "imdb-words-seed0")]
    changes = open_run(folders[0]).result
    spiking, dense = (
        mean(read(f"{path.name[:-1]}{seed}/result.json")["test_accuracy"] for seed in range(3)) for path in folders
    )
    rates = open_run(ROOT / "results/imdb-spiking-eqspike-seed0").result
    records, digits = read("imdb-gradients.json")["records"], read("digits-spiking-seed0/result.json")
    priced = energy(folders[0], [read_table(DIGITAL)], folders[1], ROOT / "results/imdb-baselines.json")
    pages = [README, *((ROOT / "docs" / name).read_text() for name in ("index.md", "install.md"))]
    found, words = priced["hardware"][DIGITAL], " ".join(" ".join(pages).split())

    def said(pattern: str) -> float:
        (figure,) = re.findall(pattern, words)
        return float(figure)

    assert said(r"cosine at least ([\d.]+\d)") <= min(record["cosine"] for record in records)
    assert said(r"relative error at most ([\d.e-]+)") >= max(record["relative_rmse"] for record in records)
    for pattern, part in (
        (r"take ([\d.]+) times less energy than dense EP", "inference"),
        (r"([\d.]+) times less in training", "training"),
    ):
        assert said(pattern) == round(found["dense_over_this"][part]["value"], 1)
    assert said(r"in training, at ([\d.]+) points") == round(100 * (dense - spiking), 1)
    cheap = {row["name"]: row.get("inference", row)["joules"]["value"] for row in priced["baselines"]}
    bags = cheap["logistic regression, TF-IDF of words and word pairs"]
    assert said(r"TF-IDF takes ([\d.]+) times less") <= found["inference"]["joules"]["value"] / bags
    assert "tens of events" in words and 20 <= rates.spikes_per_synapse_per_inference < 100
    assert "need less than one, all three phases" in words and changes.spikes_per_synapse_per_training_sample < 1
    assert said(r"(\d+) % in less than a minute") == round(100 * digits["test_accuracy"])
    assert digits["train_seconds"] + digits["test_seconds"] < 60
    dropped = read("imdb-dense-seed0/environment.json")["counts"]["train_texts_dropped_as_in_test"]
    assert said(r"occur in test \((\d+)\)") == dropped
    assert said(r"downloaded \((\d+) MB\)") == round(OFFICIAL.size / 1e6)


def test_its_commands_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(20)))
    pairs = "".join(f"claim {i},evidence {i},{i % 2}\n" for i in range(20))
    (tmp_path / "pairs.csv").write_text("claim,evidence,label\n" + pairs)
    monkeypatch.chdir(tmp_path)
    lines = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("eqspike ")]
    assert len(lines) >= 6
    for line in lines:
        _, command, *arguments = shlex.split(line)
        assert command in COMMANDS
        if command == "run" and "--help" not in arguments:
            parse_run(arguments)
