"""EP against BPTT in every parameter of the ``paper-small`` network on real reviews: β = 0.01, converged, float64.

python -m benchmarks.gradients imdb --json results/imdb-gradients.json
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from benchmarks.measure import JsonFile
from eqspike.build import configure
from eqspike_seq.checks.gradients import compare
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.batches import random_batch
from eqspike_seq.data.dataset import load_dataset, shape_of
from eqspike_seq.files import write_json
from eqspike_seq.learning.estimators import BPTT, ThreePhase
from eqspike_seq.model.network import Network
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.runs.environment import environment

BETA, TEXTS = 0.01, 16


@torch.no_grad()
def main(
    dataset: tyro.conf.Positional[Literal["imdb", "mini"]],
    json_file: JsonFile,
    seed: int = 0,
    data_dir: Path | None = None,
) -> None:
    """Compare the two gradients at initialisation.

    Args:
        dataset: imdb or mini.
        json_file: Where the figures go.
        seed: Seed of the weights.
        data_dir: Where the data lies.
    """
    reporter = Reporter()
    config = configure(dataset, "dense", network="tokens", data_dir=data_dir, seed=seed)
    data = load_dataset(config.data, reporter.status)
    batch = random_batch(config, data, TEXTS)
    batch = replace(batch, x=batch.x.double())
    network = Network.create(shape_of(config, data), torch.Generator().manual_seed(seed)).to(torch.float64)
    backend = DenseBackend(free_steps=200, nudge_steps=200, tolerance=1e-12, dtype=torch.float64)
    truth = BPTT(steps=60, order="alternating")(backend, network, batch).gradients
    estimate = ThreePhase(BETA)(backend, network, batch)
    records = [agreement.content() for agreement in compare(estimate.gradients, truth)]
    result: dict[str, Any] = {
        "format": FORMAT,
        "dataset": dataset,
        "texts": TEXTS,
        "beta": BETA,
        "seed": seed,
        "free_residual": float(estimate.equilibria[0].residual.max()),
        "environment": environment(),
        "records": records,
    }
    write_json(json_file, result)
    for record in records:
        reporter.out.print(record)


if __name__ == "__main__":
    tyro.cli(main)
