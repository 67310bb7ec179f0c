"""Weights of few bits: accuracy and energy of a trained network whose weights are quantised, nothing retrained.

python -m benchmarks.quantised RUN --json results/quantised.json

    q = round(w/Δ),  Δ = max|w| / (2^{b−1} − 1),  w ← Δ q

One Δ for each weight matrix, symmetric about 0; biases stay. On the validation split, by the run's own backend and by
dense EP with the settings of its preset; products in fp32, so that nothing but the weights is coarser.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from analysis.energy import part_of
from benchmarks.measure import JsonFile, command
from eqspike.build import config_of, make_backend
from eqspike_seq.checks.gradients import stages
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.learning.evaluation import as_dense, evaluate
from eqspike_seq.model.network import Network
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from neuromorphic.pricing import read_table

BITS = (None, 8, 6, 4, 3)
TABLES = ("horowitz-45nm-int8", "horowitz-45nm-fp16", "horowitz-45nm-fp32")


def quantised(weight: Tensor, bits: int) -> Tensor:
    """Δ round(w/Δ), of ``weight``'s shape; at most 2^b − 1 different values."""
    step = weight.abs().max() / (2 ** (bits - 1) - 1)
    return weight if step == 0 else step * (weight / step).round()


def coarser(network: Network, bits: int | None) -> Network:
    """The network with all its weights quantised; itself for None."""
    if bits is None:
        return network
    weights = [quantised(weight, bits) for weight in network.weights]
    return replace(network, asking=quantised(network.asking, bits), weights=weights, large=None)


@torch.no_grad()
def main(run: tyro.conf.Positional[Path], json_file: JsonFile) -> None:
    """Evaluate a run's network with coarser weights.

    Args:
        run: The folder of a spiking run.
        json_file: Where the figures go.
    """
    reporter = Reporter()
    config = config_of(run, precision="float32")
    data = load_dataset(config.data, reporter.status)
    stage, part = stages(config, data, run)[-1], data.validation
    rows: list[dict[str, Any]] = []
    for bits in BITS:
        for backend in (make_backend(config), as_dense(config)):
            found = evaluate(backend, coarser(stage.network, bits), stage.gather, part, config.learning.batch)
            rows.append(
                {
                    "bits": bits,
                    "backend": backend.name,
                    "validation_accuracy": found.accuracy,
                    "spikes_per_synapse": None if backend.name == "dense" else found.ledger.spikes_per_synapse(),
                    "steps": float(found.steps.mean()),
                    "converged": found.converged,
                    "joules": {name: part_of(found.ledger, read_table(name))["joules"] for name in TABLES},
                }
            )
            reporter.out.print(rows[-1])
    about = {"command": command(), "settings": config.computed(), "environment": environment(), "texts": len(part)}
    write_json(json_file, {"format": FORMAT, **about, "rows": rows})


if __name__ == "__main__":
    tyro.cli(main)
