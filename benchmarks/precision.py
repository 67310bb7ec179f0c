"""Does ``--precision auto`` choose well? Its choice, and the time of a training batch in float32 and in bfloat16.

python -m benchmarks.precision --json FILE

Dense, on ``mini`` (short texts), at the sizes of ``imdb`` (random vectors, texts without padding) and on ``digits`` (no
HopAttn). The two take turns, and the least processor time of each counts, which other work hardly changes.
With ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 a processor multiplies bfloat16 without its matrix units.
"""

import os
import time
from typing import Any

import torch
import tyro

from benchmarks.measure import JsonFile, command, shape_for, synthetic
from eqspike.build import configure, make_backend, varied
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.batches import random_batch
from eqspike_seq.data.dataset import load_dataset, shape_of
from eqspike_seq.files import write_json
from eqspike_seq.learning.estimators import make_estimator
from eqspike_seq.learning.precision import settled
from eqspike_seq.memory import keep_freed_memory
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Shape
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment

CHOICES = 5  # how often the choice is made


def subject(config: RunConfig) -> tuple[Shape, Batch]:
    """Network and batch of a data set."""
    if config.data.dataset == "imdb":
        shape = shape_for(config)
        return shape, synthetic(shape, config.learning.batch)
    data = load_dataset(config.data)
    return shape_of(config, data), random_batch(config, data, config.learning.batch)


@torch.no_grad()
def measured(config: RunConfig, repeats: int) -> dict[str, Any]:
    """The choice, how long it took, and both types."""
    shape, batch = subject(config)
    choices, choosing = [], []
    for _ in range(CHOICES):
        started = time.perf_counter()
        choices.append(settled(config, shape, batch).run.precision)
        choosing.append(time.perf_counter() - started)
    network = config.network.create(shape, config.run.seed)
    backends = {name: make_backend(varied(config, precision=name)) for name in ("float32", "bfloat16")}
    estimator, least = make_estimator(config.learning), dict.fromkeys(backends, float("inf"))
    for _ in range(repeats):
        for name, backend in backends.items():
            began = time.process_time()
            estimator(backend, network, batch)
            least[name] = min(least[name], time.process_time() - began)
    slower = max(least[choice] for choice in choices) / min(least.values()) - 1
    return {"choices": choices, "seconds_to_choose": choosing, "seconds": least, "slower_than_the_other": slower}


def main(json_file: JsonFile, repeats: int = 10) -> None:
    """Measure and write.

    Args:
        json_file: Where the figures go.
        repeats: Batches that each type is timed on.
    """
    keep_freed_memory()
    reporter = Reporter()
    found = {name: measured(configure(name, "dense"), repeats) for name in ("mini", "imdb", "digits")}
    for name, figures in found.items():
        reporter.out.print(name, figures)
    about = {"command": command(), "environment": environment(), "isa": os.environ.get("ONEDNN_MAX_CPU_ISA")}
    write_json(json_file, {"format": FORMAT, **about, "repeats": repeats, **found})


if __name__ == "__main__":
    tyro.cli(main)
