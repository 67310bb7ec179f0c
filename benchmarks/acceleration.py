"""What else could save sweeps of the dense free phase, on a trained network: counted, not timed.

python -m benchmarks.acceleration RUN --json results/acceleration.json

A sweep is a map of the layers above s¹ onto themselves, z ← g(z). *Anderson* mixes the last m + 1 values of g so that
their residuals g(z) − z cancel in the least squares; *warm* starts from where the same text ended in an earlier epoch,
here with the weights of half the training, and other words left out; *rounds* is how often a sweep goes round the
layers above s¹, of which ours is ``stack.ROUNDS``. Each stops where no unit moves by more than the tolerance.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.measure import JsonFile, command
from eqspike.build import config_of
from eqspike_seq.checks.gradients import stages
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, State
from eqspike_seq.model.projection import DenseProjection
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation import stack
from eqspike_seq.relaxation.dense import sweep
from eqspike_seq.runs.environment import environment

TOLERANCES = (1e-2, 1e-4)


@torch.no_grad()
def main(run: tyro.conf.Positional[Path], json_file: JsonFile) -> None:
    """Count the sweeps of one batch.

    Args:
        run: The folder of a finished dense imdb run, with its checkpoint.
        json_file: Where the figures go.
    """
    reporter = Reporter()
    config = config_of(run)
    dataset = load_dataset(config.data, reporter.status)
    by_name = {stage.name: stage.network for stage in stages(config, dataset, run)}
    rows = np.random.default_rng(config.run.seed).permutation(len(dataset.train))[: config.learning.batch]
    gather = Batches.of(config, dataset)
    rngs = (np.random.default_rng(k) for k in (1, 0))
    now, before = (gather.lookup(dataset.train, rows, config.learning.word_dropout, rng).whole() for rng in rngs)
    network, rest = by_name["end"], by_name["end"].rest(len(rows)).layers
    found: dict[str, Any] = {}
    for tolerance in TOLERANCES:
        _, earlier = sweeps(by_name["halfway"], before, rest, tolerance, 0)
        row = {f"rounds {number}": mean_sweeps(network, now, rest, tolerance, 0, number) for number in (1, 2, 3, 5)}
        row |= {f"Anderson {depth}": mean_sweeps(network, now, rest, tolerance, depth) for depth in (1, 2, 3)}
        row["warm start"] = mean_sweeps(network, now, earlier, tolerance, 0)
        found[f"tolerance {tolerance:g}"] = row
        for name, count in row.items():
            reporter.out.print(f"tolerance {tolerance:g}, {name:12} {count:.2f} sweeps a text")
    about = {"command": command(), "environment": environment(), "settings": config.computed()}
    write_json(json_file, {"format": FORMAT, **about, "mean_sweeps": found})


def mean_sweeps(
    network: Network, batch: Batch, start: tuple[Tensor, ...], tolerance: float, depth: int, rounds: int = 0
) -> float:
    """Sweeps a text, with so many rounds each (0: ours)."""
    with patch.object(stack, "ROUNDS", rounds or stack.ROUNDS):
        return float(sweeps(network, batch, start, tolerance, depth)[0].double().mean())


def sweeps(
    network: Network, batch: Batch, start: tuple[Tensor, ...], tolerance: float, depth: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(sweeps until each text has converged (B,), its layers then)."""
    projection = DenseProjection.of(network, batch, network.dtype)
    sizes = [layer.shape[1] for layer in start]

    def g(z: Tensor) -> Tensor:
        state = State(projection.inputs.drive, tuple(z.split(sizes, 1)))
        return torch.cat(sweep(projection, state).layers, 1)

    z = torch.cat(start, 1)
    final, taken, going = z.clone(), torch.zeros(len(z), dtype=torch.int64), torch.ones(len(z), dtype=torch.bool)
    step = anderson(g, depth)
    for _ in range(50):
        new, mixed = step(z)
        taken += going
        ended = going & ((new - z).abs().amax(1) <= tolerance)
        final[going] = new[going]
        going &= ~ended
        if not going.any():
            break
        z = mixed
    return taken, final.split(sizes, 1)


def anderson(g: Callable[[Tensor], Tensor], depth: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """z → (g(z), the next z): with ``depth`` 0 the same; clipped to [0, 1]. Walker & Ni (2011), each text by itself."""
    past: list[tuple[Tensor, Tensor]] = []  # (g, residual), (B, units) each

    def step(z: Tensor) -> tuple[Tensor, Tensor]:
        new = g(z)
        past.append((new, new - z))
        del past[: -(depth + 1)]
        if len(past) < 2:
            return new, new
        residual = past[-1][1]
        moves = torch.stack([residual - old for _, old in past[:-1]], 2)  # (B, units, m)
        images = torch.stack([new - old for old, _ in past[:-1]], 2)
        gram = moves.mT @ moves
        damping = 1e-6 * gram.diagonal(dim1=1, dim2=2).sum(1) + 1e-9  # a text at rest has no moves left
        gram += damping[:, None, None] * torch.eye(gram.shape[1])
        weights = torch.linalg.solve(gram, moves.mT @ residual.unsqueeze(2))
        return new, (new - (images @ weights).squeeze(2)).clamp(0, 1)

    return step


if __name__ == "__main__":
    tyro.cli(main)
