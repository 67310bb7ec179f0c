"""A zoo of corpora that nobody has tuned for: `python -m tests.stress.zoo` takes each through every command.

A corpus and the settings of its run are a row of a covering array. The run is interrupted half-way and resumed, asked,
priced, reported, exported and repeated, all in this process. It is lost where a command ends in a traceback or refuses
what it should take, a number is not finite, the repetition differs in a bit, an answer depends on what else is in the
batch, or a run that learnt nothing does not say so. Exit code 1 if any is. The same command continues.
"""

import io
import json
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import torch
import tyro

from benchmarks.measure import command
from eqspike.build import config_of, make_backend
from eqspike.cli import main as eqspike
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset, shape_of
from eqspike_seq.files import parse_json, read_arrays, read_json, read_tensors, write_json
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.relaxation.buckets import free_by_length
from eqspike_seq.runs.environment import environment
from eqspike_seq.runs.weights import network_of
from tests.stress.corpora import Corpus, covering

SETTINGS: dict[str, tuple[str, ...]] = {
    "backend": ("dense", "spiking", "brian2"),
    "neuron": ("if", "lif", "bernoulli", "sigma-delta"),
    "circuit": ("clocked", "wta"),
    "precision": ("float32", "bfloat16"),
    "network": ("tokens", "pooling", "token-layer"),
}
SMALL = {"epochs": 2, "batch": 64, "hidden": 24, "dim": 24, "patience": 0}
TOKENS = {"tokens": 16, "embeddings": "random", "min_count": 1}
RATES = {"free_steps": 30, "nudge_steps": 30, "window": 20, "tick_steps": 10}
LARGE = (  # beside those of the array
    {"texts": 50_000, "length": "short", "words": 20_000, "classes": 2, "network": "pooling"},
    {"texts": 50_000, "words": 1_000_000, "classes": 20, "balance": "rare", "network": "pooling", "epochs": 2},
    {"texts": 300, "length": "any", "longest": 100_000, "words": 1_000_000, "network": "pooling", "law": "uniform"},
    {"texts": 300, "length": "short", "longest": 100_000, "script": "mixed", "network": "tokens"},
    {"texts": 10_000, "length": "page", "script": "han", "form": "parquet", "network": "pooling", "neuron": "if"},
)
LARGEST_DIFFERENCE = {"float32": 1e-4, "bfloat16": 1e-2}  # of an output rate between a text alone and in a batch
SPIKES = 2.5 / 20  # the same of a spike rate: rounding may move two spikes into the window, or out of it
RENDERED = 8  # the pictures of one corpus in so many are rendered: that takes as long as all else
ALONE = 6  # texts that are also relaxed alone


class Lost(Exception):
    """What went wrong."""


def finite(folder: Path) -> None:
    """Raises ValueError or AssertionError unless every number in the folder is one."""
    for path in folder.rglob("*"):
        if path.suffix == ".json":
            parse_json(path.read_text())
        elif path.suffix == ".jsonl":
            [parse_json(line) for line in path.read_text().splitlines()]
        elif path.suffix == ".npz":
            arrays = read_arrays(path)
            assert all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f"), path
        elif path.suffix == ".safetensors":
            read_tensors(path)


