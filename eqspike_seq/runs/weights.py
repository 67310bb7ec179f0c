"""The weights of a run folder."""

from pathlib import Path

import torch
from torch import Tensor

from eqspike_seq.errors import RunError
from eqspike_seq.files import read_tensors
from eqspike_seq.model.network import LARGEST_WEIGHT, Network, Shape


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
    layers = range(2, len(shape.sizes) + 1)
    weights, biases = ([saved[f"{kind}{index}"].float() for index in layers] for kind in "wb")
    return Network(shape, saved.get("w1", torch.zeros(0, shape.dim, shape.dim)).float(), weights, biases)
