"""Does it settle? φ and the residual over all three phases, and what HopAttn does when it is applied again and again.

With stored patterns K = X (N, D), of which the longest has norm M, and inverse temperature β̂ (1/√D in HopAttn):

    E(ξ) = −lse(β̂, Kξ) + ½ ξᵀξ + ln(N)/β̂ + ½ M²,   lse(β̂, z) = ln(Σᵢ exp(β̂ zᵢ))/β̂     (Eq. 8)
    ξ ← softmax(β̂ Kξ) K, which never raises E

Small β̂ leads to a metastable state, the mean of many patterns; large β̂ retrieves one. Bal & Sengupta (2023), Section
3.5 and Fig. 2b; Ramsauer et al. (2021), who show that one step is all but enough for well separated patterns.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqspike_seq.checks.gradients import stages
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.dataset import Dataset
from eqspike_seq.learning.estimators import MakeBackend
from eqspike_seq.model.attention import hopattn
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.model.projection import prepare
from eqspike_seq.phases import RELAXED
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.equilibrium import Backend, Equilibrium
from eqspike_seq.relaxation.loop import loop_of
from eqspike_seq.runs.findings import (
    ConvergenceCheck,
    ConvergenceStage,
    Course,
    HopAttnTwice,
    LoopCheck,
    PhaseName,
    StageName,
    TemperatureSweep,
)

FREE_STEPS, NUDGE_STEPS = 50, 25
TEMPERATURES = tuple(float(t) for t in np.logspace(-2.5, 1.5, 17))  # β̂·√D: 1 is HopAttn's
UPDATES = 10
MOST_PATTERNS = 2000  # of a text that is swept


def over_time(network: Network, batch: Batch, beta: float) -> dict[PhaseName, Course]:
    """Mean φ and largest residual of every synchronous step of the three dense phases, float64, no early stop."""
    backend = DenseBackend(FREE_STEPS, NUDGE_STEPS, tolerance=-1.0, dtype=torch.float64, order="synchronous")
    network, batch = network.to(torch.float64), batch.to(torch.float64)
    return {
        name: Course(phi=found.trace["phi"].mean(1).tolist(), residual=found.trace["residual"].amax(1).tolist())
        for name, found in relaxed(backend, network, batch, beta).items()
    }


def over_readings(backend: Backend, network: Network, batch: Batch, beta: float) -> dict[PhaseName, Course]:
    """Mean φ and residual of the run's own backend, a value a reading."""
    return {
        name: Course(
            steps_between=found.reading_steps,
            phi=found.trace["phi"].mean(1).tolist(),
            residual=found.trace["residual"].mean(1).tolist(),
        )
        for name, found in relaxed(backend, network, batch, beta).items()
    }


def relaxed(backend: Backend, network: Network, batch: Batch, beta: float) -> dict[PhaseName, Equilibrium]:
    """The three phases, recorded."""
    free = backend.free(network, batch, record=True)
    plus, minus = backend.nudge(network, batch, free, (beta, -beta), record=True)
    return dict(zip(RELAXED, (free, plus, minus), strict=True))


def applied_twice(network: Network, batch: Batch) -> HopAttnTwice:
    """‖HopAttn(HopAttn(q)) − HopAttn(q)‖ / ‖HopAttn(q)‖ at the free fixed point, mean and largest over token rows."""
    inputs = prepare(network, batch, network.dtype)
    free = DenseBackend(FREE_STEPS, tolerance=1e-4).free(network, batch).rates
    query = inputs.drive + (free.layers[0] @ network.weights[0]).view(inputs.drive.shape)
    first = hopattn(query, inputs.patterns, inputs.bias)
    second = hopattn(first, inputs.patterns, inputs.bias)
    real = batch.mask[:, network.shape.queries]
    moved = ((second - first).norm(dim=-1) / first.norm(dim=-1).clamp(min=1e-12))[real]
    from_query = ((first - query).norm(dim=-1) / query.norm(dim=-1).clamp(min=1e-12))[real]
    return HopAttnTwice(
        second_less_first_mean=float(moved.mean()),
        second_less_first_max=float(moved.max()),
        first_less_query_mean=float(from_query.mean()),
    )


def loop_check(network: Network, batch: Batch) -> LoopCheck:
    """What the loop through HopAttn does to these texts."""
    loop = loop_of(network, batch)
    gain, apart = loop.gain, float(loop.apart.double().mean())
    return LoopCheck(texts=len(batch), gain_mean=float(gain.mean()), gain=float(gain.max()), apart=apart)


