"""How good are the gradients? EP against BPTT over time, and spiking updates against converged dense Eq. 18.

*bptt*: EP against BPTT, see ``bptt``.
*eq18*: a spiking neuron, circuit and rule against Eq. 18 on dense rates that have converged, at the same β.
*offset*: sigma-delta against Eq. 18 of its own network, that of the coarse state it settled in: the same free phase,
as many steps of each nudge, but of size 10⁻⁵, with HopAttn itself in place of winners.

A network that has learnt its texts has outputs that are clipped by σ and do not answer to a nudge: there is no gradient
left, and the cosine of two numbers that are all but zero says nothing. Each stage is therefore examined with texts of
which enough still *teach* it; where there are too few, it is left out and ``stages`` says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqspike_seq.checks.bptt import CURVE_BETA, CURVE_STEPS, CURVE_TEXTS, against_bptt, compare, over_betas
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import Dataset, shape_of
from eqspike_seq.learning.estimators import ThreePhase
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.equilibrium import Backend
from eqspike_seq.runs.findings import (
    Agreement,
    GradientCheck,
    GradientCurves,
    GradientRecord,
    NudgeSizes,
    StageName,
    StageTexts,
)
from eqspike_seq.runs.weights import WEIGHTS, network_of, read_table

EXACT = DenseBackend(free_steps=300, nudge_steps=300, tolerance=1e-6)
TEACHES = 0.01  # |s⁺ − s⁻|/2β of an output unit from which a text teaches; with an error e it is e/2 unless clipped
ENOUGH = 1 / 8  # share of the texts drawn that have to teach
SEARCHED = 16  # times as many texts are searched for others


@dataclass(frozen=True)
class Stage:
    """A network at one moment of training."""

    name: StageName
    network: Network
    gather: Batches


def stages(config: RunConfig, dataset: Dataset, run: Path | None) -> list[Stage]:
    """The network before training and, of a run folder, in the middle and at the end. Raises RunError."""
    shape, gather = shape_of(config, dataset), Batches.of(config, dataset)
    found = [Stage("initial", config.network.create(shape, config.run.seed), gather)]
    if run is None:
        return found
    saved: dict[StageName, Path] = {
        "halfway": run / "halfway.safetensors",
        "end": run / WEIGHTS,
    }
    for name, path in saved.items():
        if path.is_file():
            learnt = replace(gather, table=read_table(run, path)) if shape.learnt else gather
            found.append(Stage(name, network_of(shape, path), learnt))
    return found


def teaching(network: Network, batch: Batch) -> tuple[Tensor, float]:
    """(which texts still teach the network (B,), share of them that it gets right), dense and converged."""
    free = EXACT.free(network, batch)
    plus, minus = EXACT.nudge(network, batch, free, (CURVE_BETA, -CURVE_BETA))
    moved = (plus.rates.output - minus.rates.output).abs().amax(1) / (2 * CURVE_BETA)
    right = free.rates.output.argmax(1) == batch.labels
    return moved > TEACHES, float(right.double().mean())


def texts_of(stage: Stage, config: RunConfig, dataset: Dataset, count: int) -> tuple[Batch | None, StageTexts]:
    """(the texts that a stage is compared with, None where too few teach; what there is to say of them).

    ``count`` training texts drawn at random where ``ENOUGH`` of them teach, some of the first ``CURVE_TEXTS`` too; else
    those that do among ``SEARCHED`` times as many, if they suffice for the curves.
    """
    order = np.random.default_rng(config.run.seed).permutation(len(dataset.train))[: SEARCHED * count]
    gather, first = stage.gather, stage.gather(dataset.train, order[:count])
    teaches, right = teaching(stage.network, first)
    teaching_texts = int(teaches.sum())

    def about(texts: int, note: str | None) -> StageTexts:
        return StageTexts(texts=texts, right=right, teaching=teaching_texts, note=note)

    if teaches.double().mean() >= ENOUGH and teaches[:CURVE_TEXTS].any():
        return first, about(len(first), None)
    looked = len(first)
    found = order[:looked][teaches.numpy()]
    while len(found) < count and looked < len(order):
        rows = order[looked : looked + count]
        found = np.concatenate([found, rows[teaching(stage.network, gather(dataset.train, rows))[0].numpy()]])
        looked += len(rows)
    said = (
        f"almost no gradient is left. Of {len(first)} training texts {right:.1%} are classified correctly, and "
        f"the outputs of {len(first) - teaching_texts} are clipped, so nudges do not move them. Of {looked} texts "
        f"{len(found)} still respond"
    )
    if len(found) < min(CURVE_TEXTS, count):
        return None, about(0, f"{said}: too few to compare gradients, so this stage is skipped.")
    found = found[:count]
    return gather(dataset.train, found), about(len(found), f"{said}: {len(found)} of these are compared.")


def recorded(agreements: list[Agreement], **about: Any) -> list[GradientRecord]:
    """Records of these parameters, the other fields of each from ``about``."""
    return [GradientRecord(**vars(agreement), **about) for agreement in agreements]


@dataclass(frozen=True)
class Rival:
    """A spiking backend whose gradients are compared, and what records say of it (neuron, circuit, rule, steps).

    ``window`` is that of a rate code, else None; ``own``, where there is one, has nudges that are all but continuous:
    from the rival's free phase they give the gradient of the network that its coarse spikes settle.
    """

    backend: Backend
    about: dict[str, Any]
    window: int | None = None
    own: Backend | None = None


@dataclass(frozen=True)
class Extent:
    """How much is compared: training ``texts``, the influence factors ``betas``, and the ``rivals``."""

    texts: int
    betas: tuple[float, ...]
    rivals: tuple[Rival, ...]

    @property
    def steps(self) -> int:
        """Comparisons at a stage: that of EP with BPTT, and each rival's at each β."""
        return 1 + len(self.betas) * len(self.rivals)


