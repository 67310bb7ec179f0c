"""The network of a preset unrolled for a few sweeps from rest and trained by backpropagation: no equilibrium anywhere.

python -m benchmarks.three_sweeps --json results/three-sweeps.json

Same data, sizes, rates, order of texts and left-out patterns as `eqspike run imdb`; what differs is that the gradient
is autograd's through three sweeps from rest, and that inference takes those three sweeps.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import tyro

from benchmarks.measure import JsonFile
from eqspike.build import configure, make_backend
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.learning.estimators import BPTT, ByLength
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.model.network import Network, State
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.runs.environment import environment


@dataclass(frozen=True)
class FromRest(BPTT):
    """Autograd through ``steps`` sweeps from rest."""

    def start(self, network: Network, free: State) -> State:
        """Rest."""
        rest = network.rest(1)
        layers = tuple(layer.expand(len(free.output), -1) for layer in rest.layers)
        return State(rest.projection.expand(len(free.output), -1, -1, -1), layers)


@torch.no_grad()
def main(json_file: JsonFile, preset: str = "imdb", sweeps: int = 3, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Train and test.

    Args:
        json_file: Where the figures go.
        preset: A preset of imdb with pooling queries.
        sweeps: How often the network is swept.
        seeds: Seeds of the weights.
    """
    reporter, rows = Reporter(), list[dict[str, Any]]()
    for seed in seeds:
        config = configure("imdb", "dense", preset, seed=seed, precision="float32", free_steps=sweeps, tolerance=0.0)
        data = load_dataset(config.data, reporter.status)
        trainer = Trainer(config, data, make_backend(config))
        assert isinstance(trainer.backend, DenseBackend)
        trainer.estimator = ByLength(FromRest(sweeps, "alternating"))
        while not trainer.ended:
            trainer.train_batch()
        tested = {
            name: evaluate(trainer.backend, trainer.network, trainer.gather, part, config.learning.batch).accuracy
            for name, part in (("validation_accuracy", data.validation), ("test_accuracy", data.test))
        }
        settled = replace(trainer.backend, free_steps=50, tolerance=1e-3)
        found = evaluate(settled, trainer.network, trainer.gather, data.test, config.learning.batch)
        rows.append({"seed": seed, **tested, "settled_test_accuracy": found.accuracy})
        reporter.out.print(rows[-1])
    about = {"format": FORMAT, "preset": preset, "sweeps": sweeps, "environment": environment()}
    write_json(json_file, {**about, "rows": rows})


if __name__ == "__main__":
    tyro.cli(main)
