"""What the benchmarks of speed share: alternating clocks, peak memory of a fresh process, fitted exponents."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from eqspike.build import make_backend
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.learning.cost import training_ledger
from eqspike_seq.learning.estimators import Estimate, make_estimator
from eqspike_seq.learning.parallel import ALONE, Job
from eqspike_seq.learning.precision import settled
from eqspike_seq.memory import keep_freed_memory, resident
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape

JsonFile = Annotated[Path, tyro.conf.arg(aliases=["--json"])]  # where a benchmark writes its figures


def command() -> str:
    """The command of this process, folders by their last name only."""
    module = sys.modules["__main__"].__spec__  # None of a script
    name = Path(sys.argv[0]).name if module is None else module.name
    given = [Path(argument).name if argument.startswith("/") else argument for argument in sys.argv[1:]]
    return " ".join(["python -m", name, *given])


class Clock:
    """Seconds, as ``now`` tells them, inside the functions it has wrapped."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now, self.seconds = now, 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            started = self.now()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += self.now() - started

        return timed


def alternately(tasks: dict[str, Callable[[], Any]], repeats: int, warm: int = 1) -> dict[str, list[float]]:
    """Seconds of each task, ``repeats`` times in turn, so that a busy machine slows all of them down alike."""
    for task in tasks.values():
        for _ in range(warm):
            task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: median(values) for name, values in seconds.items()}


def exponent(x: Sequence[float], y: Sequence[float], upper: int = 3) -> float:
    """b of y = a xᵇ, by regression of logarithms over the ``upper`` points with the largest x."""
    points = sorted(zip(x, y, strict=True))[-upper:]
    at, values = np.log(np.array(points)).T
    return float(np.polyfit(at, values, 1)[0])


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What ``function`` returns in a process of its own; raises RuntimeError if that ends without a result."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, torch.get_num_threads(), function, arguments))
    process.start()
    theirs.close()
    try:
        return mine.recv()
    except EOFError as error:
        raise RuntimeError(f"{function.__name__}: its process ended without a result; the reason is above") from error
    finally:
        process.join()


def _answer(pipe: Connection, threads: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    pipe.send(function(*arguments))


def synthetic(shape: Shape, texts: int, seed: int = 0) -> Batch:
    """Texts without padding, of random vectors about as long as those of words are."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(texts, 1, shape.rows, shape.dim, generator=generator)
    labels = torch.randint(0, shape.classes, (texts,), generator=generator)
    return Batch(x, torch.ones(texts, 1, shape.rows, dtype=torch.bool), labels)


def shape_for(config: RunConfig) -> Shape:
    """The network's shape for two classes and word vectors that are made here."""
    return config.network.shape(config.data.rows, config.settings()["dim"], 2)


def as_trained(config: RunConfig) -> RunConfig:
    """``config`` with the precision that a run on texts without padding chooses here."""
    shape = shape_for(config)
    return settled(config, shape, synthetic(shape, config.learning.batch))


class Step:
    """A training step as ``Trainer`` makes it, less the counting; with a rate of 0, the same work each time."""

    def __init__(self, config: RunConfig, job: Job = ALONE) -> None:
        shape = shape_for(config)
        self.job, self.network = job, Network.create(shape, torch.Generator().manual_seed(config.run.seed))
        self.parameters = dict(self.network.named())
        self.backend, self.estimator = make_backend(config), make_estimator(config.learning)
        self.optimizer = torch.optim.Adam(list(self.parameters.values()), lr=0.0, fused=True)

    def __call__(self, batch: Batch) -> Estimate:
        estimate = self.estimator(self.backend, self.network, batch)
        gradients = self.job.mean(estimate.gradients, 1 / self.job.size)
        for name, tensor in self.parameters.items():
            tensor.grad = gradients[name]
        self.optimizer.step()
        return estimate


@dataclass(frozen=True)
class Measured:
    """Of one training batch: seconds of each repetition, peak bytes beyond the idle process, multiply-accumulates."""

    seconds: list[float]
    bytes: int
    products: int


@torch.no_grad()
def training_batch(config: RunConfig, repeats: int) -> Measured:
    """Train on ``config.learning.batch`` synthetic texts, once to warm up; to be called in a fresh process.

    All sweeps are taken: with a tolerance of 0 a text would still stop where a sweep changes nothing at all.
    """
    keep_freed_memory()
    step = Step(replace(config, backend=replace(config.backend, tolerance=-1.0)))  # type: ignore[type-var]
    shape, batch = step.network.shape, synthetic(step.network.shape, config.learning.batch)
    idle, products = resident("VmRSS"), 0

    def train() -> None:
        nonlocal products
        phases = (found.ledger for found in step(batch).equilibria)
        ledger = training_ledger(shape, batch.mask, phases, config.learning.optimizer, config.learning.unrolled)
        products = ledger.total("multiply_accumulates")

    seconds = alternately({"batch": train}, repeats)["batch"]
    return Measured(seconds, resident() - idle, products)
