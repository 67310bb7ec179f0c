"""Run folders as reports see them: read whole, or named with what is wrong with them."""

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from analysis import forms
from eqspike_seq import files
from eqspike_seq.config.presets import as_saved
from eqspike_seq.config.settings import FORMAT, WHERE
from eqspike_seq.data.registry import pixels_of
from eqspike_seq.errors import ConfigError
from eqspike_seq.ledger import KINDS, Ledger
from eqspike_seq.phases import Phase

Json = dict[str, Any]
EVERY = ("aa", "ab", "ba", "bb")  # projections of pairs


@dataclass(frozen=True)
class Ledgers:
    """Of a run: on the test split, in training, and for a spiking run what dense EP takes for the same weights."""

    inference: Ledger
    training: Ledger
    dense: "Ledgers | None" = None

    def of(self, part: str) -> Ledger:
        """inference or training."""
        return self.training if part == "training" else self.inference


@dataclass(frozen=True)
class Run:
    """One run folder: ``settings`` from config.toml, ``result`` from result.json, ``metrics`` from metrics.jsonl."""

    path: Path
    settings: Json
    result: Json
    metrics: list[Json]

    @property
    def name(self) -> str:
        """Of the folder, bytes that are no text replaced."""
        return self.path.name.encode("utf-8", "replace").decode()

    @property
    def label(self) -> str:
        """What a legend calls it; the seed is left out."""
        result = self.result
        parts = [f"{result['backend']} EP", result["neuron"], result["rule"]]
        if result["circuit"] == "wta":
            parts.append("wta")
        if not result["attention"] and not pixels_of(result["dataset"]):
            parts.append("no HopAttn")
        kept = self.settings.get("projections", list(EVERY))
        parts += [f"without {name}" for name in EVERY if name not in kept]
        if self.settings.get("shuffle_words"):
            parts.append("words shuffled")
        return ", ".join(part for part in parts if part)

    @cached_property
    def ledgers(self) -> Ledgers:
        """ledger.json. Raises ConfigError where there is none to be priced."""
        found = read_json(self.path / "ledger.json")
        dense = found.get("dense")
        pair = None
        if dense is not None:
            pair = Ledgers(_ledger(self.path, dense, "inference"), _ledger(self.path, dense, "training"))
        return Ledgers(_ledger(self.path, found, "inference"), _ledger(self.path, found, "training"), pair)

    @cached_property
    def curves(self) -> Json:
        """curves.json. Raises ConfigError."""
        return read_json(self.path / "curves.json", forms.Curves)

    @cached_property
    def samples(self) -> dict[str, NDArray[Any]]:
        """samples.npz. Raises ConfigError."""
        path = self.path / "samples.npz"
        try:
            found = files.read_arrays(path)
            forms.check_samples(found)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from error
        return found

    @cached_property
    def predictions(self) -> dict[str, NDArray[Any]]:
        """Columns text_sha256, label, predicted of predictions.parquet, rows in split order. Raises ConfigError."""
        import pyarrow.parquet as pq

        path, names = self.path / "predictions.parquet", ["text_sha256", "label", "predicted"]
        try:
            if (rows := pq.read_metadata(path).num_rows) != self.result["n_test"]:
                raise ValueError(f"it has {rows} rows, expected {self.result['n_test']}")
            table = pq.read_table(path, columns=names)
            columns = {name: table[name].to_numpy() for name in names}
            if str(table["text_sha256"].type) != "string" or any(columns[n].dtype.kind != "i" for n in names[1:]):
                raise ValueError(f"got columns of {', '.join(str(table[name].type) for name in names)}")
            return columns
        except Exception as error:  # Arrow lets many kinds through
            raise ConfigError(f"{path}: cannot be read: {error}") from error

    def check(self, name: str) -> Json | None:
        """What ``eqspike check`` found in this run: gradients or convergence. Raises ConfigError."""
        path = self.path / "checks" / f"{name}.json"
        return read_json(path, forms.CHECKS[name]) if path.is_file() else None

    def has(self, name: str) -> bool:
        """Whether the folder holds this file: results that are kept for good leave out the large ones."""
        return (self.path / name).is_file()


def read_json(path: Path, form: type[forms.Form] = forms.Form) -> Json:
    """A JSON object of this form. Raises ConfigError."""
    try:
        found = files.read_json(path)
        forms.check(found, form)
    except FileNotFoundError as error:
        raise ConfigError(f"{path.parent}: it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return found


def open_run(path: Path) -> Run:
    """The run in a folder. Raises ConfigError, saying what is wrong with it."""
    try:
        result, settings = files.read_json(path / "result.json"), as_saved(files.read_toml(path / "config.toml"))
        metrics = files.read_json_lines(path / "metrics.jsonl")
        formats = [found.get("format") for found in (result, settings, *metrics)]
        newest = max((number for number in formats if isinstance(number, int)), default=FORMAT)
        if newest <= FORMAT:
            forms.check(result, forms.Result)
            forms.check(settings, forms.Settings)
            for line in metrics:
                forms.check(line, forms.Metrics)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no finished run (it has no {Path(error.filename).name})") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read, or is not a run of eqspike: {error}") from error
    if newest > FORMAT:
        raise ConfigError(f"{path}: format {newest}, written by a newer eqspike; this one reads {FORMAT}")
    ended = any("validation_accuracy" in line for line in metrics)
    if not result["complete"] or not ended or len({tuple(line["rates"]) for line in metrics}) > 1:
        raise ConfigError(f"{path}: the run has not ended; continue it with --resume")
    return Run(path, settings, result, metrics)


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
        same = {key: value for key, value in run.settings.items() if key not in WHERE and key != "seed"}
        found.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(run)
    return list(found.values())


def _ledger(path: Path, found: Json, part: str) -> Ledger:
    """One ledger of ledger.json, all kinds there. Raises ConfigError."""
    place = f"{path / 'ledger.json'}: the {part} ledger"
    try:
        forms.check(found.get(part) or {}, forms.LedgerFile)
    except ValueError as error:
        raise ConfigError(f"{place}, {error}. Train the run again with this version.") from error
    ledger = Ledger(**{name: found[part][name] for name in forms.LedgerFile.model_fields})
    rows = [kinds for phases in ledger.counts.values() for kinds in phases.values()]
    if not ledger.samples.get(Phase.FREE) or any(set(kinds) != set(KINDS) for kinds in rows):
        raise ConfigError(f"{place} lacks kinds of events or texts. Train the run again with this version.")
    return ledger
