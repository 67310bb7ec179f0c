"""What several processes send each other where patterns are learnt, how fast a step is in two, and would be in more.

    python -m benchmarks.scaling_words --json results/scaling-words.json

Of the preset ``imdb``, batches of its training texts. Each of p processes has B/p texts and sends the gradient of the
rows of patterns that these hold, r(B/p) of them, to all others (an all-gather of numbers and values), and that of all n
other weights as a ring does. A process receives

    bytes(p) = (p − 1) · r(B/p) · (8 + 4D) + 2(p − 1)/p · 4n

r is counted in real batches. A step takes T(p) = a + b B/p + bytes(p)/W at W bytes a second; a is the step of all
weights and patterns, b the rest of a text in one process, both processor seconds.

**Measured** are training batches of one process, of two that torchrun starts, and of one again, each with one thread:
the median seconds of a batch, those of the exchange in it, in which the first process also waits for the second, and
what all network interfaces of this machine received. Two cores must be idle: whatever holds up one process at an
exchange holds up both.
"""

import os
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import tyro

from benchmarks.measure import Clock, JsonFile, command
from benchmarks.scaling import NETWORKS, started_by_torchrun
from eqspike.build import configure, make_backend
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.learning.parallel import Job, join
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.memory import keep_freed_memory
from eqspike_seq.runs.environment import environment

PROCESSES = (1, 2, 4, 8, 16, 32, 64)
LOOKED_AT = 20  # batches whose rows are counted
WARM = 5  # batches before those that are timed


def received() -> int:
    """Bytes that all network interfaces of this machine have received, the loopback one too."""
    rows = Path("/proc/net/dev").read_text().splitlines()[2:]
    return sum(int(row.partition(":")[2].split()[0]) for row in rows)


def timed(made: Trainer, batches: int) -> dict[str, Any]:
    """Seconds of each of the next ``batches`` in this process, and of their parts."""
    step, exchange, came, seconds, waited = Clock(time.process_time), Clock(), received(), list[float](), [0.0]
    processor = time.process_time()
    with (
        patch.object(made.optimizer, "step", step.around(made.optimizer.step)),
        patch.object(made.patterns, "step", step.around(getattr(made.patterns, "step"))),  # noqa: B009
        patch.object(Job, "mean", exchange.around(Job.mean)),
    ):
        for _ in range(batches):
            started = time.perf_counter()
            made.train_batch()
            seconds.append(time.perf_counter() - started)
            waited.append(exchange.seconds)
    return {
        "seconds": seconds,
        "exchange_seconds": median(np.diff(waited).tolist()),
        "bytes_received": (received() - came) / batches / made.job.size,
        "processor_seconds": (time.process_time() - processor) / batches,
        "step_processor_seconds": step.seconds / batches,
    }


def trainer(job: Job) -> Trainer:
    """One of the preset that is warm."""
    config = configure("imdb", "dense", precision="float32")
    made = Trainer(config, load_dataset(config.data), make_backend(config), job)
    for _ in range(WARM):
        made.train_batch()
    return made


def rows_of(made: Trainer) -> dict[int, float]:
    """Different patterns in a process's share of a batch, by the number of processes: r."""
    size, rows = made.config.learning.batch, dict.fromkeys(PROCESSES, 0.0)
    for number in range(LOOKED_AT):
        texts, rng = made.order[number * size : (number + 1) * size], np.random.default_rng(number)
        found = made.gather.lookup(made.dataset.train, texts, made.config.learning.word_dropout, rng)
        for processes in PROCESSES:
            shares = [found.ids[Job(rank, processes).share(size)] for rank in range(processes)]
            rows[processes] += sum(len(ids[ids > 0].unique()) for ids in shares) / processes / LOOKED_AT
    return rows


@torch.no_grad()
def main(json_file: JsonFile, batches: int = 60) -> None:
    """Count, measure and foretell.

    Args:
        json_file: Where the figures go.
        batches: Of training, that are timed, each time.
    """
    job, load = join(), os.getloadavg()[0]
    torch.set_num_threads(1)
    keep_freed_memory()
    made = trainer(job)
    one = timed(made, batches)
    if job.size > 1:
        if job.rank == 0:
            write_json(json_file, one)
        job.leave()
        return
    two = started_by_torchrun(2, "benchmarks.scaling_words", "--batches", str(batches))
    again, rows, size = timed(made, batches), rows_of(made), made.config.learning.batch
    alone, shared = median(one["seconds"] + again["seconds"]), median(two["seconds"])
    a = (one["step_processor_seconds"] + again["step_processor_seconds"]) / 2
    b = ((one["processor_seconds"] + again["processor_seconds"]) / 2 - a) / size
    weights = sum(tensor.numel() for tensor in made.parameters.values())
    dim, patterns = made.dataset.embeddings.dim, len(made.gather.table) - 1
    came = {p: (p - 1) * rows[p] * (8 + 4 * dim) + 2 * (p - 1) / p * 4 * weights for p in PROCESSES}
    write_json(
        json_file,
        {
            "format": FORMAT,
            "command": command(),
            "environment": {**environment(), "threads": 1, "load_before": load},
            "batch": size,
            "measured": {"one": one, "two": two, "one_again": again},
            "seconds_measured": {1: alone, 2: shared},
            "speed_up": alone / shared,
            "speed_up_foretold_without_exchange": (a + b * size) / (a + b * size / 2),
            "model": {"a": a, "b": b},
            "weights": weights,
            "patterns": patterns,
            "rows_a_process": rows,
            "bytes_received": came,
            "bytes_of_all_gradients": {p: 2 * (p - 1) / p * 4 * (weights + patterns * dim) for p in PROCESSES},
            "seconds_foretold": {
                name: {p: a + b * size / p + came[p] / bandwidth for p in PROCESSES}
                for name, bandwidth in NETWORKS.items()
            },
        },
    )
    print(f"{size} texts: {1e3 * alone:.1f} ms in one process, {1e3 * shared:.1f} ms in two, {alone / shared:.2f} ×")


if __name__ == "__main__":
    tyro.cli(main)
