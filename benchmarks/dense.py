"""Dense EP against the paper's Algorithm 2 as written (``benchmarks.literal``): time, memory, gradients.

python -m benchmarks.dense --preset paper-small --json results/speed-paper-small.json

Both take the same real training batch at initialisation, and again after training (an epoch, or ``--train-batches``).
``ratio_to_literal`` is seconds of literal's free phase, nudges and Eq. 18, all T + 2K steps of them, over ours, the
median of ``repeats`` batches; ``inference`` compares the free phases. The gradients are held against literal's after
as many steps as it takes to converge, in float64, of the first ``gradient_texts``; and those of all products in fp32
against ours at three β. Peak memory is what one batch adds to a fresh process, the median of ``PROCESSES``.
"""

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import tyro

from benchmarks import literal
from benchmarks.measure import JsonFile, command, in_fresh_process, synthetic
from eqspike.build import configure, make_backend, varied
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.learning.estimators import ByLength, ThreePhase, make_estimator
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.learning.training import with_precision
from eqspike_seq.memory import keep_freed_memory, resident
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape, State
from eqspike_seq.model.synapses import Gradients, local_update
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.buckets import free_by_length
from eqspike_seq.relaxation.stack import largest_change
from eqspike_seq.runs.environment import environment

BETAS = (0.01, 0.1, 0.5)
CONVERGED, MOST = 1e-9, 2000  # largest change of a unit, steps
PROCESSES = 5  # what an allocator keeps differs from one to the next
CPU = torch.device("cpu")


@torch.no_grad()
def main(
    json_file: JsonFile,
    preset: Literal["paper-small", "paper"] = "paper-small",
    limit: int | None = None,
    train_batches: int | None = None,
    repeats: int = 5,
    gradient_texts: int = 16,
    tolerance: float | None = None,
) -> None:
    """Measure and write.

    Args:
        json_file: Where the figures go.
        preset: imdb at this size.
        limit: Use so many texts of each split, for their word vectors too.
        train_batches: Batches of training before the second measurement. Default: an epoch.
        repeats: Batches that ours is timed on.
        gradient_texts: Texts of the batch that is compared with literal's converged gradients.
        tolerance: Largest change of a unit at which a text has settled. Default: the preset's.
    """
    keep_freed_memory()
    reporter = Reporter()
    config = configure("imdb", "dense", preset, limit=limit, **({} if tolerance is None else {"tolerance": tolerance}))
    dataset = load_dataset(config.data, reporter.status)
    config = with_precision(config, dataset)
    trainer = Trainer(config, dataset, make_backend(config))
    batches = [next_batch(trainer, index) for index in range(repeats + 1)]
    found: dict[str, Any] = {"initial": stage(config, trainer.network, batches, gradient_texts, reporter)}
    steps = trainer.batches if train_batches is None else train_batches
    for done in range(steps):
        trainer.train_batch()
        if (done + 1) % 20 == 0:
            reporter.status(f"trained on {done + 1} of {steps} batches")
    found["trained"] = stage(config, trainer.network, batches, gradient_texts, reporter)
    peaks = {
        name: [in_fresh_process(peak, name, config, trainer.network, batches[0]) for _ in range(PROCESSES)]
        for name in ("literal", "ours")
    }
    summary = {
        "ratio_to_literal": found["initial"]["ratio"],
        "ratio_to_literal_trained": found["trained"]["ratio"],
        "inference_ratio": found["initial"]["inference_ratio"],
        "inference_ratio_trained": found["trained"]["inference_ratio"],
        "min_gradient_cosine": min(min(part["cosine_to_literal"].values()) for part in found.values()),
        "min_cosine_to_float32": min(
            cosine for part in found.values() for row in part["cosine_to_float32"].values() for cosine in row.values()
        ),
        "memory_ratio": median(peaks["literal"]) / median(peaks["ours"]),
    }
    for name, value in summary.items():
        reporter.out.print(f"{name:26} {value:.6g}")
    about = {
        "command": command(),
        "environment": environment(),
        "settings": config.computed(),
        "trained_batches": steps,
    }
    write_json(json_file, {"format": FORMAT, **about, **summary, "peak_bytes": peaks, **found})
    reporter.out.print(f"wrote {json_file}")


def next_batch(trainer: Trainer, index: int) -> Batch:
    """Batch ``index`` of the first epoch, words left out as in training."""
    config = trainer.config
    rows = trainer.order[index * config.learning.batch : (index + 1) * config.learning.batch]
    rng = np.random.default_rng([config.run.seed, index])
    return trainer.gather.lookup(trainer.dataset.train, rows, config.learning.word_dropout, rng).whole()


@dataclass(frozen=True)
class Timed:
    """Gradients, and seconds of the free phase and of all."""

    gradients: Gradients
    free: float
    whole: float


def by_literal(config: RunConfig, network: Network, batch: Batch) -> Timed:
    """Algorithm 2: T steps, K steps twice, Eq. 18."""
    started = time.perf_counter()
    x, mask, labels, beta = batch.x, batch.mask, batch.labels, config.learning.beta
    settings = config.settings()
    rest = literal.free(network, x, mask, settings["free_steps"])
    free = time.perf_counter() - started
    plus, minus = (literal.nudge(network, x, mask, labels, rest, b, settings["nudge_steps"]) for b in (beta, -beta))
    gradients = eq_18(network, batch, plus, minus, beta)
    return Timed(gradients, free, time.perf_counter() - started)


