"""How the cost of a dense training batch grows with N, D, hidden units, batch and T, and how near it is to the machine.

python -m benchmarks.growth --json results/growth.json
python -m docs.tools.growth results/growth.json docs/growth.svg

**Growth.** One size is varied at a time, the others as in ``BASE``; T sweeps and two nudges of T/2, all of them, so
that work is the same whatever the state; a process for each. ``exponent`` is the slope of log cost over log size for
the ``UPPER`` largest sizes. Beside it stand that of the ledger's multiply-accumulates at the same sizes, and the one
that the largest term ends in. For B texts, in multiply-accumulates:

    a sweep      HopAttn 2 N² D,  w₂ up and down 2 N D H,  layers above, three rounds, 6 (H H₃ + H₃ C)
    a batch      (T + 2K) sweeps,  x w₁ and its gradient 2 N D²,  that of w₂ 2 N D H;  Adam 6 a parameter (not × B)
    memory       x, B N D;  of a bucket of texts N² probabilities and a few N D;  a few N D H: gradient, moments, w₂ in
                 the products' type

**Words.** The same of a network with pooling queries over patterns that it learns: processor seconds of a training
batch and of the step of its patterns, all memory of the process beyond its imports, multiply-accumulates, and joules on
45 nm digital hardware. The terms for a text, with V patterns in the vocabulary:

    a sweep      Q N D for scores, as much to mix;  Q D H for w₂, up and down;  H C above it
    a batch      (T + 2K) sweeps;  Q N D and Q D H for the gradients
    memory       the table and its step, V D;  of a bucket of texts Q N scores and a few N D;  Q D H and H C weights
    energy       products, and each pattern and weight fetched once a sweep: N D, Q D H, H C

**Roofline.** Rates of matrix products in the network's shapes and of copying on this machine; operations over bytes of
a sweep; and the rate of useful operations (two for each of the ledger's multiply-accumulates) of dense training at the
preset ``paper``, as a share of the fastest product measured. Bytes are those that have to come from memory, where the
batch is one bucket: w₂ twice, and seven passes over B·N·D numbers (x w₁ read; query written and read; patterns read
twice; s¹ written and read); the scores of a few texts stay in cache.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
import tyro

from benchmarks.measure import (
    JsonFile,
    alternately,
    as_trained,
    command,
    exponent,
    in_fresh_process,
    medians,
    shape_for,
    synthetic,
    training_batch,
)
from eqspike.build import configure, make_backend
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.devices.chip import Chip
from eqspike_seq.devices.device_model import IDEAL, read_device
from eqspike_seq.files import write_json
from eqspike_seq.learning.cost import training_ledger
from eqspike_seq.learning.estimators import ByLength, ThreePhase
from eqspike_seq.learning.optimisers import RowDescent
from eqspike_seq.ledger import Ledger, sweep_products
from eqspike_seq.memory import keep_freed_memory, resident
from eqspike_seq.model.attention import texts_at_once
from eqspike_seq.model.batch import Lookup
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.model.synapses import multiplied_out
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.stack import ROUNDS
from eqspike_seq.runs.environment import environment
from neuromorphic.pricing import price, read_table, total

BASE = {"tokens": 128, "dim": 100, "hidden": 256, "batch": 64, "free_steps": 12}
SIZES: dict[str, tuple[int, ...]] = {
    "tokens": (64, 128, 256, 512, 1024),
    "dim": (25, 50, 100, 200, 400),
    "hidden": (64, 128, 256, 512, 1024, 2048),
    "batch": (8, 16, 32, 64, 128, 256),
    "free_steps": (6, 12, 24, 48),
}
LARGEST_TERM = {  # exponents of (products, memory) that a size ends in; D also has N D² once a batch, far off
    "tokens": (2, 2),
    "dim": (1, 1),
    "hidden": (1, 1),
    "batch": (1, 1),
    "free_steps": (1, 0),
}
BASE_WORDS = {
    "queries": 8,
    "patterns": 256,
    "dim": 32,
    "hidden": 64,
    "vocabulary": 100_000,
    "classes": 2,
    "texts": 64,
}
SIZES_OF_WORDS: dict[str, tuple[int, ...]] = {
    "queries": (4, 8, 16, 32, 64),
    "patterns": (64, 128, 256, 512, 1024),
    "dim": (8, 16, 32, 64, 128),
    "hidden": (64, 256, 1024, 4096),
    "vocabulary": (30_000, 100_000, 300_000, 1_000_000, 3_000_000),
    "classes": (2, 8, 32, 128, 512, 2048),
    "texts": (16, 64, 256, 1024),
}
LARGEST_TERM_OF_WORDS = {  # exponents of (products and energy, memory) that a size ends in; those of time are products'
    "queries": (1, 1),
    "patterns": (1, 1),
    "dim": (1, 1),
    "hidden": (1, 1),
    "vocabulary": (0, 1),
    "classes": (1, 1),
    "texts": (1, 1),
}
SWEEPS = 4  # of each phase
HARDWARE = "horowitz-45nm-fp32"
UPPER = 3
PASSES = 7
ABOVE = 40  # units of s³


def sized(tokens: int, dim: int, hidden: int, batch: int, free_steps: int) -> RunConfig:
    """Settings of a dense batch of these sizes, in float32: another type from some size on would bend the curve."""
    steps: dict[str, Any] = {"free_steps": free_steps, "nudge_steps": max(1, free_steps // 2), "precision": "float32"}
    settings: dict[str, Any] = {"tokens": tokens, "dim": dim, "hidden": (hidden, ABOVE), "batch": batch}
    return configure("imdb", "dense", "paper-small", **settings, **steps)


def grow(name: str, sizes: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Cost at each size of ``name``, and exponents."""
    rows = []
    for size in sizes:
        one = in_fresh_process(training_batch, sized(**{**BASE, name: size}), repeats)
        rows.append({"size": size, **asdict(one)})
    at = [row["size"] for row in rows]
    costs = {
        "seconds": [median(row["seconds"]) for row in rows],
        "bytes": [float(row["bytes"]) for row in rows],
        "products": [float(row["products"]) for row in rows],
    }
    ends = LARGEST_TERM[name]
    return {
        "rows": rows,
        "exponent": {cost: exponent(at, values, UPPER) for cost, values in costs.items()},
        "exponent_of_the_largest_term": {"products": ends[0], "bytes": ends[1]},
    }


