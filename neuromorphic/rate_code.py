"""The spiking backend for neurons that fire at most once a step, around a clocked HopAttn core.

Each step, every neuron above s¹ takes in the spikes that arrived and fires or not; spikes arrive one step later. The
core is read every ``tick_steps`` steps. Rates are spike counts over the last ``window`` steps of a phase divided by
``window``, and for s¹ its mean over the same steps; what synapses learn from is the rule's business (``plasticity``).
Both nudges start from the membranes that the free phase left. No autograd on this path: local products only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from eqspike_seq.ledger import real_units, row_tokens
from eqspike_seq.model.network import Batch, Network, Product, State, phi
from eqspike_seq.model.projection import Inputs, prepare
from eqspike_seq.phases import Phase
from eqspike_seq.relaxation.equilibrium import Equilibrium
from neuromorphic.circuits import ClockedCore, ClockedNudges
from neuromorphic.events import Activity, AttentionEvents, fan_outs, spiking_ledger
from neuromorphic.neurons import IntegrateAndFire, Neuron, Noise
from neuromorphic.plasticity import Count, Rule, Side, local_products
from neuromorphic.population import Chain, Counts, Population, SlowTraces
from neuromorphic.winners import uniform

TIE = 1e-3  # of one spike: the weight of the output trace where spike counts are equal


@dataclass
class _Memory:
    """What nudges need of the free phase."""

    inputs: Inputs
    chain: Chain
    neurons: Population
    core: ClockedCore


@dataclass(frozen=True)
class SpikingBackend:
    """Phases of ``free_steps`` and ``nudge_steps`` steps of ``neuron``, whose synapses learn by ``rule``.

    ``feedback_tau`` and ``output_tau`` (steps) low-pass what the core's query and the nudge read. ``tolerance`` bounds
    the difference between the rates of the two halves of the window, which is the residual reported; a phase in which
    the core is read once has not converged, whatever that is. ``dtype`` is that of the N·D-sized products.
    """

    free_steps: int = 200
    nudge_steps: int = 200
    window: int = 140
    tick_steps: int = 20
    feedback_tau: float = 40.0
    output_tau: float = 20.0
    trace_tau: float = 200.0
    tolerance: float = 0.1
    common_noise: bool = True
    circuit: str = "clocked"
    sampler: str = "systematic"
    neuron: Neuron = IntegrateAndFire()
    rule: Rule = Count()
    dtype: torch.dtype = torch.float32
    together: ClassVar[int] = 64  # time steps are short: the more texts they are of, the less they cost

    def free(self, network: Network, batch: Batch, record: bool = False) -> Equilibrium:
        """The free phase, from neurons at rest."""
        inputs, rest = prepare(network, batch, self.dtype), network.rest(len(batch)).layers
        chain = Chain(network)
        silent = rest[0].new_zeros(len(batch), 1, chain.size)
        first, output = rest[0].unsqueeze(1), rest[-1].unsqueeze(1)
        neurons = Population(self.neuron.rest(silent), silent, first.clone(), output.clone())
        noise = Noise(batch.seed, self.neuron.stochastic)
        w2, attention = network.w2(self.dtype), network.shape.attention
        core = ClockedCore(inputs, w2, attention, self.tick_steps, self.neuron, noise)
        if attention and self.circuit == "wta":
            core.sampler = self.sampler
            u = uniform(self.sampler, self.tick_steps, inputs.drive.shape[:3], batch.seed)
            core.u = u.to(inputs.drive.device)

        def tick(trace: Tensor) -> tuple[Tensor, Tensor]:
            s1 = core.output(trace)
            return s1, core.forward(s1)

        counts = self._run(chain, neurons, tick, self.free_steps, noise, record=record)
        memory = _Memory(inputs, chain, neurons, core)
        return self._equilibria(
            network, batch, inputs, counts, core, None, None, (Phase.FREE,), self.free_steps, memory
        )[0]

    def nudge(
        self, network: Network, batch: Batch, start: Equilibrium, betas: tuple[float, ...], record: bool = False
    ) -> list[Equilibrium]:
        """All nudges side by side, each with a current β(y − r) into the output, r its low-passed spikes."""
        assert isinstance(start.memory, _Memory)
        inputs, chain, groups, base = start.memory.inputs, start.memory.chain, len(betas), start.rates.projection
        neurons = start.memory.neurons.split(groups)
        noise = Noise(batch.seed + 1, self.neuron.stochastic, self.common_noise)
        free = start.memory.core
        core: ClockedCore
        if free.attention and free.sampler is None:
            core = nudged = ClockedNudges(inputs, free.w2, True, self.tick_steps, self.neuron, noise)
            drive0 = nudged.anchor(network.weights[0], start.memory.neurons.feedback_trace[:, 0])
            assert nudged.s1 is not None
            base = nudged.s1

            def tick(trace: Tensor) -> tuple[Tensor, Tensor]:
                delta = nudged.change(trace)
                return delta, drive0 + nudged.forward(delta) if nudged.moved else drive0.expand_as(trace)
        else:
            assert free.membrane is not None
            core = replace(free, noise=noise, membrane=free.membrane.copies(groups), spikes=None)

            def tick(trace: Tensor) -> tuple[Tensor, Tensor]:
                s1 = core.output(trace)
                return s1 - base.unsqueeze(1), core.forward(s1)

        slow = None
        if self.rule.follows != "window":
            still = base.new_zeros(len(batch), groups, *base.shape[1:])
            above = chain.joined(start.rates.layers).unsqueeze(1).expand(-1, groups, -1)
            slow = SlowTraces(chain, 1 - math.exp(-1 / self.trace_tau), self.rule.follows == "events", still, above)
        strength = torch.tensor(betas, device=inputs.target.device, dtype=inputs.target.dtype).view(1, groups, 1)
        target = inputs.target.unsqueeze(1)
        counts = self._run(chain, neurons, tick, self.nudge_steps, noise, strength, target, slow, record)
        phases = tuple(Phase.of(beta) for beta in betas)
        begun = State(base, start.rates.layers)
        return self._equilibria(network, batch, inputs, counts, core, begun, slow, phases, self.nudge_steps, None)

    def _run(
        self,
        chain: Chain,
        neurons: Population,
        tick: Callable[[Tensor], tuple[Tensor, Tensor]],
        steps: int,
        noise: Noise,
        strength: Tensor | None = None,
        target: Tensor | None = None,
        slow: SlowTraces | None = None,
        record: bool = False,
    ) -> Counts:
        """Step all neurons ``steps`` times, ``neurons`` in place."""
        opening, middle = steps - self.window, steps - self.window // 2
        output, low_pass = chain.places[-1], 1 - math.exp(-self.tick_steps / self.feedback_tau)
        z, membrane, total = neurons.z, neurons.membrane, torch.zeros_like(neurons.z)
        opened, before, halfway, constant = membrane, total, total, total
        sent, projection = torch.zeros_like(neurons.feedback_trace), None
        readings: list[Tensor] = []
        fired: list[list[Tensor]] = []
        spikes: list[Tensor] = []
        put_out: list[Tensor] = []
        for step in range(steps):
            if step == opening:
                before, opened = total.clone(), membrane
            if step == middle:
                halfway = total.clone()
            if step % self.tick_steps == 0:
                s1, current = tick(neurons.feedback_trace)
                constant = chain.constant(current)
                if record:
                    put_out.append(s1.to(total.dtype))
                if slow is not None:
                    slow.tick(s1, self.tick_steps)
                inside = min(step + self.tick_steps, steps) - max(step, opening)
                if inside > 0:
                    put = s1.to(total.dtype)
                    projection = put * inside if projection is None else projection.add_(put, alpha=inside)
            u = chain.inputs(z, constant)
            if strength is not None and target is not None:
                u[..., output] += strength * (target - neurons.output_trace)
            membrane, z = self.neuron.step(membrane, u, noise.draw(u))
            total += z
            if slow is not None:
                slow.step(z)
            neurons.output_trace += (z[..., output] - neurons.output_trace) / self.output_tau
            if record:
                spikes.append(z)
            if (step + 1) % self.tick_steps == 0:
                counts = chain.layers(total)
                # spikes of the tick summed, then low-passed: over several ticks no spike is lost
                mean = (counts[0] - sent) / self.tick_steps
                neurons.feedback_trace += low_pass * (mean - neurons.feedback_trace)
                sent = counts[0].clone()
                fired.append([count.sum(2) for count in counts])
                readings.append(counts[-1] + TIE * neurons.output_trace)
        assert projection is not None  # the window has a tick
        neurons.membrane, neurons.z, window = membrane, z, total - before
        own = window + (membrane.v - opened.v) - (membrane.added - opened.added)
        totals, windows, late, owns = (chain.layers(values) for values in (total, window, total - halfway, own))
        return Counts(chain, totals, windows, late, owns, projection, readings, fired, spikes, put_out)

    def _equilibria(
        self,
        network: Network,
        batch: Batch,
        inputs: Inputs,
        counts: Counts,
        core: ClockedCore,
        begun: State | None,
        slow: SlowTraces | None,
        phases: tuple[str, ...],
        steps: int,
        memory: _Memory | None,
    ) -> list[Equilibrium]:
        """Rates, residual and ledger of each group from its counts; s¹ is counted from that of ``begun``."""
        window, half = self.window, self.window - self.window // 2
        projection = counts.projection.div_(window)
        if begun is not None:
            projection += begun.projection.unsqueeze(1)
        changes = [  # rates of the later half of the window less those of the earlier
            (b / (window - half) - (w - b) / half).abs().amax(2)
            for w, b in zip(counts.window, counts.late, strict=True)
        ]
        residual = torch.stack(changes).amax(0)
        looped = network.shape.clamped or len(counts.fired) > 1  # s¹ has heard of the layers above at least once
        outputs, sizes = self._readings(counts.output), network.shape.sizes[1:]
        found = []
        for g, phase in enumerate(phases):
            rates = State(projection[:, g], tuple(w[:, g] / window for w in counts.window))
            units1 = real_units(network.shape, batch.mask)
            none = torch.zeros_like(units1)
            spiking1 = none if core.spikes is None else core.spikes[:, g]
            graded1 = none if core.spikes is not None else len(counts.fired) * units1
            spikes = [spiking1, *(t[:, g].sum(1) for t in counts.total)]
            taken, readings, attention = torch.full_like(none, steps), torch.full_like(none, len(counts.fired)), None
            first = taken * units1  # s¹ as neurons, or as rows of HopAttn
            if network.shape.attention:
                rows = len(counts.fired) * row_tokens(network.shape, batch.mask)[0]
                won = None if core.sampler is None else rows * self.tick_steps
                attention, first = AttentionEvents(rows, readings, patterns=won), readings * units1
            done = Activity(
                spikes,
                [graded1, *[none] * len(sizes)],
                [first, *(taken * size for size in sizes)],
                [none if core.spikes is None else taken * units1 - first, *[none] * len(sizes)],
                words=1 if slow is None else 2,  # the membrane, the trace
                plastic=slow is not None and slow.keep,
            )
            trace: dict[str, Tensor] = {}
            if counts.spikes:
                spikes_of = counts.chain.layers(torch.stack([z[:, g].bool() for z in counts.spikes]))
                trace |= {f"spikes_s{index}": layer for index, layer in enumerate(spikes_of, start=2)}
                projections = [s1[:, g] + (0 if begun is None else begun.projection) for s1 in counts.sent]
                trace["residual"], trace["phi"] = self._over_time(network, inputs, projections, trace)
            found.append(
                Equilibrium(
                    rates=rates,
                    residual=residual[:, g],
                    steps=torch.full_like(batch.labels, steps),
                    converged=(residual[:, g] <= self.tolerance) & looped,
                    outputs=outputs[:, :, g],
                    events=self._events(
                        network,
                        batch,
                        [[f[:, g] for f in fired] for fired in counts.fired],
                        spikes[0],
                        core.spikes is None,
                    ),
                    reading_steps=self.tick_steps,
                    ledger=spiking_ledger(network, batch, phase, taken, done, attention),
                    memory=memory,
                    trace=trace,
                    local=partial(
                        self._local, network, batch, rates, [own[:, g] for own in counts.own], begun, slow, g
                    ),
                )
            )
        return found

    def _readings(self, cumulative: list[Tensor]) -> Tensor:
        """Output rates over the last ``window`` steps (all, while there are fewer) at each tick; (ticks, B, G, C)."""
        back = self.window // self.tick_steps
        readings = []
        for index, now in enumerate(cumulative):
            before = cumulative[index - back] if index >= back else torch.zeros_like(now)
            # whole spikes before the window are taken away; the part of now below one spike breaks ties
            readings.append((now - before.floor()) / (min(index + 1, back) * self.tick_steps))
        return torch.stack(readings)

    def _local(
        self,
        network: Network,
        batch: Batch,
        rates: State,
        own: list[Tensor],
        begun: State | None,
        slow: SlowTraces | None,
        group: int,
    ) -> dict[str, Tensor | Product]:
        """What the synapses hold at the end of a phase by ``rule``."""
        counts = [rates.projection.flatten(1), *rates.layers]
        owns = [counts[0], *((spikes / self.window).clamp(0, 1) for spikes in own)]
        if slow is None or begun is None:
            sides = [Side(count, known, count, count) for count, known in zip(counts, owns, strict=True)]
            return local_products(self.rule, network, batch, sides[0], sides)
        starts = [begun.projection.flatten(1), *begun.layers]
        ends = [starts[0] + slow.projection[:, group].flatten(1), *slow.chain.layers(slow.above[:, group])]
        held = torch.stack([s1[:, group].flatten(1) for s1 in slow.held]) if slow.keep else None
        sides = [Side(counts[0], owns[0], starts[0], ends[0], held=held)]
        z: list[Tensor | None] = [None] * len(ends)
        course = list(z)
        if slow.keep:
            for found, series in ((z, slow.spikes), (course, slow.courses)):
                found[1:] = slow.chain.layers(torch.stack([values[:, group] for values in series]))
        for at in range(1, len(ends)):
            sides.append(Side(counts[at], owns[at], starts[at], ends[at], z[at], course[at]))
        return local_products(self.rule, network, batch, sides[0], sides)

    def _events(
        self, network: Network, batch: Batch, fired: list[list[Tensor]], spikes1: Tensor, graded: bool
    ) -> Tensor:
        """Synaptic events of each text until each tick, (ticks, B); spikes of s¹ are spread evenly over the ticks."""
        units1 = real_units(network.shape, batch.mask)
        first, *outs = fan_outs(network, units1)
        each = units1 if graded else spikes1 / len(fired)
        return torch.stack(
            [
                sum((f * out for f, out in zip(layers, outs, strict=True)), (tick + 1) * each * first)
                for tick, layers in enumerate(fired)
            ]
        )

    def _over_time(
        self, network: Network, inputs: Inputs, projections: list[Tensor], trace: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Residual and φ of a recorded phase at each tick, from the spike rates of that tick, both (ticks, B).

        The residual is the largest change of such a rate since the tick before; at first, from the middle of σ.
        """
        drive = inputs.drive.to(network.w1.dtype)
        layers = [
            torch.stack([tick.to(drive).mean(0) for tick in trace[f"spikes_s{index}"].split(self.tick_steps)])
            for index in range(2, len(network.weights) + 2)
        ]  # each (ticks, B, Hᵢ)
        before = [torch.cat([torch.full_like(rates[:1], 0.5), rates[:-1]]) for rates in layers]
        pairs = zip(layers, before, strict=True)
        residual = torch.stack([(now - then).abs().amax(2) for now, then in pairs]).amax(0)
        values = [
            phi(network, drive, State(s1, tuple(rates[tick] for rates in layers)))
            for tick, s1 in enumerate(projections)
        ]
        return residual, torch.stack(values)
