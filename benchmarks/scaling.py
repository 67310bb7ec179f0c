"""What a second process brings: a training step's compute and the exchange of gradients, measured and foretold.

python -m benchmarks.scaling --json results/scaling.json

The dense `paper-small` network of IMDB on random data, its data type and one thread a process. The model of a step of B
texts in p processes, each with B/p of them:

    T(p) = a + b B/p + c · 2(p − 1)/p · 4n      a: per step (the optimiser), b: per text, 4n: bytes of the gradients

a is the optimiser's time; b is fitted to steps of one process, without exchange; c, seconds a byte, is the exchange of
two processes alone. Each figure is the shortest of several timings, as other work on a machine only adds to it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.measure import JsonFile, Step, as_trained, synthetic
from eqspike.build import configure
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.files import write_json
from eqspike_seq.learning.parallel import ALONE, Job, join
from eqspike_seq.memory import keep_freed_memory
from eqspike_seq.runs.environment import environment

SIZES = (16, 32, 64, 128)  # texts of a step
NETWORKS = {"1 Gbit/s": 0.125e9, "10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}  # bytes a second
PROCESSES = (1, 2, 4, 8, 16, 32)
CONFIG = configure("imdb", "dense", "paper-small")


def timed(work: Callable[[], object], repeats: int) -> dict[str, Any]:
    """How long ``work`` takes, seconds: the shortest, the median, and every one, after one that is not timed."""
    work()
    every = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        every.append(time.perf_counter() - started)
    return {"seconds": min(every), "median": float(np.median(every)), "all": every}


@torch.no_grad()
def measure(job: Job, repeats: int) -> dict[str, Any]:
    """This process's figures: steps of the whole batch shared by all, their compute alone, the exchange alone."""
    torch.set_num_threads(1)
    keep_freed_memory()
    config = job.first(as_trained, CONFIG)
    step, alone = Step(config, job), Step(config)
    found: dict[str, Any] = {"steps": []}
    for texts in SIZES if job.size == 1 else SIZES[-1:]:
        batch = synthetic(step.network.shape, texts // job.size)
        row = {"texts": texts, "processes": job.size, **timed(partial(step, batch), repeats)}
        if job.size > 1:
            row["compute"] = timed(partial(alone, batch), repeats)["seconds"]
        found["steps"].append(row)
    found["optimiser"] = timed(step.optimizer.step, 4 * repeats)["seconds"]
    gradients = {name: torch.zeros_like(tensor) for name, tensor in step.parameters.items()}
    found["parameters"] = sum(tensor.numel() for tensor in gradients.values())
    estimate = step.estimator(step.backend, step.network, batch)
    found["sweeps"] = [float(phase.steps.double().mean()) for phase in estimate.equilibria]
    found["product_dtype"] = str(step.backend.dtype)
    if job.size > 1:
        found["exchange"] = timed(lambda: job.mean(gradients, 1 / job.size), 4 * repeats)["seconds"]
    return found


def started_by_torchrun(processes: int, benchmark: str, *arguments: str) -> dict[str, Any]:
    """What the first process of a ``benchmark`` writes that torchrun starts in so many ``processes``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        module = ["-m", benchmark, "--json", str(file), *arguments]
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *torchrun, *module], check=True, env=variables)
        return dict(json.loads(file.read_text()))


def main(json_file: JsonFile, repeats: int = 7) -> None:
    """Measure one process and two, fit the model and hold it to the two.

    Args:
        json_file: Where the figures go.
        repeats: Steps timed for each figure.
    """
    job = join()
    if job.size > 1:
        found = measure(job, repeats)
        if job.rank == 0:
            write_json(json_file, found)
        job.leave()
        return
    load = os.getloadavg()[0]
    one = measure(ALONE, repeats)
    two = started_by_torchrun(2, "benchmarks.scaling", "--repeats", str(repeats))
    counts, rest = np.array([[row["texts"], row["seconds"] - one["optimiser"]] for row in one["steps"]]).T
    a, b = one["optimiser"], float(counts @ rest / (counts @ counts))  # least squares
    size, texts = 4 * one["parameters"], SIZES[-1]
    c = two["exchange"] / size  # 2(p − 1)/p = 1
    (shared,) = two["steps"]
    foretold = {
        name: {p: a + b * texts / p + 2 * (p - 1) / p * size / bandwidth for p in PROCESSES}
        for name, bandwidth in {"this machine": 1 / c, **NETWORKS}.items()
    }
    write_json(
        json_file,
        {
            "format": FORMAT,
            "settings": CONFIG.computed(),
            "environment": {**environment(), "threads": 1, "load_before": load},
            "product_dtype": one["product_dtype"],
            "sweeps": one["sweeps"],
            "parameters": one["parameters"],
            "bytes_of_gradients": size,
            "one_process": one["steps"],
            "two_processes": shared,
            "exchange_seconds": two["exchange"],
            "model": {"a": a, "b": b, "c": c},
            "two_processes_foretold": foretold["this machine"][2],
            "speed_up": one["steps"][-1]["seconds"] / shared["seconds"],
            "speed_up_foretold": foretold["this machine"][1] / foretold["this machine"][2],
            "seconds_foretold": foretold,
            "pays_above_bytes_a_second": 2 * size / (b * texts),
        },
    )
    print(f"{texts} texts: {one['steps'][-1]['seconds']:.3f} s in one process, {shared['seconds']:.3f} s in two")


if __name__ == "__main__":
    tyro.cli(main)
