"""How good are the gradients? EP against BPTT over time, and spiking updates against converged dense Eq. 18.

The records say for each parameter, with g the gradient examined and r the reference,

    cosine = g·r/(‖g‖‖r‖),   relative RMSE = ‖g − r‖/‖r‖.

*bptt*: EP with nudges ±β, cut off after t = 1, 2, … steps, against BPTT through the last t steps: the
gradient-descending updates of Bal & Sengupta (2023), Eq. 5–6 and Fig. 2a (Ernoult et al. 2019). Synchronous updates,
float64, no early stop.
*eq18*: a spiking neuron, circuit and rule against Eq. 18 on dense rates that have converged, at the same β.
*offset*: sigma-delta against Eq. 18 of its own network, that of the coarse state it settled in: the same free phase,
as many steps of each nudge, but of size 10⁻⁵, with HopAttn itself in place of winners.

A network that has learnt its texts has outputs that are clipped by σ and do not answer to a nudge: there is no gradient
left, and the cosine of two numbers that are all but zero says nothing. Each stage is therefore looked at with texts of
which enough still *teach* it; where there are too few, it is left out and ``stages`` says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.batches import Batches, random_batch
from eqspike_seq.data.dataset import Dataset, shape_of
from eqspike_seq.learning.estimators import MakeBackend, ThreePhase
from eqspike_seq.learning.trainer import initial_network
from eqspike_seq.model.network import Batch, Network, State
from eqspike_seq.model.projection import DenseProjection
from eqspike_seq.model.synapses import Gradients, local_update
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend, sweep
from eqspike_seq.relaxation.equilibrium import Backend, PhaseEnd
from eqspike_seq.runs.weights import network_of

CURVE_TEXTS = 16  # in float64
CURVE_STEPS, CURVE_BETA = 30, 0.01
EXACT = DenseBackend(free_steps=300, nudge_steps=300, tolerance=1e-6)
TEACHES = 0.01  # |s⁺ − s⁻|/2β of an output unit from which a text teaches; with an error e it is e/2 unless clipped
ENOUGH = 1 / 8  # share of the texts drawn that have to teach
SEARCHED = 16  # times as many texts are searched for others
FOLLOWED = 4  # single weights of each parameter whose updates over time are kept


@dataclass(frozen=True)
class Stage:
    """A network at one moment of training: "initial", "halfway" or "end"."""

    name: str
    network: Network


def stages(config: RunConfig, dataset: Dataset, run: Path | None) -> list[Stage]:
    """The network before training and, of a run folder, in the middle and at the end. Raises RunError."""
    shape = shape_of(config, dataset)
    found = [Stage("initial", initial_network(config, shape))]
    if run is None:
        return found
    for name, path in (
        ("halfway", run / "halfway.safetensors"),
        ("end", run / "checkpoint" / "model.safetensors"),
    ):
        if not path.is_file():
            continue
        found.append(Stage(name, network_of(shape, path)))
    return found


@dataclass(frozen=True)
class Looked:
    """The texts that a stage is looked at with, None where there are none for it, and what ``stages`` says of them."""

    batch: Batch | None
    about: dict[str, Any]


def teaching(network: Network, batch: Batch) -> tuple[Tensor, float]:
    """(which texts still teach the network (B,), share of them that it gets right), dense and converged."""
    free = EXACT.free(network, batch)
    plus, minus = EXACT.nudge(network, batch, free, (CURVE_BETA, -CURVE_BETA))
    moved = (plus.rates.output - minus.rates.output).abs().amax(1) / (2 * CURVE_BETA)
    right = free.rates.output.argmax(1) == batch.labels
    return moved > TEACHES, float(right.double().mean())


def texts_of(stage: Stage, config: RunConfig, dataset: Dataset, count: int) -> Looked:
    """``count`` training texts drawn at random where ``ENOUGH`` of them teach, some of the first ``CURVE_TEXTS`` too;
    else those that do among ``SEARCHED`` times as many, if they suffice for the curves."""
    order = np.random.default_rng(config.seed).permutation(len(dataset.train))[: SEARCHED * count]
    gather, first = Batches.of(config, dataset), random_batch(config, dataset, count)
    teaches, right = teaching(stage.network, first)
    about: dict[str, Any] = {"texts": len(first), "right": right, "teaching": int(teaches.sum()), "note": None}
    if teaches.double().mean() >= ENOUGH and teaches[:CURVE_TEXTS].any():
        return Looked(first, about)
    looked = len(first)
    found = order[:looked][teaches.numpy()]
    while len(found) < count and looked < len(order):
        rows = order[looked : looked + count]
        found = np.concatenate([found, rows[teaching(stage.network, gather(dataset.train, rows))[0].numpy()]])
        looked += len(rows)
    said = (
        f"almost no gradient is left. Of {len(first)} training texts {right:.1%} are classified correctly, and "
        f"the outputs of {len(first) - about['teaching']} are clipped, so nudges do not move them. Of {looked} texts "
        f"{len(found)} still respond"
    )
    if len(found) < min(CURVE_TEXTS, count):
        note = f"{said}: too few to compare gradients, so this stage is skipped."
        return Looked(None, {**about, "texts": 0, "note": note})
    found = found[:count]
    note = f"{said}: {len(found)} of these are compared."
    return Looked(gather(dataset.train, found), {**about, "texts": len(found), "note": note})


@dataclass(frozen=True)
class FineNudges:
    """A sigma-delta backend whose free phase is that of ``coarse`` and whose nudges are those of ``fine``."""

    coarse: Backend
    fine: Backend
    together: ClassVar[int] = 32

    @property
    def dtype(self) -> torch.dtype:
        """Of both."""
        return self.coarse.dtype

    @classmethod
    def of(cls, config: RunConfig, make_backend: MakeBackend) -> "FineNudges":
        """The backend of ``config``, and the same with nudges all but continuous."""
        fine: dict[str, Any] = {"nudge_threshold": 1e-5, "projection_nudge_threshold": 1e-5}
        fine |= {"rule": "membrane", "circuit": "clocked", "query_threshold": 0.0}
        return cls(make_backend(config), make_backend(RunConfig(**{**config.model_dump(), **fine})))

    def free(self, network: Network, batch: Batch, record: bool = False) -> PhaseEnd[Any]:
        """The coarse free phase."""
        return self.coarse.free(network, batch, record)

    def nudge(
        self, network: Network, batch: Batch, start: PhaseEnd[Any], betas: tuple[float, ...], record: bool = False
    ) -> list[PhaseEnd[None]]:
        """The fine nudges."""
        return self.fine.nudge(network, batch, start, betas, record)


def compare(found: Gradients, truth: Gradients, **about: Any) -> list[dict[str, Any]]:
    """A record for each parameter; cosine and error are None where the reference is zero."""
    records = []
    for name, value in truth.items():
        g, r = found[name].double().flatten(), value.double().flatten()
        silent = not bool(r.any())
        records.append(
            {
                "parameter": name,
                "cosine": None if silent else float(F.cosine_similarity(g, r, 0)),
                "relative_rmse": None if silent else float((g - r).norm() / r.norm()),
                **about,
            }
        )
    return records


def ep_course(projection: DenseProjection, batch: Batch, free: State, beta: float, steps: int) -> list[Gradients]:
    """−Δθ of Eq. 18 as it stands after 1, 2, … steps of both nudges, synchronous."""
    plus, minus, course = free, free, []
    for _ in range(steps):
        plus = sweep(projection, plus, beta, order="synchronous")
        minus = sweep(projection, minus, -beta, order="synchronous")
        difference, mean = plus + minus.scaled(-1), (plus + minus).scaled(0.5)
        course.append(local_update(projection.network, batch, difference, mean, scale=1 / (2 * beta)))
    return course


def bptt_course(network: Network, batch: Batch, free: State, steps: int) -> list[Gradients]:
    """−dL/dθ through the last 1, 2, … steps before the fixed point ``free``, each a synchronous sweep.

    At a fixed point all steps have the same Jacobians, so one recorded sweep is pulled back through again and again.
    """
    held = network.shape.clamped  # then s¹ is the input and no state
    names, values = zip(*network.named(), strict=True)
    parameters = [value.detach().clone().requires_grad_() for value in values]
    stack = parameters if held else parameters[1:]  # w2, b2, w3, b3, …
    traced = Network(network.shape, network.w1 if held else parameters[0], stack[::2], stack[1::2])
    state = [layer.detach().clone().requires_grad_() for layer in (*(() if held else (free.projection,)), *free.layers)]
    with torch.enable_grad():
        projection = DenseProjection.of(traced, batch, network.w1.dtype)
        before = State(free.projection, tuple(state)) if held else State(state[0], tuple(state[1:]))
        after = sweep(projection, before, order="synchronous")
    outputs = [*(() if held else (after.projection,)), *after.layers]
    pulled = [torch.zeros_like(layer) for layer in outputs]
    pulled[-1] = (free.output - projection.inputs.target) / len(batch)
    total = [torch.zeros_like(parameter) for parameter in parameters]
    course = []
    for _ in range(steps):
        found = torch.autograd.grad(
            outputs, [*state, *parameters], pulled, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        pulled = list(found[: len(state)])
        total = [sum_ + step for sum_, step in zip(total, found[len(state) :], strict=True)]
        course.append(dict(zip(names, total, strict=True)))
    return course


def against_bptt(
    network: Network, batch: Batch, beta: float, steps: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(records after ``steps`` steps, curves over time of every parameter) of EP against BPTT."""
    network = network.to(torch.float64)
    few = Batch(batch.x[:CURVE_TEXTS].double(), batch.mask[:CURVE_TEXTS], batch.labels[:CURVE_TEXTS])
    backend = DenseBackend(free_steps=1000, tolerance=1e-13, dtype=torch.float64)
    free = backend.free(network, few).rates
    ep = ep_course(DenseProjection.of(network, few, torch.float64), few, free, beta, steps)
    bptt = bptt_course(network, few, free, steps)
    by_step = [{r["parameter"]: r for r in compare(e, b)} for e, b in zip(ep, bptt, strict=True)]
    rng = np.random.default_rng(0)
    curves: dict[str, Any] = {}
    for name, value in bptt[-1].items():
        largest = value.abs().flatten().topk(min(100, value.numel())).indices.numpy()
        followed = rng.choice(largest, min(FOLLOWED, len(largest)), replace=False)
        curves[name] = {
            "cosine": [records[name]["cosine"] for records in by_step],
            "relative_rmse": [records[name]["relative_rmse"] for records in by_step],
            "followed": followed.tolist(),
            "ep": [e[name].flatten()[followed].tolist() for e in ep],
            "bptt": [b[name].flatten()[followed].tolist() for b in bptt],
        }
    return list(by_step[-1].values()), curves


