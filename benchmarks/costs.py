"""What HopAttn costs a dense training batch, and what memory EP and backpropagation through time need.

python -m benchmarks.costs --json results/costs.json

**HopAttn.** Seconds, multiply-accumulates (of the ledger) and peak memory of a training batch with and without it, at
the ``paper-small`` preset and at half of the paper's tokens and hidden units with all its D (tokens per hidden unit, on
which the ratio of HopAttn's products to those of w₂ depends, are the paper's). Both take T and K sweeps, all of them.
Bal & Sengupta (2023) state about 17 % more for HopAttn.

**Memory over time.** Peak memory of a training batch with T sweeps unrolled by backpropagation through time, against EP
with T free sweeps and T of each nudge, in fp32; and bytes a step, the slope of the line through the points. Bal &
Sengupta (2023, Section 3.7): EP's memory does not grow with T, that of backpropagation does.

Texts are synthetic and without padding. Each measurement has a process of its own; its memory is the peak less what was
resident before the first batch, network and texts included. Gradients and Adam's moments count.
"""

from statistics import median
from typing import Any

import numpy as np
import tyro

from benchmarks.measure import JsonFile, Measured, as_trained, command, in_fresh_process, training_batch
from eqspike.build import configure, varied
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.files import write_json
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment

STEPS = (10, 20, 40, 80)


def with_and_without(settings: RunConfig, repeats: int, rounds: int) -> dict[str, Any]:
    """HopAttn on and off, in turn, ``rounds`` processes each."""
    found: dict[str, list[Measured]] = {"with": [], "without": []}
    for _ in range(rounds):
        for name, attention in (("with", True), ("without", False)):
            config = varied(settings, attention=attention)
            found[name].append(in_fresh_process(training_batch, config, repeats))
    raw = {
        name: {
            "seconds": [second for one in rows for second in one.seconds],
            "bytes": [one.bytes for one in rows],
            "products": rows[0].products,
        }
        for name, rows in found.items()
    }

    def more(pick: Any) -> float:
        return float(pick(raw["with"]) / pick(raw["without"]) - 1)

    ratios = {
        "seconds_more": more(lambda row: median(row["seconds"])),
        "bytes_more": more(lambda row: median(row["bytes"])),
        "products_more": more(lambda row: row["products"]),
    }
    return {"settings": settings.computed(), **raw, **ratios}


def over_time(settings: RunConfig, repeats: int) -> dict[str, Any]:
    """Peak memory of EP and of BPTT for each of ``STEPS``."""
    rows: list[dict[str, Any]] = []
    for steps in STEPS:
        for name in ("three-phase", "bptt"):
            changes = {"free_steps": steps, "nudge_steps": steps, "bptt_steps": steps, "estimator": name}
            one = in_fresh_process(training_batch, varied(settings, **changes), repeats)
            rows.append({"estimator": name, "steps": steps, "bytes": one.bytes, "seconds": one.seconds})
    slopes = {}
    for name in ("three-phase", "bptt"):
        mine = [row for row in rows if row["estimator"] == name]
        slopes[name] = float(np.polyfit([row["steps"] for row in mine], [row["bytes"] for row in mine], 1)[0])
    last = {row["estimator"]: row["bytes"] for row in rows[-2:]}
    return {
        "settings": settings.computed(),
        "rows": rows,
        "bytes_a_step": slopes,
        "bptt_to_ep_at_most_steps": last["bptt"] / last["three-phase"],
    }


def main(json_file: JsonFile, batch: int = 128, unrolled_batch: int = 16, repeats: int = 3, rounds: int = 2) -> None:
    """Measure both.

    Args:
        json_file: Where the figures go.
        batch: Texts in a batch at the preset paper-small; a quarter of it at the reduced size of the paper.
        unrolled_batch: Texts in a batch where memory over time is measured.
        repeats: How often each process trains on its batch; the median counts.
        rounds: Processes with and without HopAttn.
    """
    reporter = Reporter()
    cpu = configure("imdb", "dense", "paper-small", batch=batch, free_steps=20, nudge_steps=10)
    half: dict[str, Any] = {"tokens": 300, "hidden": (500, 40), "free_steps": 10, "nudge_steps": 5}
    paper = configure("imdb", "dense", "paper", batch=max(1, batch // 4), **half)
    unrolled = configure("imdb", "dense", "paper-small", batch=unrolled_batch, precision="float32")
    result: dict[str, Any] = {"format": FORMAT, "command": command(), "environment": environment()}
    tasks = {
        "hopattn_cpu": lambda: with_and_without(as_trained(cpu), repeats, rounds),
        "hopattn_paper_halved": lambda: with_and_without(as_trained(paper), repeats, rounds),
        "memory_over_time": lambda: over_time(unrolled, 1),
    }
    for name, task in tasks.items():
        result[name] = task()
        reporter.out.print(name, {key: value for key, value in result[name].items() if key != "settings"})
        write_json(json_file, result)


if __name__ == "__main__":
    tyro.cli(main)
