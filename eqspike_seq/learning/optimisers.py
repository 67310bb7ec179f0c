"""Optimisers by name, and what a step of each takes; a new one is one entry."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator


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


OPTIMIZERS = {
    "adam": Optimizer(torch.optim.Adam, ("step", "exp_avg", "exp_avg_sq"), 4, 4, 6, 2),
    "sgd": Optimizer(torch.optim.SGD, (), 2, 2, 1, 0),
}


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
