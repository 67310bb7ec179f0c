"""The same spiking network in Brian2: an independent simulator, for parity and as a baseline.

Neurons and synapses are Brian's (one NeuronGroup a layer, the texts of a batch side by side in it); the clocked HopAttn
core, of token or of pooling queries, is written out in numpy, one softmax after the other. Everything is float64. A
step is 1 ms of Brian's time, in which neurons take in what arrived, fire, deliver to the next step and reset, in
Brian's standard order of slots.
Source: Stimberg, Brette & Goodman (2019), Brian 2.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import SkipValidation

from eqspike_seq.errors import ConfigError
from eqspike_seq.ledger import HopAttnActivity, row_tokens
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, State, phi
from eqspike_seq.model.projection import prepare
from eqspike_seq.model.synapses import Rates
from eqspike_seq.phases import Phase
from eqspike_seq.relaxation.equilibrium import PhaseEnd
from neuromorphic.activity import (
    Activity,
    ProjectionActivity,
    change_of_halves,
    course_of_rates,
    events_by_tick,
    rates_by_tick,
)
from neuromorphic.attention.clocked import Clocked
from neuromorphic.neurons import IntegrateAndFire
from neuromorphic.plasticity import Count
from neuromorphic.rate_code import RateCode

Array = NDArray[np.float64]
MODEL = """
v : 1
arrived : 1
constant_current : 1
target : 1
rate : 1
fired : 1
"""


@dataclass
class _State:
    """Where a phase ended: per layer (B, H) membranes and what arrives next; low-passed s² and sⁿ."""

    v: list[Array]
    arrived: list[Array]
    feedback: Array
    rate: Array


@dataclass(frozen=True)
class BrianBackend(RateCode):
    """Integrate-and-fire neurons in Brian2 with a clocked HopAttn core; same spikes as ``SpikingBackend``."""

    name: ClassVar[str] = "brian2"
    dtype: torch.dtype = torch.float64
    neuron: SkipValidation[IntegrateAndFire] = IntegrateAndFire()
    circuit: SkipValidation[Clocked | None] = Clocked()
    rule: SkipValidation[Count] = Count()
    together: ClassVar[int] = 32

    def check(self) -> None:
        """Raises ConfigError for what is not simulated here."""
        super().check()
        choices = {"neuron": (self.neuron, "if"), "rule": (self.rule, "count"), "circuit": (self.circuit, "clocked")}
        for flag, (got, only) in choices.items():
            if got is not None and got.name != only:
                raise ConfigError(f"--{flag}: got {got.name}, expected {only}: --backend brian2 simulates nothing else")

    def free(self, network: Network, batch: Batch, record: bool = False) -> PhaseEnd[_State]:
        """The free phase, from neurons at rest."""
        count, sizes = len(batch), network.shape.sizes[1:]
        start = _State(
            [np.full((count, size), self.neuron.start) for size in sizes],
            [np.zeros((count, size)) for size in sizes],
            np.full((count, sizes[0]), 0.5),
            np.full((count, sizes[-1]), 0.5),
        )
        return self._phase(network, batch, start, self.free_steps, 0.0)

    def nudge(
        self, network: Network, batch: Batch, start: PhaseEnd[_State], betas: tuple[float, ...], record: bool = False
    ) -> list[PhaseEnd[None]]:
        """One after the other, each from where the free phase ended."""
        found = (self._phase(network, batch, start.kept, self.nudge_steps, beta) for beta in betas)
        return [replace(end, kept=None) for end in found]

    def _phase(self, network: Network, batch: Batch, start: _State, steps: int, beta: float) -> PhaseEnd[Any]:
        core = _Core(network, batch)
        trains, end = self._simulate(core, start, steps, beta)
        ticks, exact = core.put_out, network.to(torch.float64)
        drive = prepare(exact, batch, torch.float64).drive
        rasters, opening = [torch.from_numpy(train) for train in trains], steps - self.window
        counts = [raster[opening:].sum(0) for raster in rasters]
        late = [raster[steps - self.window // 2 :].sum(0) for raster in rasters]
        inside = [min(t + self.tick_steps, steps) - max(t, opening) for t in range(0, steps, self.tick_steps)]
        held = [torch.from_numpy(s1) * max(share, 0) for s1, share in zip(ticks, inside, strict=True)]
        recall = core.recall(self.window // self.tick_steps)
        rates = State(torch.stack(held).sum(0) / self.window, tuple(c / self.window for c in counts), recall)
        residual = change_of_halves(counts, late, self.window)
        # spikes so far at each tick, of each layer (B, Hᵢ)
        so_far = [raster.unflatten(0, (len(ticks), -1)).sum(1).cumsum(0) for raster in rasters]
        fired = [list(layers) for layers in zip(*(layer.sum(2) for layer in so_far), strict=True)]
        rows = len(ticks) * row_tokens(network.shape, batch.mask)[0]
        retrievals = torch.full_like(rows[:, 0], len(ticks))
        first = ProjectionActivity(retrievals, HopAttnActivity(rows, retrievals))
        activity = Activity.of_rates(network, batch, steps, first, fired[-1])
        return PhaseEnd(
            rates=rates,
            residual=residual,
            steps=torch.full_like(batch.labels, steps),
            converged=(residual <= self.tolerance) & (len(ticks) > 1),
            outputs=rates_by_tick(list(so_far[-1]), self.window // self.tick_steps, self.tick_steps),
            events=events_by_tick(network, batch, first, fired),
            ledger=activity.ledger(network, batch, Phase.of(beta) if beta else Phase.FREE),
            reading_steps=self.tick_steps,
            trace={
                **{f"spikes_s{i}": raster > 0 for i, raster in enumerate(rasters, start=2)},
                **course_of_rates(
                    partial(phi, exact, drive), rasters, list(map(torch.from_numpy, ticks)), self.tick_steps
                ),
            },
            synapses=Rates(rates),
            kept=end,
        )

    def _simulate(self, core: "_Core", start: _State, steps: int, beta: float) -> tuple[list[Array], _State]:
        """(spikes (steps, B, H) of each layer above s¹, the state at the end); ``core`` is read at each tick."""
        import brian2 as b2

        b2.prefs.codegen.target = "numpy"
        network, batch = core.network, core.batch
        weights = [w.double().numpy() for w in network.weights]
        biases = [b.double().numpy() for b in network.biases]
        count, sizes = len(batch), network.shape.sizes[1:]
        clock = b2.Clock(dt=1 * b2.ms)
        groups, monitors = stack(b2, clock, biases, count, beta, self)
        for group, v, arrived in zip(groups, start.v, start.arrived, strict=True):
            group.v, group.arrived = v.ravel(), arrived.ravel()
        groups[-1].rate = start.rate.ravel()
        groups[-1].target = torch.nn.functional.one_hot(batch.labels, network.shape.classes).double().numpy().ravel()
        synapses = connect(b2, clock, groups, weights, count)
        trace, sent = start.feedback.copy(), np.zeros((count, sizes[0]))
        gain = 1 - math.exp(-self.tick_steps / self.feedback_tau)

        def close_tick() -> None:
            nonlocal trace, sent
            fired = np.array(monitors[0].count, dtype=np.float64).reshape(count, sizes[0])
            trace = trace + gain * ((fired - sent) / self.tick_steps - trace)
            sent = fired

        def tick(t: Any) -> None:
            step = round(float(t / clock.dt))
            if step % self.tick_steps:
                return
            if step:
                close_tick()
            s1 = core.tick(trace)
            groups[0].constant_current = (biases[0] + s1.reshape(count, -1) @ weights[0].T).ravel()

        operation = b2.NetworkOperation(tick, clock=clock, when="start")
        b2.Network(*groups, *monitors, *synapses, operation).run(steps * b2.ms, namespace={})
        close_tick()
        rasters = []
        for monitor, size in zip(monitors, sizes, strict=True):
            raster = np.zeros((steps, count * size))
            raster[np.rint(np.asarray(monitor.t / clock.dt)).astype(int), np.asarray(monitor.i)] = 1
            rasters.append(raster.reshape(steps, count, size))
        end = _State(
            [np.array(group.v).reshape(count, -1) for group in groups],
            [np.array(group.arrived).reshape(count, -1) for group in groups],
            trace,
            np.array(groups[-1].rate).reshape(count, -1),
        )
        return rasters, end


class _Core:
    """HopAttn in plain numpy, one row of one text at a time; ``heard`` (B, H) and ``put_out`` s¹ at each tick."""

    def __init__(self, network: Network, batch: Batch) -> None:
        self.network, self.batch = network, batch
        self.w2, self.asking, self.x = (t.double().numpy() for t in (network.weights[0], network.asking, batch.x))
        self.mask = batch.mask.numpy()
        self.counts = np.ones(self.mask.shape) if batch.counts is None else batch.counts.double().numpy()
        self.heard: list[Array] = []
        self.put_out: list[Array] = []

    def tick(self, feedback: Array) -> Array:
        """s¹ (B, P, R, D) of this tick, from the low-passed spikes of s² (B, H)."""
        self.heard.append(feedback)
        self.put_out.append(self.found(feedback)[0])
        return self.put_out[-1]

    def recall(self, ticks: int) -> tuple[torch.Tensor, ...]:
        """(p, q̂/τ) at the mean of what was heard in the last ``ticks``; () where patterns are not learnt."""
        if not self.network.shape.learnt:
            return ()
        return tuple(map(torch.from_numpy, self.found(np.mean(self.heard[-ticks:], 0))[1:]))

    def found(self, feedback: Array) -> tuple[Array, Array, Array]:
        """(s¹ (B, P, R, D), p (B, P, R, N), q̂/τ (B, P, R, D)); 0 in rows of padding or without a pattern."""
        shape = self.network.shape
        size = (len(feedback), len(shape.projections), shape.rows, shape.dim)
        down = (feedback @ self.w2).reshape(size) / shape.temperature
        s1, shares, queries = np.zeros(size), np.zeros((*size[:3], self.x.shape[2])), np.zeros(size)
        for text, place, row in np.ndindex(size[:3]):
            asks, key = shape.projections[place]
            stored = self.mask[text, key] if shape.masked else np.ones(self.x.shape[2], dtype=bool)
            if not stored.any() or (shape.masked and not shape.pooling and not self.mask[text, asks, row]):
                continue
            own = self.asking[place, row] if shape.pooling else self.x[text, asks, row] @ self.asking[place]
            query, patterns = own + down[text, place, row], self.x[text, key][stored]
            scores = patterns @ query / math.sqrt(shape.dim) + np.log(self.counts[text, key][stored])
            p = np.exp(scores - scores.max())
            p /= p.sum()
            s1[text, place, row], queries[text, place, row] = p @ patterns, query
            shares[text, place, row, stored] = p
        return s1, shares, queries


def stack(
    b2: Any, clock: Any, biases: list[Array], count: int, beta: float = 0.0, of: BrianBackend = BrianBackend()
) -> tuple[list[Any], list[Any]]:
    """(a NeuronGroup, a SpikeMonitor) for each layer above s¹, ``count`` texts side by side."""
    groups, monitors, neuron = [], [], of.neuron
    for bias in biases:
        last = bias is biases[-1]
        group = b2.NeuronGroup(
            count * len(bias), MODEL, threshold="v > 1", reset="v -= 1\nfired = 1", method="euler", clock=clock
        )
        group.v = neuron.start
        group.constant_current = np.tile(bias, count)
        nudge = f" + {beta!r} * (target - rate)" if last and beta else ""
        group.run_regularly(
            f"v = v + 0.5 * (constant_current + arrived{nudge})\narrived = 0", clock=clock, when="groups"
        )
        after = f"v = clip(v, {neuron.low!r}, {neuron.high!r})"
        after += f"\nrate = rate + (fired - rate) / {of.output_tau!r}\nfired = 0"
        group.run_regularly(after, clock=clock, when="end")
        groups.append(group)
        monitors.append(b2.SpikeMonitor(group))
    return groups, monitors


def connect(b2: Any, clock: Any, groups: list[Any], weights: list[Array], count: int) -> list[Any]:
    """Symmetric synapses between neighbouring layers above s¹, each text to itself."""
    made = []
    for low, high, weight in zip(groups[:-1], groups[1:], weights[1:], strict=True):
        post, pre = weight.shape
        text, j, i = (a.ravel() for a in np.meshgrid(range(count), range(post), range(pre), indexing="ij"))
        for source, target, from_, to in (
            (low, high, text * pre + i, text * post + j),
            (high, low, text * post + j, text * pre + i),
        ):
            synapses = b2.Synapses(source, target, "w : 1", on_pre="arrived_post += w", clock=clock)
            synapses.connect(i=from_, j=to)
            synapses.w = weight[j, i]
            made.append(synapses)
    return made
