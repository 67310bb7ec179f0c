"""The spiking backend for neurons that fire at most once a step, around a clocked HopAttn core.

Each step, every neuron above s¹ takes in the spikes that arrived and fires or not; spikes arrive one step later. The
core is read every ``tick_steps`` steps. Rates are spike counts over the last ``window`` steps of a phase divided by
``window``, and for s¹ its mean over the same steps; what synapses learn from is the rule's business (``plasticity``).
Both nudges start from the membranes that the free phase left. No autograd on this path: local products only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, SkipValidation
from torch import Tensor

from eqspike_seq.config.examples import ONLY_TEXTS
from eqspike_seq.config.section import Positive
from eqspike_seq.errors import ConfigError
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import FeedbackRule, Network, State
from eqspike_seq.model.projection import Layer
from eqspike_seq.model.synapses import ByRule, Products, read_below
from eqspike_seq.model.token_layer import TokenLayer
from eqspike_seq.phases import Phase
from eqspike_seq.relaxation.equilibrium import Backend, PhaseEnd
from neuromorphic.activity import Activity, change_of_halves, course_of_rates, events_by_tick, rates_by_tick
from neuromorphic.attention.clocked import (
    Circuit,
    Clocked,
    ClockedProjection,
    SoftmaxAnchor,
    SpikingProjection,
    Tick,
)
from neuromorphic.attention.token_rates import TokenRates, TokenRatesNudged, seen
from neuromorphic.neurons import IntegrateAndFire, Neuron, Noise
from neuromorphic.plasticity import Count, Rule, Side, Traced, local_products
from neuromorphic.population import Chain, Counts, NoTraces, Population, SlowTraces

TIE = 1e-3  # of one spike: the weight of the output trace where spike counts are equal


@dataclass(frozen=True)
class _Kept:
    """What nudges need of the free phase."""

    layer: Layer
    neurons: Population
    projection: ClockedProjection | TokenRates


@dataclass(frozen=True)
class _Course:
    """What drives the neurons above s¹ in a phase of ``steps``.

    ``put`` gives what s¹ puts out for r², ``pull`` the current into the output for its low-passed spikes.
    """

    projection: ClockedProjection | TokenRates | SoftmaxAnchor | TokenRatesNudged
    put: Callable[[Tensor], Tensor]
    steps: int
    pull: Callable[[Tensor], Tensor | float]
    traces: NoTraces | SlowTraces
    record: bool


@dataclass(frozen=True)
class RateCode(Backend):
    """Neurons that fire at most once a step, and whose rates are spike counts; HopAttn is read once a tick."""

    free_steps: Positive = 200
    """T, the number of time steps of the free phase."""
    nudge_steps: Positive = 200
    """K, the number of time steps of each nudge."""
    window: Annotated[int, Field(ge=2)] = 140
    """Number of steps at the end of a phase over which spikes are counted."""
    tick_steps: Positive = 20
    """M, the number of time steps between two readings of HopAttn."""
    feedback_tau: Annotated[float, Field(gt=0), ONLY_TEXTS] = 40.0
    """Time constant, in steps, of the low-pass filter before HopAttn's query."""
    output_tau: Annotated[float, Field(ge=1)] = 20.0
    """Time constant, in steps, of the output rate that the nudge uses."""
    tolerance: Annotated[float, Field(ge=0)] = 0.1
    """A phase counts as converged if the rates of the two halves of the window differ by no more than this."""

    def check(self) -> None:
        """Raises ConfigError unless phases and window are whole ticks, and the window lies within a phase."""
        for flag, value in (
            ("--window", self.window),
            ("--free-steps", self.free_steps),
            ("--nudge-steps", self.nudge_steps),
        ):
            if value % self.tick_steps:
                raise ConfigError(f"{flag}: got {value}, expected a multiple of --tick-steps {self.tick_steps}")
        if self.window > min(self.free_steps, self.nudge_steps):
            raise ConfigError(
                f"--window: got {self.window}, expected at most --free-steps {self.free_steps} and "
                f"--nudge-steps {self.nudge_steps}"
            )