def hopfield_energy(state: Tensor, patterns: Tensor, inverse_temperature: float) -> Tensor:
    """E(ξ) of Eq. 8 for states (…, R, D) and patterns (…, N, D); (…, R)."""
    scores = inverse_temperature * state @ patterns.mT
    lse = torch.logsumexp(scores, -1) / inverse_temperature
    largest = patterns.square().sum(-1).amax(-1, keepdim=True)
    return 0.5 * state.square().sum(-1) - lse + math.log(patterns.shape[-2]) / inverse_temperature + 0.5 * largest


def temperature_sweep(text: Tensor, scale: float) -> TemperatureSweep:
    """From metastable to retrieval: the patterns ``text`` (N, D), each disturbed, relaxed by HopAttn's update at β̂.

    ``effective_patterns`` is exp(entropy) of the softmax at the end, N where all are mixed, 1 where one is retrieved;
    ``retrieved`` the share of states that ended nearest to their own pattern, at a distance below half its norm.
    """
    generator = torch.Generator().manual_seed(0)
    text = text.double().unique(dim=0)[:MOST_PATTERNS]
    noise = torch.randn(text.shape, generator=generator, dtype=torch.float64)
    start = text + 0.1 * text.norm(dim=-1, keepdim=True) * noise / noise.norm(dim=-1, keepdim=True)
    names = ("effective_patterns", "retrieved", "second_less_first", "largest_rise_of_energy")
    rows: dict[str, list[float]] = {name: [] for name in names}
    for relative in TEMPERATURES:
        beta = relative * scale
        course = [start]
        for _ in range(UPDATES):
            course.append(torch.softmax(beta * course[-1] @ text.T, -1) @ text)
        energy = torch.stack([hopfield_energy(state, text, beta) for state in course])
        p = torch.softmax(beta * course[-1] @ text.T, -1)
        distance = torch.cdist(course[-1], text)
        own = distance.argmin(1) == torch.arange(len(text))
        close = distance.diagonal() < 0.5 * text.norm(dim=-1)
        rows["effective_patterns"].append(float(torch.special.entr(p).sum(-1).exp().mean()))
        rows["retrieved"].append(float((own & close).double().mean()))
        rows["second_less_first"].append(
            float(((course[2] - course[1]).norm(dim=-1) / course[1].norm(dim=-1).clamp(min=1e-12)).mean())
        )
        rows["largest_rise_of_energy"].append(float(energy.diff(dim=0).max()))
    return TemperatureSweep(relative_inverse_temperature=list(TEMPERATURES), patterns=len(text), **rows)


@torch.no_grad()
def check_convergence(
    config: RunConfig, make_backend: MakeBackend, dataset: Dataset, run: Path | None, texts: int, reporter: Reporter
) -> ConvergenceCheck:
    """For each stage φ and the residual; of token queries also without HopAttn, and HopAttn applied again; of pooling
    queries and token layers the loop."""
    found = stages(config, dataset, run)
    rows = np.random.default_rng(config.run.seed).permutation(len(dataset.train))[:texts]
    checked: dict[StageName, ConvergenceStage] = {}
    with reporter.counting("checking", 2 * len(found)) as advance:
        for stage in found:
            batch, shape = stage.gather(dataset.train, rows), stage.network.shape
            about: dict[str, Any] = {"hopattn": over_time(stage.network, batch, config.learning.beta)}
            advance(1)
            learns_words = shape.pooling or bool(shape.compared)
            if learns_words and not shape.uniform:
                about["loop"] = loop_check(stage.network, batch)
            elif not learns_words:
                without = replace(stage.network, shape=replace(shape, attention=False))
                about["no_hopattn"] = over_time(without, batch, config.learning.beta)
                about["hopattn_twice"] = applied_twice(stage.network, batch)
            if config.backend.name == "spiking":
                about["spiking"] = over_readings(make_backend(config), stage.network, batch, config.learning.beta)
            checked[stage.name] = ConvergenceStage(**about)
            advance(1)
    lengths = batch.mask[:, 0].sum(1)
    longest = int(lengths.argmax())
    text = batch.x[longest, 0][batch.mask[longest, 0]]
    swept = temperature_sweep(text, 1 / math.sqrt(text.shape[1]))
    return ConvergenceCheck(
        settings=config.computed(), texts=texts, beta=config.learning.beta, stages=checked, hopfield=swept
    )
