"""Run folders as reports see them: read whole, or named with what is wrong with them."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from eqspike_seq import files
from eqspike_seq.config.presets import flattened
from eqspike_seq.config.settings import FORMAT, WHERE
from eqspike_seq.data.registry import pixels_of
from eqspike_seq.errors import ConfigError, RunError
from eqspike_seq.runs.archive import opened
from eqspike_seq.runs.findings import ConvergenceCheck, GradientCheck
from eqspike_seq.runs.samples import check_samples
from eqspike_seq.runs.schema import Amount, Curves, LedgerFile, Metrics, Positive, Result, Schema

Json = dict[str, Any]
EVERY = ("aa", "ab", "ba", "bb")  # projections of a pair in the paper's network
LEARNT = {"pooling": "pooling", "token-layer": "token layer"}  # networks that learn their words, in a legend
TASK = ("dataset", "network", "attention", "masked", "tokens", "ngrams", "keep", "estimator", "limit", "shuffle_words")
VARIANTS = (  # of networks that learn their words: (setting, value, what a legend says of it)
    ("fixed_embeddings", True, "fixed vectors"),
    ("uniform_attention", True, "uniform attention"),
    ("readout", "softmax", "softmax readout"),
    ("naive_bayes", 0.0, "no naive-Bayes start"),
    ("ngrams", 1, "single words"),
    ("projections", ["ab", "ba"], "both directions"),
)
Read = TypeVar("Read")


class Settings(Schema):
    """config.toml, as far as reports show its settings."""

    dataset: str
    tokens: Positive | None = None
    beta: Amount
    learning_rate: list[Amount]
    free_steps: Positive
    nudge_steps: Positive
    batch: Positive
    epochs: Amount
    device: str


@dataclass(frozen=True)
class Run:
    """One run folder: ``saved`` is config.toml, ``result`` result.json, ``metrics`` metrics.jsonl.

    Other modules read settings through ``settings``, ``task`` and ``words_shuffled``, so that none knows how they are
    saved.
    """

    path: Path
    saved: Json
    result: Result
    metrics: list[Metrics]

    @cached_property
    def settings(self) -> Settings:
        """The settings that reports show."""
        return Settings.read(self.saved)

    @property
    def task(self) -> Json:
        """What another run has to share for its energy to be compared."""
        found = {name: self.saved.get(name) for name in TASK}
        return found | {"network": found["network"] or "tokens"}  # before there were others

    @property
    def words_shuffled(self) -> bool:
        """Whether each text's words were in random order."""
        return bool(self.saved.get("shuffle_words"))

    @property
    def same_but_seed(self) -> str:
        """Equal for two runs that differ in nothing but the seed, and where and how they ran."""
        same = {name: value for name, value in self.saved.items() if name not in WHERE and name != "seed"}
        return json.dumps(same, sort_keys=True, default=str)

    @property
    def name(self) -> str:
        """Of the folder, bytes that are no text replaced."""
        return self.path.name.encode("utf-8", "replace").decode()

    @property
    def label(self) -> str:
        """What a legend calls it; the seed is left out."""
        result = self.result
        kind = "backpropagation" if self.saved.get("estimator") == "bptt" else f"{result.backend} EP"
        parts = [kind, result.neuron, result.rule]
        network = self.saved.get("network", "tokens")
        if network in LEARNT:
            parts += [LEARNT[network], *(said for name, value, said in VARIANTS if self.saved.get(name) == value)]
        if result.circuit == "wta":
            parts.append("wta")
        if not result.attention and not pixels_of(result.dataset):
            parts.append("no HopAttn")
        if network not in LEARNT and "projections" in self.saved:
            parts += [f"without {name}" for name in EVERY if name not in self.saved["projections"]]
        if self.words_shuffled:
            parts.append("words shuffled")
        return ", ".join(part for part in parts if part)

    @cached_property
    def ledgers(self) -> LedgerFile:
        """ledger.json. Raises ConfigError where there is none to be priced."""
        return read(self.path / "ledger.json", LedgerFile.read, ". Train the run again with this version.")

    @cached_property
    def curves(self) -> Curves:
        """curves.json. Raises ConfigError."""
        return read(self.path / "curves.json", Curves.read)

    @cached_property
    def samples(self) -> dict[str, NDArray[Any]]:
        """samples.npz. Raises ConfigError."""
        path = self.path / "samples.npz"
        try:
            found = files.read_arrays(path)
            check_samples(found)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from error
        return found

    @cached_property
    def predictions(self) -> dict[str, NDArray[Any]]:
        """Columns text_sha256, label, predicted of predictions.parquet, rows in split order. Raises ConfigError."""
        import pyarrow.parquet as pq

        path, names = self.path / "predictions.parquet", ["text_sha256", "label", "predicted"]
        try:
            if (rows := pq.read_metadata(path).num_rows) != self.result.n_test:
                raise ValueError(f"it has {rows} rows, expected {self.result.n_test}")
            table = pq.read_table(path, columns=names)
            columns = {name: table[name].to_numpy() for name in names}
            if str(table["text_sha256"].type) != "string" or any(columns[n].dtype.kind != "i" for n in names[1:]):
                raise ValueError(f"got columns of {', '.join(str(table[name].type) for name in names)}")
            return columns
        except Exception as error:  # Arrow lets many kinds through
            raise ConfigError(f"{path}: cannot be read: {error}") from error

    @property
    def gradient_check(self) -> GradientCheck | None:
        """What ``eqspike check gradients`` found in this run, if anything. Raises ConfigError."""
        return read(path, GradientCheck.read) if (path := self.path / "checks/gradients.json").is_file() else None

    @property
    def convergence_check(self) -> ConvergenceCheck | None:
        """What ``eqspike check convergence`` found in this run, if anything. Raises ConfigError."""
        return read(path, ConvergenceCheck.read) if (path := self.path / "checks/convergence.json").is_file() else None

    def has(self, name: str) -> bool:
        """Whether the folder holds this file: results that are kept for good leave out the large ones."""
        return (self.path / name).is_file()


