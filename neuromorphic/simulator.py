"""The spiking backend: integrate-and-fire neurons around a clocked HopAttn core.

Each step, every neuron above s¹ integrates the spikes that arrived, fires at most once and is reset by subtraction;
spikes arrive one step later. The core is read every ``tick_steps`` steps. Eq. 18 is fed with spike counts over the
last ``window`` steps of each nudge divided by ``window``, and with the mean of s¹ over the same steps. Both nudges
start from the membranes that the free phase left. No autograd on this path: rates, counts and local products only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from eqspike_seq.dynamics import Equilibrium, Inputs, prepare
from eqspike_seq.ledger import Ledger, layer_products, real_units
from eqspike_seq.network import Batch, Network, State, phi
from neuromorphic.circuits import ClockedCore, NudgedCore
from neuromorphic.neurons import IntegrateAndFire

TIE = 1e-3  # of one spike: the weight of the output trace where spike counts are equal


@dataclass
class _Neurons:
    """All that the neurons above s¹ keep, each (B, G, Hᵢ): membranes, last spikes, low-passed spikes of s² and sⁿ."""

    v: list[Tensor]
    z: list[Tensor]
    feedback_trace: Tensor
    output_trace: Tensor

    def split(self, groups: int) -> "_Neurons":
        """A copy for each nudge."""

        def copies(tensor: Tensor) -> Tensor:
            return tensor.expand(-1, groups, -1).clone()

        return _Neurons(
            [copies(v) for v in self.v],
            [copies(z) for z in self.z],
            copies(self.feedback_trace),
            copies(self.output_trace),
        )


@dataclass
class _Memory:
    """What nudges need of the free phase; ``spikes1`` is the state of s¹ without attention."""

    inputs: Inputs
    neurons: _Neurons
    core: ClockedCore


@dataclass
class _Counts:
    """Spikes of a phase: in all and within the window, each (B, G, Hᵢ); s¹ summed over the window's steps."""

    total: list[Tensor]
    window: list[Tensor]
    halfway: list[Tensor]
    projection: Tensor | None = None
    output: list[Tensor] = field(default_factory=list)  # cumulative output spikes at each tick
    fired: list[list[Tensor]] = field(default_factory=list)  # cumulative spikes of each layer at each tick, (B, G)
    spikes: list[list[Tensor]] = field(default_factory=list)  # recorded: each step's spikes by layer
    sent: list[Tensor] = field(default_factory=list)  # recorded: s¹ (or its change) at each tick


