"""EP against BPTT in every parameter of the ``cpu`` network on real reviews: β = 0.01, converged, float64.

python -m benchmarks.gradients imdb --json-file results/imdb-gradients.json
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from eqspike_seq.config import from_preset
from eqspike_seq.data.dataset import Batches, load_dataset
from eqspike_seq.dynamics import DenseBackend
from eqspike_seq.learning import BPTT, ThreePhase
from eqspike_seq.network import Network, Shape
from eqspike_seq.progress import Reporter
from eqspike_seq.runs import environment

BETA, TEXTS = 0.01, 16


@torch.no_grad()
def main(
    dataset: tyro.conf.Positional[Literal["imdb", "mini"]], json_file: Path, seed: int = 0, data_dir: Path | None = None
) -> None:
    """Compare the two gradients at initialisation.

    Args:
        dataset: imdb or mini.
        json_file: Where the figures go.
        seed: Seed of the weights.
        data_dir: Where the data lies.
    """
    reporter = Reporter()
    config = from_preset(dataset, "dense", data_dir=data_dir)
    data = load_dataset(config, reporter.status)
    gather = Batches(torch.from_numpy(data.embeddings.table).double(), config.tokens, config.keep)
    batch = gather(data.train, np.random.default_rng(seed).permutation(len(data.train))[:TEXTS])
    shape = Shape(config.tokens, data.embeddings.dim, config.hidden, len(data.classes))
    network = Network.create(shape, torch.Generator().manual_seed(seed)).to(torch.float64)
    backend = DenseBackend(free_steps=200, nudge_steps=200, tolerance=1e-12, dtype=torch.float64)
    truth = BPTT(steps=60, order="alternating")(backend, network, batch).gradients
    estimate = ThreePhase(BETA)(backend, network, batch)
    records: list[dict[str, Any]] = []
    for name, value in truth.items():
        if not value.any():
            records.append({"parameter": name, "cosine": None, "relative_rmse": None})
            continue
        found = estimate.gradients[name]
        records.append(
            {
                "parameter": name,
                "cosine": float(torch.cosine_similarity(found.flatten(), value.flatten(), 0)),
                "relative_rmse": float((found - value).norm() / value.norm()),
            }
        )
    result: dict[str, Any] = {
        "format": 1,
        "dataset": dataset,
        "texts": TEXTS,
        "beta": BETA,
        "seed": seed,
        "free_residual": float(estimate.equilibria[0].residual.max()),
        "environment": environment(),
        "records": records,
    }
    json_file.write_text(json.dumps(result, indent=2) + "\n")
    for record in records:
        reporter.out.print(record)


if __name__ == "__main__":
    tyro.cli(main)