def scaled_to_window(config: RunConfig, window: int) -> RunConfig:
    """The settings with T, K and the window lengthened alike, in whole ticks."""
    if config.neuron == "sigma-delta":
        return config
    tick, settings = config.tick_steps, config.model_dump()
    for name in ("free_steps", "nudge_steps"):
        settings[name] = round(window * settings[name] / config.window / tick) * tick
    return RunConfig(**{**settings, "window": window})


def records_of(
    stage: Stage,
    batch: Batch,
    betas: tuple[float, ...],
    settings: dict[int | None, RunConfig],
    make_backend: MakeBackend,
) -> Iterator[list[dict[str, Any]]]:
    """Records of a spiking neuron, circuit and rule, a list for each β and each of ``settings`` by its window."""
    for beta in betas:
        truth = ThreePhase(beta)(EXACT, stage.network, batch).gradients
        for window, spiking in settings.items():
            estimate = ThreePhase(beta)(make_backend(spiking), stage.network, batch)
            about = {
                "reference": "eq18",
                "window": window,
                "free_steps": spiking.free_steps,
                "nudge_steps": spiking.nudge_steps,
                "beta": beta,
                "neuron": spiking.neuron,
                "circuit": spiking.circuit if spiking.attention else None,
                "rule": spiking.rule,
                "stage": stage.name,
            }
            found = compare(estimate.gradients, truth, **about)
            if window is None:
                own = ThreePhase(beta)(FineNudges.of(spiking, make_backend), stage.network, batch).gradients
                found += compare(estimate.gradients, own, **{**about, "reference": "offset"})
            yield found