def grow_words(name: str, sizes: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Cost at each size of ``name``, and exponents."""
    at = [{**BASE_WORDS, name: size} for size in sizes]
    rows = [{"size": one[name], **in_fresh_process(words_batch, one, repeats)} for one in at]
    exponents = {
        cost: exponent(sizes, [float(row[cost]) for row in rows], UPPER)
        for cost in ("seconds", "products", "bytes", "joules")
    }
    ends = dict(zip(("products", "bytes"), LARGEST_TERM_OF_WORDS[name], strict=True))
    return {"rows": rows, "exponent": exponents, "exponent_of_the_largest_term": ends}


@torch.no_grad()
def words_batch(size: dict[str, int], repeats: int) -> dict[str, float]:
    """The cost of a training batch with sizes as in ``BASE_WORDS``; to be called in a fresh process."""
    torch.set_num_threads(1)
    keep_freed_memory()
    words_step(**dict.fromkeys(BASE_WORDS, 2))[0]()  # what the libraries load at the first use
    idle = resident("VmRSS")
    step, ledger = words_step(**size)
    step()
    spent = []
    for _ in range(repeats):
        started = time.process_time()
        step()
        spent.append(time.process_time() - started)
    return {
        "seconds": min(spent),
        "products": ledger.total("multiply_accumulates"),
        "bytes": resident() - idle,
        "joules": total(price(ledger, read_table(HARDWARE))).value,
    }


def words_step(
    queries: int, patterns: int, dim: int, hidden: int, vocabulary: int, classes: int, texts: int
) -> tuple[Callable[[], None], Ledger]:
    """(a training batch of texts of so many ``patterns`` of a ``vocabulary``, what it takes); all sweeps are taken."""
    generator = torch.Generator().manual_seed(0)
    shape = Shape(queries, dim, (hidden,), classes, pooling=True, temperature=32.0, learnt=True)
    network, table = Network.create(shape, generator), torch.randn(vocabulary + 1, dim, generator=generator).div_(10)
    ids = torch.randint(1, vocabulary + 1, (texts, 1, patterns), generator=generator)
    labels = torch.randint(0, classes, (texts,), generator=generator)
    batch, descent = Lookup(table, ids, labels, counts=torch.ones(ids.shape)), RowDescent(table)
    backend = DenseBackend(free_steps=SWEEPS, nudge_steps=SWEEPS, tolerance=-1.0)
    chip = Chip(read_device(IDEAL), dict(network.named()), 0)
    estimator = ByLength(ThreePhase(0.1))

    def step() -> None:
        found = estimator(backend, network, batch).found
        descent.step(multiplied_out(found, len(table))["X"], 0.0, chip, 0)

    phases = (phase.ledger for phase in estimator(backend, network, batch).equilibria)
    return step, training_ledger(shape, batch.mask, phases, "adam", patterns=len(ids.unique()))


def gemm_rates(shape: Shape, batch: int, dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Operations a second of the products of a sweep, and of a square one."""

    def drawn(*size: int) -> torch.Tensor:
        return torch.rand(*size).to(dtype)

    flat, hidden, some = shape.flat, shape.hidden[0], min(batch, texts_at_once(shape.rows, shape.rows))
    w2, first, below = drawn(hidden, flat), drawn(batch, hidden), drawn(batch, flat)
    x, p = drawn(some, shape.rows, shape.dim), drawn(some, shape.rows, shape.rows)
    square = drawn(2048, 2048)
    tasks: dict[str, Any] = {
        "w2_up": (lambda: below @ w2.T, batch * flat * hidden),
        "w2_down": (lambda: first @ w2, batch * flat * hidden),
        "scores": (lambda: x @ x.mT, some * shape.rows**2 * shape.dim),
        "mix": (lambda: p @ x, some * shape.rows**2 * shape.dim),
        "square_2048": (lambda: square @ square, 2048**3),
    }
    seconds = medians(alternately({name: task for name, (task, _) in tasks.items()}, repeats))
    return {name: 2 * products / seconds[name] for name, (_, products) in tasks.items()}


def copy_rate(repeats: int, size: int = 2**28) -> float:
    """Bytes read and written a second by a copy that no cache holds."""
    source, target = torch.ones(size // 4), torch.empty(size // 4)
    seconds = medians(alternately({"copy": lambda: target.copy_(source)}, repeats))["copy"]
    return 2 * size / seconds


def roofline(config: RunConfig, repeats: int) -> dict[str, Any]:
    """Where dense training with ``config`` stands."""
    config = as_trained(config)
    shape, dtype = shape_for(config), make_backend(config).dtype
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    rates = {name: gemm_rates(shape, config.learning.batch, kind, repeats) for name, kind in types.items()}
    bandwidth = copy_rate(repeats)
    one = in_fresh_process(training_batch, config, 1)
    one_text = int(sweep_products(shape, synthetic(Shape(shape.rows, 1, (1,), 2), 1).mask, ROUNDS)[0])
    moved = dtype.itemsize * (2 * shape.flat * shape.hidden[0] + PASSES * config.learning.batch * shape.flat)
    intensity = 2 * config.learning.batch * one_text / moved
    name = str(dtype).removeprefix("torch.")
    peak = max(rates[name].values())
    reached = 2 * one.products / median(one.seconds)
    return {
        "settings": config.computed(),
        "operations_a_second": rates,
        "copied_bytes_a_second": bandwidth,
        "product_dtype": name,
        "training": asdict(one),
        "operations_a_byte": intensity,
        "operations_a_byte_where_memory_ceases_to_limit": peak / bandwidth,
        "reached_operations_a_second": reached,
        "attainable_operations_a_second": min(peak, intensity * bandwidth),
        "share_of_the_fastest_product": reached / peak,
    }


def main(
    json_file: JsonFile,
    repeats: int = 3,
    largest: int = 10,
    batch: int = 32,
    steps: int = 6,
    growth: bool = True,
    words: bool = True,
    paper: bool = True,
) -> None:
    """Measure both.

    Args:
        json_file: Where the figures go.
        repeats: How often each is timed; the median counts.
        largest: At most this many sizes of each, the smallest ones, for quick trials.
        batch: Texts in a batch of the roofline.
        steps: T of the roofline, with nudges of half as many steps; the paper's is 50.
        growth: Vary the sizes of a network whose tokens ask.
        words: Vary those of one with pooling queries.
        paper: Measure the roofline.
    """
    reporter = Reporter()
    result: dict[str, Any] = {"format": FORMAT, "command": command(), "environment": environment()}
    result |= {"base": BASE, "base_words": BASE_WORDS, "upper": UPPER, "repeats": repeats, "growth": {}, "words": {}}

    def keep(found: dict[str, Any]) -> None:
        reporter.out.print({key: value for key, value in found.items() if key != "settings"})
        write_json(json_file, result)

    for name, sizes in SIZES.items() if growth else ():
        result["growth"][name] = grow(name, sizes[:largest], repeats)
        keep({name: result["growth"][name]})
    for name, sizes in SIZES_OF_WORDS.items() if words else ():
        result["words"][name] = grow_words(name, sizes[:largest], repeats)
        keep({name: result["words"][name]})
    if not paper:
        return
    settings: dict[str, Any] = {"batch": batch, "free_steps": steps, "nudge_steps": max(1, steps // 2)}
    result["roofline"] = roofline(configure("imdb", "dense", "paper", **settings), repeats)
    keep(result["roofline"])


if __name__ == "__main__":
    tyro.cli(main)