def read(path: Path, schema: Callable[[Json], Read], remedy: str = "") -> Read:
    """A JSON file, as ``schema`` reads its content. Raises ConfigError, which ends with the ``remedy``."""
    try:
        return schema(files.read_json(path))
    except FileNotFoundError as error:
        raise ConfigError(f"{path.parent}: it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}{remedy}") from error


def check_format(path: Path, number: Any) -> None:
    """Raises ConfigError for a file of a run folder that another version has written."""
    if isinstance(number, int) and number != FORMAT:
        age = "a newer" if number > FORMAT else "an older"
        remedy = "Update eqspike." if number > FORMAT else "Train the run again with this version."
        raise ConfigError(f"{path}: format {number}, written by {age} eqspike; this one reads {FORMAT}. {remedy}")


def open_run(path: Path) -> Run:
    """The run of a folder, of a zip of one, or of a model's name. Raises ConfigError, saying what is wrong with it."""
    try:
        path = opened(path)
        result, tables = files.read_json(path / "result.json"), files.read_toml(path / "config.toml")
        metrics = files.read_json_lines(path / "metrics.jsonl")
        for found in (tables, result, *metrics):
            check_format(path, found.get("format"))
        settings = {name: value for name, value in flattened(tables).items() if name != "format"}
        run = Run(path, settings, Result.read(result), [Metrics.read(line) for line in metrics])
        Settings.read(settings)
    except ConfigError:
        raise
    except RunError as error:
        raise ConfigError(str(error)) from error
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no finished run (it has no {Path(error.filename).name})") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read, or is not a run of eqspike: {error}") from error
    ended = any(line.validation_accuracy is not None for line in run.metrics)
    if not run.result.complete or not ended or len({tuple(line.rates) for line in run.metrics}) > 1:
        raise ConfigError(f"{path}: the run has not ended; continue it with --resume")
    return run


def open_runs(paths: list[Path]) -> tuple[list[Run], list[str]]:
    """(runs, why each other folder was left out)."""
    runs, left_out = [], []
    for path in paths:
        try:
            runs.append(open_run(path))
        except ConfigError as error:
            left_out.append(str(error))
    return runs, left_out


def finished_runs(paths: list[Path], command: str) -> tuple[list[Run], list[str]]:
    """As ``open_runs``, for a command: what is left out is said. Raises ConfigError where no run is left."""
    runs, left_out = open_runs(paths)
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    if not runs:
        raise ConfigError(f"{command}: none of the folders given holds a finished run")
    return runs, left_out


def groups(runs: list[Run]) -> list[list[Run]]:
    """Runs that differ in their seed alone, together."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.same_but_seed, []).append(run)
    return list(found.values())
