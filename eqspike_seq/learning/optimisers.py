"""Optimisers by name, and what a step of each takes; a new one is one entry."""

import inspect
import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor

from eqspike_seq.devices.chip import Chip
from eqspike_seq.runs.weights import Rows

MEMORY = 0.99  # of the mean of squared gradients, a step


@dataclass(frozen=True)
class Optimizer:
    """``kind`` is torch's; ``kept`` what it keeps of each parameter, by its names there. A step reads ``reads`` words a
    parameter (weight, gradient, moments), writes ``writes``, and takes ``products`` and ``divisions``."""

    kind: type[torch.optim.Optimizer]
    kept: tuple[str, ...]
    reads: int
    writes: int
    products: int
    divisions: int


class NormalisedSGD(torch.optim.Optimizer):
    """Gradient descent whose steps are measured in root mean squares of each layer's own gradient:

        w ← w − η g/√v,   v the running mean of g² over all components of the layer's earlier gradients: one number

    Nothing is kept of a synapse but its weight. v is that of *earlier* batches, so that one pass over the weights both
    makes the step and measures the next one; of the first batch g² is measured and no step is made. (NovoGrad without
    its momentum: Ginsburg et al. 2019, arXiv 1905.11286.)
    """

    def __init__(self, groups: list[dict[str, object]], lr: float = 1e-3, fused: bool | None = None) -> None:
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of each layer along its ``grad``."""
        for group in self.param_groups:
            for weight in group["params"]:
                state, gradient = self.state[weight], weight.grad
                if not state:
                    state |= {"step": torch.zeros(()), "square": torch.zeros(())}
                size = running_size(float(state["square"]), int(state["step"]))
                if size > 0:
                    weight.add_(gradient, alpha=-group["lr"] / size)
                state["square"] += (1 - MEMORY) * (gradient.square().mean().cpu() - state["square"])
                state["step"] += 1


def running_size(square: float, steps: int) -> float:
    """√v of ``square``, which has followed g² from 0 for so many ``steps``; 0 before the first."""
    return math.sqrt(square / (1 - MEMORY**steps)) if steps else 0.0


OPTIMIZERS = {
    "adam": Optimizer(torch.optim.Adam, ("step", "exp_avg", "exp_avg_sq"), 4, 4, 6, 2),
    "sgd": Optimizer(torch.optim.SGD, (), 2, 2, 1, 0),
    "normalised-sgd": Optimizer(NormalisedSGD, ("step", "square"), 2, 2, 2, 0),
}


class RowDescent:
    """Gradient descent on those rows of a table that a batch touches:

        x ← x − η g/√v,   v the running mean of g² over all components of all rows touched: one number

    Nothing is kept of a row, and one that few texts have moves little. ``table`` (V + 1, D) is a copy of ``start``.
    ``touched`` (V + 1,) are the rows that have moved since they were last ``written``, ``moved`` since training began;
    ``kept`` rows are in files by now.
    """

    def __init__(self, start: Tensor) -> None:
        table = start.clone()
        self.start, self.table, self.square, self.steps, self.kept = start, table, 0.0, 0, 0
        self.touched, self.moved = (torch.zeros(len(table), dtype=torch.bool, device=table.device) for _ in range(2))

    def step(self, gradient: Tensor, rate: float, chip: Chip, number: int) -> None:
        """Step ``number``, of length ``rate``, along a sparse, coalesced ``gradient``, as ``chip`` takes it."""
        ids, values = gradient.indices()[0], gradient.values()
        if not values.numel():
            return
        self.steps += 1
        self.square += (1 - MEMORY) * (float(values.square().mean()) - self.square)
        size = running_size(self.square, self.steps)
        if size > 0:
            chip.add(self.table, ids, values, -rate / size, number)
        self.touched[ids] = self.moved[ids] = True

    def drift(self, chip: Chip) -> None:
        """Let time pass on ``chip``, if it drifts: all rows move."""
        if chip.model.drift is not None:
            chip.drift(self.table)
            self.touched[1:] = self.moved[1:] = True

    def rows(self) -> "Rows":
        """Those to write: the rows touched, or where files hold many twice all that have moved, in their place."""
        whole = self.kept + int(self.touched.sum()) > 2 * len(self.table)
        ids = (self.moved if whole else self.touched).nonzero().squeeze(1)
        return Rows(ids, self.table[ids], whole)

    def written(self, rows: "Rows") -> None:
        """``rows`` are in a file."""
        self.touched[rows.ids] = False
        self.kept = len(rows.ids) + (0 if rows.whole else self.kept)

    def restore(self, rows: "Rows | None") -> None:
        """Go on from the table that files hold: all of ``start`` but ``rows``."""
        moved = self.moved.nonzero().squeeze(1)
        self.table[moved], self.kept = self.start[moved], 0
        self.touched.zero_()
        self.moved.zero_()
        if rows is not None:
            self.table[rows.ids], self.moved[rows.ids], self.kept = rows.vectors.to(self.table), True, len(rows.ids)


def _known(name: str) -> str:
    if name not in OPTIMIZERS:
        raise ValueError(f"--optimizer: got {name!r}, expected one of {', '.join(OPTIMIZERS)}")
    return name


OptimizerName = Annotated[str, AfterValidator(_known)]


def make_optimizer(name: str, groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    """The optimiser of this name for torch's parameter groups.

    torch's own add_param_group would first import its compiler, which takes a second and is not used.
    """
    kind = OPTIMIZERS[name].kind
    light = {"add_param_group": inspect.unwrap(kind.add_param_group)}
    return type(kind.__name__, (kind,), light)(groups, fused=True)