def eq_18(network: Network, batch: Batch, plus: State, minus: State, beta: float) -> Gradients:
    """−Δθ, its products written out."""
    factor = -1 / (2 * beta * len(batch))
    found = {"w1": torch.einsum("bpnd,bpne->pde", batch.x, plus.projection - minus.projection) * factor}
    low_plus, low_minus = plus.projection.flatten(1), minus.projection.flatten(1)
    for index, (high_plus, high_minus) in enumerate(zip(plus.layers, minus.layers, strict=True), start=2):
        found[f"w{index}"] = (high_plus.T @ low_plus - high_minus.T @ low_minus) * factor
        found[f"b{index}"] = (high_plus - high_minus).sum(0) * factor
        low_plus, low_minus = high_plus, high_minus
    return found


def stage(config: RunConfig, network: Network, batches: list[Batch], texts: int, reporter: Reporter) -> dict[str, Any]:
    """All figures of one network."""
    backend, estimator = make_backend(config), make_estimator(config.learning)
    seconds: dict[str, list[float]] = {"ours": [], "ours_free": [], "ours_float32": []}
    in_full = replace(backend, dtype=torch.float32)  # type: ignore[type-var]
    sweeps: list[list[float]] = []
    for place, batch in enumerate(batches):
        for name, one in (("ours", backend), ("ours_float32", in_full)):
            started = time.perf_counter()
            estimate = estimator(one, network, batch)
            if place:  # the first warms up
                seconds[name].append(time.perf_counter() - started)
        if place:
            sweeps.append([float(phase.steps.double().mean()) for phase in estimate.equilibria])
        started = time.perf_counter()
        free_by_length(backend, network, batch)
        if place:
            seconds["ours_free"].append(time.perf_counter() - started)
    reporter.status("the literal algorithm, one batch")
    plain = by_literal(config, network, batches[1])
    reporter.status("the literal algorithm run to convergence, and cosines")
    few = Batch(batches[1].x[:texts], batches[1].mask[:texts], batches[1].labels[:texts])
    ours = median(seconds["ours"])
    return {
        "ratio": plain.whole / ours,
        "ratio_float32": plain.whole / median(seconds["ours_float32"]),
        "inference_ratio": plain.free / median(seconds["ours_free"]),
        "literal_seconds": plain.whole,
        "literal_free_seconds": plain.free,
        "seconds": seconds,
        "mean_sweeps": np.mean(sweeps, 0).tolist(),
        "real_tokens": float(batches[1].mask.double().mean()),
        "cosine_to_literal": cosines(estimator(backend, network, few).gradients, converged(config, network, few)),
        "cosine_to_float32": {
            f"beta {beta}": cosines(
                ByLength(ThreePhase(beta))(backend, network, batches[1]).gradients,
                ByLength(ThreePhase(beta))(in_full, network, batches[1]).gradients,
            )
            for beta in BETAS
        },
    }


def converged(config: RunConfig, network: Network, batch: Batch) -> Gradients:
    """Literal's gradients after as many steps as nothing changes any more, in float64."""
    wide, x = network.to(torch.float64), batch.x.double()
    target = F.one_hot(batch.labels, network.shape.classes).double()

    def settle(state: State, beta: float) -> State:
        for _ in range(MOST):
            new = literal.step(wide, x, batch.mask, state, beta * (target - state.output) if beta else None)
            change = largest_change((new.projection, *new.layers), (state.projection, *state.layers)).max()
            state = new
            if change < CONVERGED:
                break
        return state

    rest = settle(wide.rest(len(batch)), 0.0)
    plus, minus = settle(rest, config.learning.beta), settle(rest, -config.learning.beta)
    return local_update(wide, batch, plus - minus, 0.5 * (plus + minus), 1 / (2 * config.learning.beta))


def cosines(found: Gradients, truth: Gradients) -> dict[str, float]:
    """Of each parameter's gradient."""
    pairs = {name: (found[name].double().flatten(), value.double().flatten()) for name, value in truth.items()}
    return {name: float(a @ b / (a.norm() * b.norm())) for name, (a, b) in pairs.items()}


@torch.no_grad()
def peak(what: str, config: RunConfig, network: Network, batch: Batch) -> int:
    """Peak bytes of one batch in this fresh process; literal's after a few steps, as each takes the same.

    Weights and texts are there before, and so is what the libraries hold once they have computed anything at all.
    """
    keep_freed_memory()
    small = Shape(16, 8, (8, 8), network.shape.classes)
    subjects = [(Network.create(small, torch.Generator()), synthetic(small, 8)), (network, batch)]
    for tensor in (batch.x, *dict(network.named()).values()):
        tensor.sum()  # what another process has handed over is resident once it is read
    for net, texts in subjects:
        idle = resident("VmRSS")
        if what == "literal":
            by_literal(varied(config, free_steps=2, nudge_steps=1), net, texts)
        else:
            make_estimator(config.learning)(make_backend(config), net, texts)
    return resident() - idle


if __name__ == "__main__":
    tyro.cli(main)