def called(*arguments: object, stop: int = 0) -> tuple[int, str, str]:
    """``eqspike`` with these arguments: exit code, standard output and error. Interrupted after ``stop`` batches."""
    step, out, error, code = Trainer.train_batch, io.StringIO(), io.StringIO(), 0

    def stopped(trainer: Trainer) -> None:
        step(trainer)
        if trainer.step == stop:
            signal.raise_signal(signal.SIGINT)

    with patch("sys.argv", ["eqspike", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(error):
        with patch.object(Trainer, "train_batch", stopped):
            try:
                eqspike()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return code, out.getvalue(), error.getvalue()


def ended(code: int, *arguments: object, stop: int = 0) -> str:
    """What the command printed. Raises Lost where it does not end with ``code``."""
    found, out, error = called(*arguments, stop=stop)
    if found != code:
        raise Lost(f"eqspike {arguments[0]}: exit code {found}, expected {code}: {said(out[-300:] + error)[-500:]}")
    return said(out + error) if arguments[0] != "predict" else out


def said(text: str) -> str:
    """On one line, however it was wrapped."""
    return " ".join(text.split())


@torch.no_grad()
def difference_alone(folder: Path) -> float:
    """The largest difference of an output rate between test texts relaxed alone and in one batch."""
    config = config_of(folder)
    dataset = load_dataset(config.data)
    network = network_of(shape_of(config, dataset), folder / "checkpoint" / "model.safetensors")
    backend, gather = make_backend(config), Batches.of(config, dataset)
    rows = np.arange(min(48, len(dataset.test)))
    together = free_by_length(backend, network, gather(dataset.test, rows)).outputs[-1]
    alone = [free_by_length(backend, network, gather(dataset.test, rows[i : i + 1])).outputs[-1] for i in rows[:ALONE]]
    return float((together[: len(alone)] - torch.cat(alone)).abs().max())


def flags(settings: dict[str, Any]) -> list[str]:
    """The settings of a row for ``eqspike run``, those that act."""
    acting = {"network": settings["network"], **SMALL}
    if settings["network"] != "pooling":
        acting |= TOKENS
    if settings["backend"] != "dense":
        acting |= {name: settings[name] for name in ("neuron", "circuit", "rule")}
    if settings["backend"] != "brian2":
        acting["precision"] = settings["precision"]
    if settings["backend"] == "brian2":
        acting["limit"] = 40  # it takes its time
    if rates(settings):
        acting |= RATES
    elif settings["backend"] == "dense":
        acting["epochs"] = settings.get("epochs", 6)
    given = [word for name, value in acting.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return ["--backend", settings["backend"], *given]


def rates(settings: dict[str, Any]) -> bool:
    """Whether an output is a number of spikes."""
    return settings["backend"] == "brian2" or (settings["backend"] == "spiking" and settings["neuron"] != "sigma-delta")


def drawn(settings: dict[str, Any]) -> bool:
    """Whether answers are drawn: a text alone then has other random numbers."""
    return settings["backend"] == "spiking" and (settings["neuron"] == "bernoulli" or settings["circuit"] == "wta")


def silent_about_nothing(folder: Path, printed: str) -> bool:
    """Whether the answers to test texts are no better than chance would be and nothing was said of it.

    Judged by other means than the run's own: permutations of the answers, which keep how often each is given.
    """
    columns = pq.read_table(folder / "predictions.parquet").to_pydict()
    labels, predicted = (np.array(columns[name]) for name in ("label", "predicted"))
    rng, right = np.random.default_rng(0), int((labels == predicted).sum())
    better = sum(int((labels == rng.permutation(predicted)).sum()) >= right for _ in range(999))
    return (better + 1) / 1000 > 0.5 and "no sign of learning" not in printed


def visit(corpus: Corpus, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Take a corpus through every command; what came of it. Raises Lost, and whatever a command raises."""
    out, data = folder / "run", corpus.write(folder)
    arguments = ["run", *data, *flags(settings), "--out", out]
    if corpus.refused:
        return {"outcome": "refused", "message": ended(2, *arguments)[-300:]}
    code, out_text, error = called(*arguments, stop=2)
    stopped = said(out_text + error)
    if code == 2 and "split has no text" in stopped:  # all that it has are repeated in another
        return {"outcome": "refused", "message": stopped[-300:]}
    if code != 130 or "--resume auto" not in stopped:
        raise Lost(f"interrupted, and not how to go on: {stopped[-300:]}")
    printed = ended(0, *arguments, "--resume", "auto")
    asked = [text for texts in corpus.few() for text in texts]
    answers = [parse_json(line) for line in ended(0, "predict", out, "--json", "--", *asked).splitlines()]
    if len(answers) != len(corpus.few()):
        raise Lost(f"predict: {len(answers)} answers to {len(corpus.few())} texts")
    with ExitStack() as patched:
        if corpus.number % RENDERED:
            for place in ("analysis.report.svg_of", "analysis.style.svg_of"):
                patched.enter_context(patch(place, lambda _: b"<svg></svg>"))
        ended(0, "energy", out)
        ended(0, "report", out, "--out", folder / "report.html")
    ended(0, "export", out, "--format", "safetensors", "--out", folder / "weights.safetensors")
    if settings["backend"] != "dense" and settings["neuron"] in ("if", "lif"):
        ended(0, "export", out, "--format", "nir", "--out", folder / "network.nir")
    ended(0, "rerun", out, "--out", folder / "again")
    finite(folder)
    apart = 0.0 if drawn(settings) else difference_alone(out)
    if apart > (SPIKES if rates(settings) else LARGEST_DIFFERENCE[settings["precision"]]):
        raise Lost(f"a text alone and in a batch differ by {apart:g}")
    if silent_about_nothing(out, printed):
        raise Lost("no better than chance, and silent about it")
    result = read_json(out / "result.json")
    learnt = "no sign of learning" not in printed
    return {
        "outcome": "learnt" if learnt else "learnt nothing and said so",
        "validation_accuracy": result["validation_accuracy"],
        "test_accuracy": result["test_accuracy"],
        "difference_alone": apart,
    }


def zoo(corpora: int) -> Iterator[tuple[Corpus, dict[str, Any]]]:
    """Corpora with the settings of their runs, small ones before the large."""
    names = {field.name for field in fields(Corpus)}
    for number, row in enumerate([*covering(SETTINGS, corpora), *LARGE]):
        row = {"texts": 200 + 40 * (number % 6), **{name: values[0] for name, values in SETTINGS.items()}, **row}
        row["inputs"] = row.get("inputs", 1)
        yield Corpus(number, **{name: value for name, value in row.items() if name in names}), row


def main(
    corpora: int = 320, first: int = 0, json_file: Annotated[Path | None, tyro.conf.arg(aliases=["--json"])] = None
) -> None:
    """Take every corpus through every command.

    Args:
        corpora: How many, beside five large ones.
        first: Begin with this one.
        json_file: Where the outcomes go; those that it has are not repeated.
    """
    about = {"format": FORMAT, "command": command(), "environment": environment()}
    found: list[dict[str, Any]] = []
    if json_file is not None and json_file.exists():
        found = read_json(json_file)["corpora"]
    for corpus, settings in zoo(corpora):
        if corpus.number < first or any(settings.items() <= row.items() for row in found):
            continue
        started, row = time.perf_counter(), dict(settings)
        with tempfile.TemporaryDirectory() as folder:
            try:
                row |= {"lost": False, **visit(corpus, settings, Path(folder))}
            except Lost as lost:
                row |= {"lost": True, "outcome": str(lost)}
            except Exception as error:
                row |= {"lost": True, "outcome": f"{type(error).__name__}: {error}"}
                print(traceback.format_exc())
        row["seconds"] = round(time.perf_counter() - started, 1)
        found.append(row)
        print(corpus.number, "LOST" if row["lost"] else "held", json.dumps(row, ensure_ascii=False), flush=True)
        if json_file is not None:
            write_json(json_file, {**about, "corpora": found})
    lost = sum(row["lost"] for row in found)
    outcomes = Counter("lost" if row["lost"] else row["outcome"] for row in found)
    print(f"{len(found)} corpora in {sum(row['seconds'] for row in found) / 60:.1f} min: {dict(outcomes)}")
    if lost:
        raise SystemExit(1)


if __name__ == "__main__":
    tyro.cli(main)