@dataclass(frozen=True)
class SpikingBackend(RateCode):
    """Spiking neurons with a rate code, simulated in time steps.

    ``feedback_tau`` and ``output_tau`` (steps) low-pass what the query of s¹ and the nudge read. ``tolerance`` bounds
    the difference between the rates of the two halves of the window, which is the residual reported; a phase in which
    s¹ is read once has not converged, whatever that is. ``circuit`` computes HopAttn (``attention``). ``dtype`` is that
    of the N·D-sized products.
    """

    name: ClassVar[str] = "spiking"
    neuron: SkipValidation[Neuron] = IntegrateAndFire()
    circuit: SkipValidation[Circuit | None] = Clocked()
    rule: SkipValidation[Rule] = Count()
    dtype: torch.dtype = torch.float32
    feedback_rules: ClassVar[tuple[FeedbackRule, ...]] = ("plain",)
    together: ClassVar[int] = 64  # time steps are short: the more texts they are of, the less they cost

    def free(self, network: Network, batch: Batch, record: bool = False) -> PhaseEnd[_Kept]:
        """The free phase, from neurons at rest."""
        layer = (TokenLayer if network.shape.compared else Layer).of(network, batch, self.dtype)
        rest, chain = network.rest(len(batch)).layers, Chain(network)
        silent = rest[0].new_zeros(len(batch), 1, chain.size)
        noise = Noise(batch.seed, self.neuron.stochastic)
        traces = rest[0].unsqueeze(1).clone(), rest[-1].unsqueeze(1).clone()
        neurons = Population(chain, noise, self.neuron.rest(silent), silent, *traces)
        tick = Tick(self.tick_steps, self.neuron, noise)
        circuit = self.circuit if network.shape.attention else None
        projection: ClockedProjection | TokenRates
        if isinstance(layer, TokenLayer):
            projection = TokenRates.of(layer, batch, tick, self.feedback_tau)
        else:
            projection = (SpikingProjection.of if circuit is None else circuit.projection)(layer, batch, tick)
        course = _Course(projection, projection.free, self.free_steps, lambda _: 0.0, NoTraces(), record)
        counts = self._run(neurons, course)
        found = self._equilibrium(network, batch, course, counts, Phase.FREE)
        return replace(found, kept=_Kept(layer, neurons, projection))

    def nudge(
        self, network: Network, batch: Batch, start: PhaseEnd[_Kept], betas: tuple[float, ...], record: bool = False
    ) -> list[PhaseEnd[None]]:
        """All nudges side by side, each with a current β(y − r) into the output, r its low-passed spikes."""
        noise, groups = Noise(batch.seed + 1, self.neuron.stochastic, self.neuron.common_noise), len(betas)
        kept = start.kept
        neurons, target = kept.neurons.split(groups, noise), kept.layer.inputs.target
        trace = kept.neurons.feedback_trace[:, 0]
        projection = kept.projection.anchor(trace, start.rates.projection, groups, noise)
        strength = torch.tensor(betas, device=target.device, dtype=target.dtype).view(1, groups, 1)

        def pull(rate: Tensor) -> Tensor:
            return strength * (target.unsqueeze(1) - rate)

        traces = NoTraces()
        if isinstance(self.rule, Traced):
            s1 = projection.s1 if isinstance(projection, SoftmaxAnchor) else start.rates.projection
            begun = State(s1, start.rates.layers)
            gain = 1 - math.exp(-1 / self.rule.trace_tau)
            traces = SlowTraces(neurons.chain, gain, self.rule.follows == "events", begun, groups)
        course = _Course(projection, projection.change, self.nudge_steps, pull, traces, record)
        counts = self._run(neurons, course)
        return [self._equilibrium(network, batch, course, counts, Phase.of(beta), g) for g, beta in enumerate(betas)]

    def _run(self, neurons: Population, course: _Course) -> Counts:
        """Step all neurons, ``neurons`` in place."""
        steps, chain, traces = course.steps, neurons.chain, course.traces
        opening, middle = steps - self.window, steps - self.window // 2
        output, low_pass = chain.places[-1], 1 - math.exp(-self.tick_steps / self.feedback_tau)
        z, membrane, total = neurons.z, neurons.membrane, torch.zeros_like(neurons.z)
        opened, before, halfway, constant = membrane, total, total, total
        sent, projection = torch.zeros_like(neurons.feedback_trace), total.new_zeros(())
        outputs: list[Tensor] = []
        fired: list[list[Tensor]] = []
        spikes: list[Tensor] = []
        put_out: list[Tensor] = []
        for step in range(steps):
            if step == opening:
                before, opened = total.clone(), membrane
            if step == middle:
                halfway = total.clone()
            if step % self.tick_steps == 0:
                s1 = course.put(neurons.feedback_trace)
                constant = chain.constant(course.projection.current())
                traces.tick(s1, self.tick_steps)
                if course.record:
                    put_out.append(s1.to(total.dtype))
                inside = min(step + self.tick_steps, steps) - max(step, opening)
                if inside > 0:
                    put = s1.to(total.dtype)
                    projection = projection.add_(put, alpha=inside) if projection.dim() else put * inside
            u = chain.inputs(z, constant)
            u[..., output] += course.pull(neurons.output_trace)
            membrane, z = self.neuron.step(membrane, u, neurons.noise.draw(u))
            total += z
            traces.step(z)
            neurons.output_trace += (z[..., output] - neurons.output_trace) / self.output_tau
            if course.record:
                spikes.append(z)
            if (step + 1) % self.tick_steps == 0:
                counts = chain.layers(total)
                # spikes of the tick summed, then low-passed: over several ticks no spike is lost
                mean = (counts[0] - sent) / self.tick_steps
                neurons.feedback_trace += low_pass * (mean - neurons.feedback_trace)
                sent = counts[0].clone()
                fired.append([count.sum(2) for count in counts])
                outputs.append(counts[-1] + TIE * neurons.output_trace)
        neurons.membrane, neurons.z, window = membrane, z, total - before
        own = window + (membrane.v - opened.v) - (membrane.added - opened.added)
        totals, windows, late, owns = (chain.layers(values) for values in (total, window, total - halfway, own))
        projection = course.projection.whole(projection.div_(self.window))
        return Counts(chain, totals, windows, late, owns, projection, outputs, fired, spikes, put_out)

    def _equilibrium(
        self, network: Network, batch: Batch, course: _Course, counts: Counts, phase: Phase, group: int = 0
    ) -> PhaseEnd[Any]:
        """Rates, residual and ledger of one group from its counts."""
        of = counts.of(group)
        rates = State(of.projection, tuple(w / self.window for w in of.window))
        residual = change_of_halves(of.window, of.late, self.window)
        looped = network.shape.clamped or len(of.fired) > 1  # s¹ has heard of the layers above at least once
        first = course.projection.activity(group)
        activity = Activity.of_rates(network, batch, course.steps, first, [total.sum(1) for total in of.total])
        activity = replace(activity, words=course.traces.words, plastic=course.traces.keep)

        def products() -> Products:
            """What the synapses hold at the end of a phase by ``rule``."""
            counted = [read_below(network, batch, rates.projection), *rates.layers]
            owns = [counted[0], *((spikes / self.window).clamp(0, 1) for spikes in of.own)]
            ticks = self.window // self.tick_steps
            change, mean = course.projection.recall(ticks, group)
            states = (replace(rates, recall=change), replace(rates, recall=mean))
            if isinstance(course.projection, TokenRates):
                own = course.projection.own(ticks, group)
                mine = self.rule.input(Side(rates.projection, own, rates.projection, rates.projection))
                states, owns[0] = seen(mine, rates, (change, mean)), read_below(network, batch, own)
            sides = course.traces.sides(counted, owns, group)
            return local_products(self.rule, network, batch, sides[0], sides, states)

        return PhaseEnd(
            rates=rates,
            residual=residual,
            steps=torch.full_like(batch.labels, course.steps),
            converged=(residual <= self.tolerance) & looped,
            outputs=rates_by_tick(of.output, self.window // self.tick_steps, self.tick_steps),
            events=events_by_tick(network, batch, first, of.fired),
            ledger=activity.ledger(network, batch, phase),
            reading_steps=self.tick_steps,
            trace=self._recorded(network, course, counts, group) if course.record else {},
            synapses=ByRule(products),
            kept=None,
        )

    def _recorded(self, network: Network, course: _Course, counts: Counts, group: int) -> dict[str, Tensor]:
        """Spikes, residual and φ of a recorded phase."""
        raster = counts.chain.layers(torch.stack([z[:, group].bool() for z in counts.spikes]))
        sent = [course.projection.whole(s1)[:, group] for s1 in counts.sent]
        return {
            **{f"spikes_s{index}": spikes for index, spikes in enumerate(raster, start=2)},
            **course_of_rates(course.projection.layer.phi, raster, sent, self.tick_steps),
        }