@torch.no_grad()
def check_gradients(
    config: RunConfig,
    make_backend: MakeBackend,
    dataset: Dataset,
    run: Path | None,
    texts: int,
    betas: tuple[float, ...],
    windows: tuple[int, ...],
    reporter: Reporter,
) -> dict[str, Any]:
    """What ``checks/gradients.json`` holds: records of both comparisons at every stage, curves of the first."""
    records: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}
    about: dict[str, Any] = {}
    settings: dict[int | None, RunConfig] = {None: config}
    if config.neuron != "sigma-delta":
        settings = {window: scaled_to_window(config, window) for window in windows}
    found = stages(config, dataset, run)
    none = {"window": None, "beta": CURVE_BETA, "neuron": None, "circuit": None, "rule": None}
    with reporter.checking(len(found) * (1 + len(betas) * len(settings))) as advance:
        for stage in found:
            looked = texts_of(stage, config, dataset, texts)
            about[stage.name] = looked.about
            if looked.batch is None:
                for _ in range(1 + len(betas) * len(settings)):
                    advance()
                continue
            short, curves[stage.name] = against_bptt(stage.network, looked.batch, CURVE_BETA, CURVE_STEPS)
            records += [{**record, "reference": "bptt", **none, "stage": stage.name} for record in short]
            advance()
            for more in records_of(stage, looked.batch, betas, settings, make_backend):
                records += more
                advance()
    return {
        "settings": config.computed(),
        "records": records,
        "curves": curves,
        "texts": texts,
        "curve_texts": min(texts, CURVE_TEXTS),
        "stages": about,
    }
