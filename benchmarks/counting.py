"""What counting costs: seconds in the ledger's functions as a share of all seconds of training, in one run each.

python -m benchmarks.counting imdb --json results/counting.json
"""

import time
from typing import Any, Literal
from unittest.mock import patch

import torch
import tyro

import eqspike_seq.learning.trainer
import eqspike_seq.relaxation.dense
from benchmarks.measure import Clock, JsonFile
from eqspike.build import configure, make_backend
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.ledger import Ledger
from eqspike_seq.memory import keep_freed_memory
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from neuromorphic.activity import Activity

COUNTING = (
    (eqspike_seq.relaxation.dense, "dense_ledger"),
    (eqspike_seq.learning.trainer, "training_ledger"),
    (Activity, "of_rates"),
    (Activity, "of_changes"),
    (Activity, "ledger"),
    (Ledger, "__iadd__"),
)
RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dense", {}),
    ("spiking", {"rule": "count"}),
    ("spiking", {"neuron": "sigma-delta"}),
    ("spiking", {"neuron": "sigma-delta", "circuit": "wta"}),
)


@torch.no_grad()
def main(
    dataset: tyro.conf.Positional[Literal["imdb", "mini", "mnist"]], json_file: JsonFile, batches: int = 10
) -> None:
    """Train a few batches with every backend.

    Args:
        dataset: imdb, mini or mnist.
        json_file: Where the figures go.
        batches: How many of each, after one that is not timed.
    """
    keep_freed_memory()
    reporter, rows = Reporter(), []
    for backend, settings in RUNS:
        config = configure(dataset, backend, **settings)
        trainer = Trainer(config, load_dataset(config.data), make_backend(config))
        trainer.train_batch()
        clock = Clock()
        patches = [patch.object(place, name, clock.around(getattr(place, name))) for place, name in COUNTING]
        for wrapped in patches:
            wrapped.start()
        started = time.perf_counter()
        for _ in range(batches):
            trainer.train_batch()
        whole = time.perf_counter() - started
        for wrapped in patches:
            wrapped.stop()
        rows.append({"backend": backend, **settings, "seconds": whole, "share_of_counting": clock.seconds / whole})
        reporter.out.print(rows[-1])
    about = {"format": FORMAT, "dataset": dataset, "batches": batches, "environment": environment()}
    write_json(json_file, {**about, "rows": rows})


if __name__ == "__main__":
    tyro.cli(main)
