"""What ``eqspike rerun`` shows: whether two run folders hold the same, bit for bit, and where they first differ."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from eqspike_seq.data.tables import ROWS_AT_ONCE
from eqspike_seq.errors import RunError
from eqspike_seq.files import read_arrays, read_json, read_json_lines, read_tensors
from eqspike_seq.runs.weights import read_rows, row_files

LEARNT = "checkpoint/rows-*.safetensors"  # several files, of which later ones hold for a row
COMPARED = {
    "result.json": "accuracies, spikes",
    "metrics.jsonl": "what was written while it trained",
    "ledger.json": "events",
    "curves.json": "accuracy over steps",
    "predictions.parquet": "labels, answers, rates",
    "samples.npz": "16 texts, step by step",
    "checkpoint/model.safetensors": "weights",
    LEARNT: "vectors of patterns that have been learnt",
}
OWN = {"seconds", "train_seconds", "test_seconds", "peak_memory_bytes", "measured_joules"}  # each run has its own
LARGEST_TABLE = 1_000_000_000  # bytes; a million answers take a tenth
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Comparison:
    """One file of both folders: how many ``values`` it holds, how many ``differ``, and the ``first`` of these."""

    file: str
    values: int
    differ: int
    first: str


def report(before: Path, after: Path, changed: list[str]) -> int:
    """Print what was compared and what differs; the exit code: 0 where nothing does, else 1. Raises RunError."""
    found = {name: compare(name, before, after) for name in COMPARED}
    kept = [row for row in found.values() if row is not None]
    shown = Table(box=None, pad_edge=False)
    for heading, side in (("file", "left"), ("what", "left"), ("values", "right"), ("", "left")):
        shown.add_column(heading, justify=side, overflow="fold")  # type: ignore[arg-type]
    for name, row in found.items():
        if row is None:
            shown.add_row(name, COMPARED[name], "–", f"not in {before.name}")
        else:
            said = f"{row.differ:,} differ, first {row.first}" if row.differ else "the same"
            shown.add_row(name, COMPARED[name], f"{row.values:,}", said)
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(shown, "")
    differing = [row.file for row in kept if row.differ]
    if differing:
        lines = [f"Not matched: {', '.join(differing)} of {after} differ from {before}."]
        lines += changed or ["Versions, machine, threads and data are as they were."]
    else:
        total = sum(row.values for row in kept)
        lines = [f"Matched: {after} holds the same {total:,} values as {before}, bit for bit."]
    console.print("\n".join(lines), soft_wrap=True)
    return 1 if differing else 0


def compare(name: str, before: Path, after: Path) -> Comparison | None:
    """One file of both folders; None where the first has not kept it."""
    if not any(before.glob(name)):
        return None
    mine, theirs = ((learnt if name == LEARNT else values)(folder / name) for folder in (before, after))
    total, differ, first = 0, 0, ""
    for key in dict.fromkeys([*mine, *theirs]):
        was, now = mine.get(key), theirs.get(key)
        size = max(array.size for array in (was, now) if array is not None)
        total += size
        if was is None or now is None or was.shape != now.shape or was.dtype.kind != now.dtype.kind:
            differ += size
            first = first or f"{key}: was {_form(was)}, is {_form(now)}"
            continue
        places = np.flatnonzero(_bits(was) != _bits(now))
        differ += len(places)
        if len(places) and not first:
            index = [int(i) for i in np.unravel_index(places[0], was.shape)]
            first = f"{key}{index or ''}: was {was.flat[places[0]]}, is {now.flat[places[0]]}"
    return Comparison(name, total, differ, first)


def values(path: Path) -> Arrays:
    """All that a file holds, by name, less what each run has of its own. Raises RunError where it cannot be read."""
    try:
        if path.suffix == ".safetensors":
            return {name: tensor.numpy() for name, tensor in read_tensors(path).items()}
        if path.suffix == ".npz":
            return read_arrays(path)
        if path.suffix == ".parquet":
            return _columns(path)
        if path.suffix == ".jsonl":
            named = [(f"step {line['step']}", line) for line in read_json_lines(path)]
        else:
            named = [("", read_json(path))]
        return {name: np.array(json.dumps(value)) for start, line in named for name, value in _leaves(start, line)}
    except Exception as error:  # each format has its own
        raise RunError(f"{path} cannot be read, so it cannot be compared: {error}") from error


def learnt(path: Path) -> Arrays:
    """The rows of the table of patterns that ``LEARNT`` files hold. Raises RunError where they cannot be read."""
    try:
        rows = read_rows(row_files(path.parent))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read, so it cannot be compared: {error}") from error
    return {} if rows is None else {"ids": rows.ids.numpy(), "vectors": rows.vectors.numpy()}


def _columns(path: Path) -> Arrays:
    """The columns of a Parquet file. Raises ValueError where it unpacks to more than ``LARGEST_TABLE``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    batches, size = [], 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE):
            batches.append(batch)
            size += batch.nbytes
            if size > LARGEST_TABLE:
                raise ValueError(f"it unpacks to over {LARGEST_TABLE:,} bytes")
        table = pa.Table.from_batches(batches, file.schema_arrow)
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The numbers and texts within JSON, each by the keys that lead to it."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if key not in OWN:
                yield from _leaves(f"{name} {key}".strip(), inner)
    else:
        yield name, value


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    """The values, flat, numbers as their bits: NaN is NaN, and 0 is not −0."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat if flat.dtype.kind == "U" else flat.view(f"u{flat.itemsize}")


def _form(array: NDArray[Any] | None) -> str:
    return "absent" if array is None else f"{array.dtype.name} {array.shape}"
