"""How near spikes come to HopAttn: its error against the spikes spent, for each way of drawing winners.

python -m benchmarks.winners imdb --json results/winners.json

On queries of real texts at initialisation. Besides the samplers of ``neuromorphic.attention.winners`` it tries units
that know no normaliser: exponential integrate-and-fire, each step unit j fires with probability min(1, exp(a_j − I)),
where the shared inhibition I rises by ``GAIN`` for each spike above one a step and falls by as much for each one
missing; the patterns of all spikes are added up and divided by their number.
"""

from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.measure import JsonFile
from eqspike.build import configure
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.batches import random_batch
from eqspike_seq.data.dataset import load_dataset, shape_of
from eqspike_seq.files import write_json
from eqspike_seq.model.attention import key_bias
from eqspike_seq.model.projection import prepare
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from neuromorphic.attention.winners import SAMPLERS, pattern_sum

WINNERS = (4, 8, 16, 32, 64, 128, 256)
TEXTS = 16
GAIN = 0.2


def without_normaliser(
    scores: Tensor, patterns: Tensor, steps: int, generator: torch.Generator
) -> tuple[Tensor, float]:
    """(mean pattern of all spikes (…, R, D), mean number of spikes of a row) after ``steps`` steps."""
    inhibition = scores.amax(-1, keepdim=True)
    counts = torch.zeros_like(scores)
    for _ in range(steps):
        fired = (torch.rand(scores.shape, generator=generator) < (scores - inhibition).exp()).to(scores.dtype)
        counts += fired
        inhibition = inhibition + GAIN * (fired.sum(-1, keepdim=True) - 1)
    total = counts.sum(-1, keepdim=True)
    return (counts @ patterns) / total.clamp(min=1), float(total.mean())


@torch.no_grad()
def main(dataset: tyro.conf.Positional[Literal["imdb", "mini"]], json_file: JsonFile, seed: int = 0) -> None:
    """Relative error of each estimate over the rows of real tokens.

    Args:
        dataset: imdb or mini.
        json_file: Where the figures go.
        seed: Seed of the weights and of all draws.
    """
    config = configure(dataset, "spiking", seed=seed)
    data = load_dataset(config.data, Reporter().status)
    batch = random_batch(config, data, TEXTS)
    network = config.network.create(shape_of(config, data), seed)
    inputs = prepare(network, batch, torch.float32)
    bias, real = key_bias(batch.mask, torch.float32), batch.mask.unsqueeze(-1)
    scores = inputs.drive @ inputs.patterns.mT / inputs.patterns.shape[-1] ** 0.5 + bias
    p = scores.softmax(-1)
    exact = (p @ inputs.patterns) * real
    generator = torch.Generator().manual_seed(seed)

    def error(estimate: Tensor) -> float:
        return float(((estimate * real) - exact).norm() / exact.norm())

    rows: list[dict[str, Any]] = []
    for winners in WINNERS:
        u = torch.rand(*p.shape[:3], winners, generator=generator)
        for name in SAMPLERS:
            found = pattern_sum(name, winners, inputs.drive, inputs.patterns, bias, u) / winners
            rows.append({"sampler": name, "spikes_per_row": winners, "relative_error": error(found)})
        found, spikes = without_normaliser(scores, inputs.patterns, winners, generator)
        rows.append({"sampler": "no normaliser", "spikes_per_row": spikes, "relative_error": error(found)})
    laws = {}
    for name in dict.fromkeys(row["sampler"] for row in rows):
        mine = [row for row in rows if row["sampler"] == name]
        spent, missed = (np.log([row[key] for row in mine]) for key in ("spikes_per_row", "relative_error"))
        laws[name] = float(np.polyfit(spent, missed, 1)[0])
    about = {"dataset": dataset, "seed": seed, "texts": TEXTS, "environment": environment()}
    write_json(json_file, {"format": FORMAT, **about, "slopes": laws, "rows": rows})
    Reporter().out.print(laws, rows)


if __name__ == "__main__":
    tyro.cli(main)
