"""The documentation site: its examples run, its pages are whole, it asks no other host for anything."""

import json
import re
import shlex
import subprocess
import sys
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro

from analysis.folders import open_run
from docs.tools.markdown import CHECKS, FIGURES
from docs.tools.notebook import executed
from eqspike import build
from eqspike.build import configure
from eqspike.cli import COMMANDS
from eqspike.commands.check import GradientFlags
from eqspike.flags import everything, parse_run
from eqspike_seq.config.presets import run_settings
from eqspike_seq.data.batches import random_batch
from eqspike_seq.data.dataset import load_dataset, shape_of, split
from eqspike_seq.data.registry import DATASETS, DataSet
from eqspike_seq.learning.estimators import make_estimator
from eqspike_seq.model.network import Network
from eqspike_seq.runs.folder import changed
from neuromorphic.neurons import Noise
from neuromorphic.pricing import names, price, read_table
from tests.conftest import MARKUP

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REPRODUCE = (DOCS / "reproduce.md").read_text()


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code of a page, in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return place


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 12
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?(?:https?:)?//[^\s>]*", text)
        loaded += re.findall(r"<link[^>]*\shref=[\"']?(?:https?:)?//[^\s>]*", text)
        assert not loaded, page


def test_every_page_is_in_the_navigation_and_every_command_on_its_page(site: Path) -> None:
    start = (site / "index.html").read_text()
    for page in DOCS.rglob("*.md"):
        assert f'href="{page.relative_to(DOCS).with_suffix(".html").as_posix()}"' in start, page
    commands = (site / "cli.html").read_text()
    assert all(f'id="eqspike-{name}"' in commands for name in COMMANDS)
    assert all(f"--{name.replace('_', '-')}" in commands for name in everything() if name != "dataset")
    assert not (site / "hooks.py").exists()


def test_command_line_is_the_same_in_each_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    import hooks

    first = hooks.command_line()
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert hooks.command_line() == first and "\x1b" not in first and str(ROOT) not in first


@pytest.mark.parametrize("picture", sorted(path.name for path in DOCS.glob("*.svg")))
def test_command_of_every_picture_is_told(picture: str) -> None:
    assert re.search(rf"^\|.*\]\({re.escape(picture)}\).*`.*\|$", REPRODUCE, re.MULTILINE)


@pytest.mark.parametrize("picture", sorted(DOCS.glob("*.svg")), ids=lambda path: path.name)
def test_no_picture_prints_markup(picture: Path) -> None:
    text = picture.read_text()
    assert "<text" in text and not MARKUP.search(text)


def test_command_of_every_result_is_told() -> None:
    results = ROOT / "results"
    kept = [*results.glob("*/result.json"), *results.glob("*.json"), *results.glob("checks/*/*.json")]
    assert len(kept) > 30
    for path in kept:
        named = re.escape(f"../{path.relative_to(ROOT).as_posix()}")
        assert re.search(rf"^\|.*\]\({named}\).*\|$", REPRODUCE, re.MULTILINE), path


def test_every_promise_names_the_tests_that_hold_it() -> None:
    promises = (DOCS / "promises.md").read_text().split("## ")[0]
    rows = re.findall(r"^\| .+ \| (.*) \|$", promises, re.MULTILINE)[2:]
    assert len(rows) >= 20
    for row in rows:
        file, held = "", re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", row)
        assert held, row
        for named, test in held:
            file = named or file
            assert f"\ndef {test}(" in (ROOT / file).read_text(), (file, test)


@pytest.mark.parametrize("name", FIGURES)
def test_command_of_a_measurement_parses(name: str) -> None:
    module, *arguments = FIGURES[name].removeprefix("python -m ").split()
    parsed = wraps(import_module(module).main)(lambda *_, **given: given)
    assert tyro.cli(parsed, args=[*arguments, "--json", f"results/{name}"])["json_file"] == Path("results") / name


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in (ROOT / "results").glob("*/result.json")))
def test_command_of_a_run_has_its_settings(folder: str) -> None:
    (command,) = re.findall(rf"^\|.*/{folder}/result\.json\) \| `([^`]+)`", REPRODUCE, re.MULTILINE)
    saved = run_settings(ROOT / "results" / folder)
    assert not changed(saved, parse_run(shlex.split(command)[2:]))


@pytest.mark.parametrize("name", [name for name in CHECKS if name.endswith("gradients.json")])
def test_command_of_a_check_has_its_settings(name: str) -> None:
    found = json.loads((ROOT / "results" / name).read_text())
    program, command, subcommand, *arguments = CHECKS[name].replace("runs/", f"{ROOT}/results/").split()
    assert (program, command, subcommand) == ("eqspike", "check", "gradients")
    flags = tyro.cli(GradientFlags, args=arguments)
    assert flags.run is not None
    given = {key: value for key, value in vars(flags).items() if value is not None and key in everything()}
    run = flags.config(backend="spiking", **given)
    assert found["settings"].items() <= {**run.computed(), "precision": found["settings"]["precision"]}.items()
    records = [record for record in found["records"] if record["reference"] != "bptt"]
    assert {record["beta"] for record in records} == set(flags.betas or (run.learning.beta,))
    assert {record["window"] for record in records} <= {None, *flags.windows}


