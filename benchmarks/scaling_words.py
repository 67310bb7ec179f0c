"""What several processes send each other where patterns are learnt, and how fast a step would be.

    python -m benchmarks.scaling_words --json results/scaling-words.json

Of the preset ``imdb``, batches of its training texts. Each of p processes has B/p texts and sends the gradient of the
rows of patterns that these hold, r(B/p) of them, to all others (an all-gather of numbers and values), and that of all n
other weights as a ring does. A process receives

    bytes(p) = (p − 1) · r(B/p) · (8 + 4D) + 2(p − 1)/p · 4n

r is counted in real batches. A step takes T(p) = a + b B/p + bytes(p)/W at W bytes a second; a is the step of all
weights and patterns, b the rest of a text in one process, both processor seconds measured here. Unlike
``benchmarks.scaling`` no exchange is measured.
"""

import time

import numpy as np
import torch
import tyro

from benchmarks.measure import Clock, JsonFile, command
from benchmarks.scaling import NETWORKS
from eqspike.build import configure, make_backend
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.learning.parallel import Job
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.memory import keep_freed_memory
from eqspike_seq.runs.environment import environment

PROCESSES = (1, 2, 4, 8, 16, 32, 64)
LOOKED_AT = 20  # batches whose rows are counted


@torch.no_grad()
def main(json_file: JsonFile, batches: int = 60) -> None:
    """Count and foretell.

    Args:
        json_file: Where the figures go.
        batches: Of training, that are timed.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    config = configure("imdb", "dense", precision="float32")
    data, size = load_dataset(config.data), config.learning.batch
    made, clock = Trainer(config, data, make_backend(config)), Clock(time.process_time)
    assert made.patterns is not None
    rows = {processes: 0.0 for processes in PROCESSES}
    for number in range(LOOKED_AT):
        texts = made.order[number * size : (number + 1) * size]
        found = made.gather.lookup(data.train, texts, config.learning.word_dropout, np.random.default_rng(number))
        for processes in PROCESSES:
            shares = [found.ids[Job(rank, processes).share(size)] for rank in range(processes)]
            rows[processes] += sum(len(ids[ids > 0].unique()) for ids in shares) / processes / LOOKED_AT
    for _ in range(5):
        made.train_batch()
    made.optimizer.step = clock.around(made.optimizer.step)  # type: ignore[method-assign]
    made.patterns.step = clock.around(made.patterns.step)  # type: ignore[method-assign]
    started = time.process_time()
    for _ in range(batches):
        made.train_batch()
    whole, a = (time.process_time() - started) / batches, clock.seconds / batches
    b, weights = (whole - a) / size, sum(tensor.numel() for tensor in made.parameters.values())
    dim, patterns = data.embeddings.dim, len(made.patterns.table) - 1
    received = {p: (p - 1) * rows[p] * (8 + 4 * dim) + 2 * (p - 1) / p * 4 * weights for p in PROCESSES}
    write_json(
        json_file,
        {
            "format": FORMAT,
            "command": command(),
            "environment": environment(),
            "batch": size,
            "model": {"a": a, "b": b},
            "weights": weights,
            "patterns": patterns,
            "rows_a_process": rows,
            "bytes_received": received,
            "bytes_of_all_gradients": {p: 2 * (p - 1) / p * 4 * (weights + patterns * dim) for p in PROCESSES},
            "seconds_foretold": {
                name: {p: a + b * size / p + received[p] / bandwidth for p in PROCESSES}
                for name, bandwidth in NETWORKS.items()
            },
        },
    )


if __name__ == "__main__":
    tyro.cli(main)