@dataclass(frozen=True)
class SpikingBackend:
    """Integrate-and-fire phases of ``free_steps`` and ``nudge_steps`` steps.

    ``feedback_tau`` and ``output_tau`` (steps) low-pass what the core's query and the nudge read. ``tolerance`` bounds
    the difference between the rates of the two halves of the window, which is the residual reported. ``dtype`` is that
    of the N·D-sized products.
    """

    free_steps: int = 200
    nudge_steps: int = 200
    window: int = 140
    tick_steps: int = 20
    feedback_tau: float = 20.0
    output_tau: float = 20.0
    tolerance: float = 0.1
    dtype: torch.dtype = torch.float32
    neuron: IntegrateAndFire = IntegrateAndFire()

    def free(self, network: Network, batch: Batch, record: bool = False) -> Equilibrium:
        """The free phase, from membranes at half the threshold."""
        inputs = prepare(network, batch, self.dtype)
        rest = network.rest(len(batch))
        layers = [layer.unsqueeze(1) for layer in rest.layers]
        neurons = _Neurons(
            [torch.full_like(layer, self.neuron.start) for layer in layers],
            [torch.zeros_like(layer) for layer in layers],
            layers[0].clone(),
            layers[-1].clone(),
        )
        core = ClockedCore(
            inputs, network.weights[0].to(self.dtype), network.shape.attention, self.tick_steps, self.neuron
        )

        def tick(trace: Tensor) -> tuple[Tensor, Tensor]:
            s1 = core.output(trace)
            return s1, core.forward(s1)

        counts = self._run(network, neurons, tick, self.free_steps, record=record)
        memory = _Memory(inputs, neurons, core)
        return self._equilibria(network, batch, inputs, counts, core, None, ("free",), self.free_steps, memory)[0]

    def nudge(
        self, network: Network, batch: Batch, start: Equilibrium, betas: tuple[float, ...], record: bool = False
    ) -> list[Equilibrium]:
        """All nudges side by side, each with a current β(y − r) into the output, r its low-passed spikes."""
        assert isinstance(start.memory, _Memory)
        inputs, groups = start.memory.inputs, len(betas)
        neurons = start.memory.neurons.split(groups)
        free = start.memory.core
        core: ClockedCore
        base: Tensor | None = None
        if free.attention:
            core = nudged = NudgedCore(inputs, free.w2, True, self.tick_steps, self.neuron)
            drive0 = nudged.anchor(network.weights[0], start.memory.neurons.feedback_trace[:, 0])
            assert nudged.s1 is not None
            base = nudged.s1.unsqueeze(1)

            def tick(trace: Tensor) -> tuple[Tensor, Tensor]:
                delta = nudged.change(trace)
                return delta, drive0 + nudged.forward(delta)
        else:
            assert free.membrane is not None
            membrane = free.membrane.expand(-1, groups, -1, -1, -1).clone()
            core = ClockedCore(inputs, free.w2, False, self.tick_steps, self.neuron, membrane)

            def tick(trace: Tensor) -> tuple[Tensor, Tensor]:
                s1 = core.output(trace)
                return s1, core.forward(s1)

        strength = torch.tensor(betas, device=inputs.target.device, dtype=inputs.target.dtype).view(1, groups, 1)
        counts = self._run(network, neurons, tick, self.nudge_steps, strength, inputs.target.unsqueeze(1), record)
        phases = tuple("nudge+" if beta > 0 else "nudge-" for beta in betas)
        return self._equilibria(network, batch, inputs, counts, core, base, phases, self.nudge_steps, None)

    def _run(
        self,
        network: Network,
        neurons: _Neurons,
        tick: Callable[[Tensor], tuple[Tensor, Tensor]],
        steps: int,
        strength: Tensor | None = None,
        target: Tensor | None = None,
        record: bool = False,
    ) -> _Counts:
        """Step all neurons ``steps`` times, ``neurons`` in place."""
        weights, biases = network.weights, network.biases
        zeros = [torch.zeros_like(v) for v in neurons.v]
        counts = _Counts([z.clone() for z in zeros], [], [])
        opening, middle = steps - self.window, steps - self.window // 2
        last = len(weights) - 1
        current, sent = zeros[0], zeros[0]
        low_pass = 1 - math.exp(-self.tick_steps / self.feedback_tau)
        for step in range(steps):
            if step == opening:
                counts.window = [-total for total in counts.total]
            if step == middle:
                counts.halfway = [total.clone() for total in counts.total]
            if step % self.tick_steps == 0:
                s1, current = tick(neurons.feedback_trace)
                if record:
                    counts.sent.append(s1.float())
                inside = min(step + self.tick_steps, steps) - max(step, opening)
                if inside > 0:
                    add = s1.float() * inside
                    counts.projection = add if counts.projection is None else counts.projection.add_(add)
            z = neurons.z
            fired = []
            for index in range(last + 1):
                u = current + biases[0] if index == 0 else z[index - 1] @ weights[index].T + biases[index]
                if index < last:
                    u = u + z[index + 1] @ weights[index + 1]
                elif strength is not None and target is not None:
                    u = u + strength * (target - neurons.output_trace)
                neurons.v[index], spikes = self.neuron.step(neurons.v[index], u)
                counts.total[index] += spikes
                fired.append(spikes)
            neurons.z = fired
            neurons.output_trace += (fired[-1] - neurons.output_trace) / self.output_tau
            if record:
                counts.spikes.append(fired)
            if (step + 1) % self.tick_steps == 0:
                # spikes of the tick summed, then low-passed: over several ticks no spike is lost
                mean = (counts.total[0] - sent) / self.tick_steps
                neurons.feedback_trace += low_pass * (mean - neurons.feedback_trace)
                sent = counts.total[0].clone()
                counts.fired.append([total.sum(2) for total in counts.total])
                counts.output.append(counts.total[-1] + TIE * neurons.output_trace)
        counts.window = [start + total for start, total in zip(counts.window, counts.total, strict=True)]
        return counts

    def _equilibria(
        self,
        network: Network,
        batch: Batch,
        inputs: Inputs,
        counts: _Counts,
        core: ClockedCore,
        base: Tensor | None,
        phases: tuple[str, ...],
        steps: int,
        memory: _Memory | None,
    ) -> list[Equilibrium]:
        """Rates, residual and ledger of each group from its counts."""
        window, half = self.window, self.window - self.window // 2
        assert counts.projection is not None
        projection = counts.projection / window
        if base is not None:
            projection = projection + base
        late = [t - h for t, h in zip(counts.total, counts.halfway, strict=True)]
        changes = [  # rates of the later half of the window less those of the earlier
            (b / (window - half) - (w - b) / half).abs().amax(2) for w, b in zip(counts.window, late, strict=True)
        ]
        residual = torch.stack(changes).amax(0)
        outputs = self._readings(counts.output)
        found = []
        for g, phase in enumerate(phases):
            rates = State(projection[:, g], tuple(w[:, g] / window for w in counts.window))
            spikes = [t[:, g].sum(1) for t in counts.total]
            sent = None if core.spikes is None else core.spikes[:, g]
            trace: dict[str, Tensor] = {}
            if counts.spikes:
                for index in range(len(counts.total)):
                    trace[f"spikes_s{index + 2}"] = torch.stack([fired[index][:, g].bool() for fired in counts.spikes])
                projections = [s1[:, g] + (0 if base is None else base[:, 0]) for s1 in counts.sent]
                trace["residual"], trace["phi"] = self._over_time(network, inputs, projections, trace)
            found.append(
                Equilibrium(
                    rates=rates,
                    residual=residual[:, g],
                    steps=torch.full_like(batch.labels, steps),
                    converged=residual[:, g] <= self.tolerance,
                    outputs=outputs[:, :, g],
                    events=self._events(network, batch, [[f[:, g] for f in fired] for fired in counts.fired], sent),
                    reading_steps=self.tick_steps,
                    ledger=spiking_ledger(network, batch, phase, steps, self.tick_steps, spikes, sent),
                    memory=memory,
                    trace=trace,
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

    def _events(self, network: Network, batch: Batch, fired: list[list[Tensor]], sent: Tensor | None) -> Tensor:
        """Synaptic events of each text until each tick, (ticks, B); spikes of s¹ are spread evenly over the ticks."""
        units1 = real_units(network.shape, batch.mask)
        outs = fan_outs(network, units1)
        each = units1 if sent is None else sent / len(fired)
        return torch.stack(
            [
                sum((f * out for f, out in zip(layers, outs, strict=True)), (tick + 1) * each * network.shape.sizes[1])
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
            torch.stack([tick.float().mean(0) for tick in trace[f"spikes_s{index}"].split(self.tick_steps)])
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


def spiking_ledger(
    network: Network, batch: Batch, phase: str, steps: int, tick_steps: int, spikes: list[Tensor], sent: Tensor | None
) -> Ledger:
    """Events of one phase. ``spikes`` of each layer above s¹, (B,); ``sent`` the spikes of s¹ where it has any.

    s² sends each spike up to s³ and down to every real unit of s¹; graded s¹ values are events *and* products.
    """
    shape = network.shape
    sizes, ticks, count = shape.sizes, -(-steps // tick_steps), len(batch)
    units1 = real_units(shape, batch.mask)
    first = int(units1.sum())
    ledger = Ledger(samples={phase: count})
    if sent is None:
        graded = ticks * first
        ledger.add(
            "s1",
            phase,
            graded_events=graded,
            synaptic_events=graded * sizes[1],
            multiply_accumulates=graded * sizes[1],
            neuron_updates=graded,
        )
    else:
        events = int(sent.sum())
        ledger.add(
            "s1",
            phase,
            spikes=events,
            synaptic_events=events * sizes[1],
            accumulates=events * sizes[1],
            neuron_updates=steps * first,
        )
    if phase == "free":
        ledger.add("s1", phase, multiply_accumulates=first * shape.dim)  # x w₁, once a text
    if shape.attention:
        products = layer_products(shape, batch.mask)["hopattn"]
        ledger.add("hopattn", phase, multiply_accumulates=ticks * int(products.sum()))
    for index, (fired, fan_out) in enumerate(zip(spikes, fan_outs(network, units1), strict=True), start=2):
        synaptic = int((fired.double() * fan_out).sum())
        ledger.add(
            f"s{index}",
            phase,
            spikes=int(fired.sum()),
            synaptic_events=synaptic,
            accumulates=synaptic,
            neuron_updates=steps * count * sizes[index - 1],
        )
    if phase == "free":
        ledger.synapses = {"w2": 2 * first * sizes[1]}
        pairs = zip(sizes[1:-1], sizes[2:], strict=True)
        ledger.synapses |= {f"w{i}": 2 * pre * post * count for i, (pre, post) in enumerate(pairs, start=3)}
    return ledger


def fan_outs(network: Network, units1: Tensor) -> list[Tensor]:
    """Synapses that one spike of each layer above s¹ reaches, down and up, for each text; each (B,)."""
    sizes = network.shape.sizes
    below = [units1, *(units1.new_full(units1.shape, size) for size in sizes[1:-1])]
    above = [*sizes[2:], 0]
    return [down + up for down, up in zip(below, above, strict=True)]