def test_tutorial_prints_what_it_is_shown_to_print() -> None:
    """But for figures with their units: other machines sum in another order, and take another time."""
    shown = json.loads((DOCS / "tutorial.ipynb").read_text())
    cells = [cell for cell in shown["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 6 and [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))

    def words(notebook: dict[str, Any]) -> str:
        text = json.dumps([cell.get("outputs") for cell in notebook["cells"]], ensure_ascii=False)
        figures = r"[ +-]*\d[\d,.e-]*( ([nµm]?J|s|min|h|[MG]i?B)\b)?"
        return re.sub(" +", " ", re.sub(figures, "0", text))

    assert words(executed(shown)) == words(shown)


def test_example_of_hardware_is_a_cost_table(tmp_path: Path) -> None:
    (example,) = blocks("how-to/own-hardware.md", "toml")
    (tmp_path / "my-chip.toml").write_text(example)
    table = read_table(str(tmp_path / "my-chip.toml"))
    assert table.name == "my-chip" and table.dense in names() and table.static is not None
    ledger = open_run(ROOT / "results/imdb-sigma-delta-seed0").ledgers.inference
    assert sum(cost.joules.value for cost in price(ledger, table)) > 0


def test_example_of_a_neuron_fires_at_the_rate_sigma_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = blocks("how-to/own-neuron.md", "python")
    found: dict[str, Any] = {"__name__": "example"}
    exec(example, found)
    neuron = found["JitteredThreshold"]()
    u, noise, steps = torch.linspace(-1, 3, 41, dtype=torch.float64).view(1, 1, -1), Noise(0, neuron.stochastic), 2000
    state, count = neuron.rest(u), torch.zeros_like(u)
    for _ in range(steps):
        state, z = neuron.step(state, u, noise.draw(u))
        count += z
    assert torch.equal(neuron.rate(u), (u / 2).clamp(0, 1))
    assert ((count / steps - neuron.rate(u)).abs() <= 2 / steps).all()
    torch.testing.assert_close(count + (state.v - 0.5) - state.added, steps * u / 2)  # the books
    monkeypatch.setitem(build.NEURONS, "jittered", found["JitteredThreshold"])
    config = configure("mini", "spiking", neuron="jittered", limit=32)
    data = load_dataset(config.data)
    network = Network.create(shape_of(config, data), torch.Generator().manual_seed(0))
    backend = build.make_backend(config)
    gradients = make_estimator(config.learning)(backend, network, random_batch(config, data, 16)).gradients
    assert all(torch.isfinite(gradient).all() and gradient.abs().sum() > 0 for gradient in gradients.values())


def test_examples_of_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, vectors = blocks("how-to/own-data.md", "python")
    exec(vectors, {"folder": tmp_path})
    (example,) = blocks("how-to/own-data.md", "csv")
    header, *rows = example.splitlines()
    more = [row.replace("day", f"day {n}").replace("me,", f"me {n},") for n in range(30) for row in rows]
    (tmp_path / "reviews.csv").write_text("\n".join([header, *more]))
    config = configure(str(tmp_path / "reviews.csv"), "spiking", embeddings=str(tmp_path / "vectors.npz"))
    data = load_dataset(config.data)
    assert data.classes == ("bad", "good") and data.embeddings.dim == 16
    assert (len(data.train), len(data.validation), len(data.test)) == (44, 4, 12)
    found: dict[str, Any] = {"__name__": "example"}
    exec(module, found)
    for name in ("train", "test"):
        lines = [f"{label},{name} {label} number {n}\n" for label in found["CLASSES"] for n in range(20)]
        (tmp_path / f"topics_{name}.csv").write_text("".join(lines))
    # one entry, and the data set is there by its name, for settings, for help and for training
    monkeypatch.setitem(DATASETS, "topics", DataSet(found["load_topics"], "mini", "news", "your own lines"))
    config = parse_run(["topics", "--backend", "spiking", "--data-dir", str(tmp_path)])
    assert config.run.preset == "mini" and len(load_dataset(config.data).test) == 60
    topics = split(found["load_topics"](tmp_path))
    assert topics.validation is not None and len(topics.validation) == 6
    assert np.unique(topics.validation.labels).tolist() == [0, 1, 2]


def test_example_of_python_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example, opened, table, datasets, runs = blocks("how-to/python.md", "python")
    found: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    exec(example, found)
    assert found["model"].score(found["texts"], found["labels"]) == 1.0
    for block in (opened, table, datasets, runs):
        exec(block, found)
    assert found["why"].label == "negative" and len(found["table"].rows) == 2 and len(found["texts"]) == 500
    assert found["result"]["complete"] and (tmp_path / "runs/from-python/result.json").is_file()
