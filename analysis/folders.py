"""Run folders as reports see them: read whole, or named with what is wrong with them."""

import json
import sys
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from eqspike_seq.config import FORMAT, IMAGES, WHERE
from eqspike_seq.errors import ConfigError
from eqspike_seq.ledger import KINDS, Ledger

Json = dict[str, Any]
EVERY = ("aa", "ab", "ba", "bb")  # projections of pairs
NEEDED = ("dataset", "backend", "seed", "test_accuracy", "validation_accuracy", "train_seconds", "n_test", "complete")


class _LedgerFile(BaseModel):
    model_config = ConfigDict(strict=True)
    counts: dict[str, dict[str, dict[str, NonNegativeInt]]]
    samples: dict[str, NonNegativeInt]
    steps: dict[str, NonNegativeInt]
    synapses: dict[str, NonNegativeInt]
    sizes: list[NonNegativeInt]


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
        """Of the folder."""
        return self.path.name

    @property
    def label(self) -> str:
        """What a legend calls it; the seed is left out."""
        result = self.result
        parts = [f"{result['backend']} EP", result["neuron"], result["rule"]]
        if result["circuit"] == "wta":
            parts.append("wta")
        if not result["attention"] and result["dataset"] not in IMAGES:
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
        """curves.json."""
        return read_json(self.path / "curves.json")

    @cached_property
    def samples(self) -> dict[str, NDArray[Any]]:
        """samples.npz."""
        with np.load(self.path / "samples.npz", allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    @cached_property
    def predictions(self) -> dict[str, NDArray[Any]]:
        """Columns text_sha256, label, predicted of predictions.parquet, rows in the split's order."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.path / "predictions.parquet", columns=["text_sha256", "label", "predicted"])
        return {name: table[name].to_numpy() for name in table.column_names}

    def check(self, name: str) -> Json | None:
        """What ``eqspike check`` found in this run: gradients or convergence."""
        return read_json(self.path / "checks" / f"{name}.json") if self.has(f"checks/{name}.json") else None

    def has(self, name: str) -> bool:
        """Whether the folder holds this file: results that are kept for good leave out the large ones."""
        return (self.path / name).is_file()


def read_json(path: Path) -> Json:
    """A JSON object. Raises ConfigError."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"{path.parent}: it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: got {type(found).__name__}, expected an object")
    return found


def open_run(path: Path) -> Run:
    """The run in a folder. Raises ConfigError, saying what is wrong with it."""
    try:
        result = json.loads((path / "result.json").read_text())
        settings = tomllib.loads((path / "config.toml").read_text())
        metrics = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no finished run (it has no {Path(error.filename).name})") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(result, dict) or (missing := [key for key in NEEDED if key not in result]):
        lacking = f" (result.json has no {', '.join(missing)})" if isinstance(result, dict) else ""
        raise ConfigError(f"{path}: not a run of eqspike{lacking}")
    newest = max(part.get("format", 1) for part in (result, settings, *metrics))
    if newest > FORMAT:
        raise ConfigError(f"{path}: format {newest}, written by a newer eqspike; this one reads {FORMAT}")
    if not result["complete"] or not metrics:
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
        raise ConfigError(f"{command}: none of the {len(paths)} folders holds a finished run")
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
        ledger = Ledger(**_LedgerFile.model_validate(found.get(part)).model_dump())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "all of it"
        raise ConfigError(f"{place}, {where}: {first['msg']}. Train the run again with this version.") from error
    rows = [kinds for phases in ledger.counts.values() for kinds in phases.values()]
    if not ledger.samples.get("free") or any(set(kinds) != set(KINDS) for kinds in rows):
        raise ConfigError(f"{place} lacks kinds of events or texts. Train the run again with this version.")
    return ledger
