"""The weights of a run folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eqspike_seq.errors import RunError
from eqspike_seq.files import read_tensors
from eqspike_seq.model.network import LARGEST_WEIGHT, Network, Shape

WEIGHTS, VECTORS = "checkpoint/model.safetensors", "vectors.safetensors"  # of a run folder


@dataclass(frozen=True)
class Rows:
    """Vectors (M, D) of the rows ``ids`` (M,) of a table; ``whole``: these are all that differ from how it began."""

    ids: Tensor
    vectors: Tensor
    whole: bool = True


def read_weights(path: Path) -> dict[str, Tensor]:
    """What a ``model.safetensors`` holds, by name. Raises RunError."""
    try:
        saved = read_tensors(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}). Repeat the run.") from error
    for name, tensor in saved.items():
        if (largest := float(tensor.abs().max())) > LARGEST_WEIGHT:
            raise RunError(
                f"{path}: {name} reaches {largest:.2g}, expected at most {LARGEST_WEIGHT:g}. Repeat the run."
            )
    return saved


def network_of(shape: Shape, path: Path) -> Network:
    """The network whose weights ``path`` holds. Raises RunError where they are not of this shape."""
    saved = read_weights(path)
    for name, size in shape.parameters.items():
        if name not in saved or saved[name].shape != size:
            raise RunError(f"{path}: parameter {name} is missing or not of shape {size}")
    return Network.of(shape, {name: saved[name].float() for name in shape.parameters})


def start_from(run: Path, parameters: Mapping[str, Tensor]) -> None:
    """Let ``parameters`` be the weights of a run folder, its own copies for feedback where it has some, else its
    weights. Raises RunError where they are of another network."""
    saved = read_weights(run / WEIGHTS)
    for name, tensor in parameters.items():
        found = saved.get(name, saved.get(name.replace("v", "w")))
        if found is None or found.shape != tensor.shape:
            got = "missing" if found is None else f"of shape {tuple(found.shape)}"
            raise RunError(f"--start: {name} is {got} in {run}, expected {tuple(tensor.shape)}. Name another run.")
        tensor.copy_(found)


def row_files(checkpoint: Path) -> list[Path]:
    """The files with rows of learnt patterns, those written first before others."""
    return sorted(checkpoint.glob("rows-*.safetensors"))


def read_rows(files: list[Path]) -> Rows | None:
    """The rows of ``files``, of one that is in several the last; None without a file. Raises OSError, ValueError."""
    found: list[Rows] = []
    for path in files:
        tensors = read_tensors(path)
        if set(tensors) != {"ids", "vectors"}:
            raise ValueError(f"{path.name} has {', '.join(tensors)}, expected ids and vectors")
        found.append(Rows(tensors["ids"], tensors["vectors"]))
    return _latest(found) if found else None


def _latest(parts: list[Rows]) -> Rows:
    if len({part.vectors.shape[1:] for part in parts}) > 1:
        raise ValueError("rows of vectors of different sizes")
    ids = torch.cat([part.ids for part in parts])
    vectors = torch.cat([part.vectors for part in parts])
    if len(parts) == 1:
        return Rows(ids, vectors)
    unique, inverse = torch.unique(ids, return_inverse=True)
    last = torch.zeros(len(unique), dtype=torch.int64).scatter_reduce(0, inverse, torch.arange(len(ids)), "amax")
    return Rows(unique, vectors[last])


def read_table(run: Path, model: Path) -> Tensor:
    """The vectors of a run's words or patterns (V + 1, D): those it began with, and those that it had learnt when the
    weights in the file ``model`` were written. At 8 bits a component is its ``scale`` (D,) times a whole number.
    Raises RunError."""
    found = read_weights(run / VECTORS)
    try:
        table = found["vectors"].float()
        if "scale" in found:
            table *= found["scale"]
        rows, saved = read_rows(row_files(model.parent)), read_tensors(model)
        if "X" in saved:  # halfway
            rows = Rows(saved["X.ids"], saved["X"])
        if rows is not None:
            table[rows.ids] = rows.vectors.float()
    except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise RunError(f"{run}: the vectors it has learnt cannot be read ({error}). Repeat the run.") from error
    return table