def records_of(stage: Stage, batch: Batch, extent: Extent) -> Iterator[list[GradientRecord]]:
    """Records of every rival at every β, a list for each."""
    for beta in extent.betas:
        truth = ThreePhase(beta)(EXACT, stage.network, batch).gradients
        for rival in extent.rivals:
            estimate = ThreePhase(beta)(rival.backend, stage.network, batch)
            about = {"window": rival.window, "beta": beta, **rival.about, "stage": stage.name}
            found = recorded(compare(estimate.gradients, truth), reference="eq18", **about)
            if rival.own is not None:
                own = ThreePhase(beta, rival.own)(rival.backend, stage.network, batch).gradients
                found += recorded(compare(estimate.gradients, own), reference="offset", **about)
            yield found


@torch.no_grad()
def check_gradients(
    config: RunConfig, dataset: Dataset, run: Path | None, extent: Extent, reporter: Reporter
) -> GradientCheck:
    """Records of both comparisons at every stage, curves of the first over time and, with pooling queries, over β."""
    records: list[GradientRecord] = []
    curves: dict[StageName, dict[str, GradientCurves]] = {}
    about: dict[StageName, StageTexts] = {}
    over_beta: dict[StageName, NudgeSizes] = {}
    found = stages(config, dataset, run)
    none = {"window": None, "beta": CURVE_BETA, "neuron": None, "circuit": None, "rule": None}
    with reporter.counting("checking", len(found) * extent.steps) as advance:
        for stage in found:
            batch, about[stage.name] = texts_of(stage, config, dataset, extent.texts)
            if batch is None:
                advance(extent.steps)
                continue
            short, curves[stage.name] = against_bptt(stage.network, batch, CURVE_BETA, CURVE_STEPS)
            records += recorded(short, reference="bptt", stage=stage.name, **none)
            if stage.network.shape.pooling or stage.network.shape.compared:
                over_beta[stage.name] = over_betas(stage.network, batch)
            advance(1)
            for more in records_of(stage, batch, extent):
                records += more
                advance(1)
    return GradientCheck(
        settings=config.computed(),
        records=records,
        curves=curves,
        texts=extent.texts,
        curve_texts=min(extent.texts, CURVE_TEXTS),
        stages=about,
        over_beta=over_beta,
    )
