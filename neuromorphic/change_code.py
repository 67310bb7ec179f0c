"""Change-coded neurons: a signed unit spike says that an activation has moved by one threshold; who rests is silent.

Free phase. Each neuron has its activation a = σ(u) (HopAttn at s¹) and what it has transmitted so far, h. Where they
differ by more than half a threshold θ it sends ⌊(a − h)/θ + ½⌋ signed unit spikes, and its synapses add them up.

Nudges. Each neuron transmits h* + d: h* is what it had transmitted when the free phase ended, d the *dithered* change
of its own activation since then, d = θ' ⌊(a − a*)/θ' + ξ⌋, with a fine θ' and one ξ ~ U[0, 1) for each neuron and text,
the same in both nudges, so that E d = a − a*. The quantisation error of the free phase, e = h* − a*, thereby stays
fixed: this is the same symmetric network with shifted activations, h = σ(u(h)) + e, it has a φ of its own, and Eq. 18
on what is *transmitted* is its EP gradient. Coarse spikes make the state inexact, not the gradient.

Only unit spikes cross a connection. The output's own activation is read and nudged, which is local to it.
Layers are updated in turn as in the dense backend; a text in which no neuron sends any more is done.
Sources: sigma-delta coding, O'Connor & Welling (2016), with EP O'Connor, Gavves & Welling (AISTATS 2019); the fixed
offset and the dither are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from eqspike_seq.ledger import real_units
from eqspike_seq.model.network import Batch, Network, State, phi, sigma
from eqspike_seq.model.projection import Anchor, Inputs, prepare
from eqspike_seq.phases import Phase
from eqspike_seq.relaxation.dense import in_turn
from eqspike_seq.relaxation.equilibrium import Equilibrium
from neuromorphic.change_core import FreeCore, NudgeCore, Reading
from neuromorphic.events import Activity, fan_outs, spiking_ledger, woken
from neuromorphic.neurons import send_dithered, send_on_change
from neuromorphic.plasticity import Count, Rule, Side, local_products

Rows = Tensor | slice  # of texts; a slice is all of them
NUMBERS = 2**18  # of s¹ that send at once


@dataclass
class _Record:
    """What happened, an entry a step; tensors begin with the texts and, in nudges, with the nudges: (B, [G,] …)."""

    units1: list[Tensor] = field(default_factory=list)  # unit spikes of s¹
    sendings1: list[Tensor] = field(default_factory=list)  # the same, units sent at once counted once
    above: list[list[Tensor]] = field(default_factory=list)  # signed units of each neuron of s², s³, …
    outputs: list[Tensor] = field(default_factory=list)  # the output's own activation
    projections: list[Tensor] = field(default_factory=list)  # if recorded: signed units of s¹ so far

    def add(self, sent1: tuple[Tensor, Tensor] | None, above: list[Tensor], reading: Tensor, output: Tensor) -> None:
        """Count one step; ``sent1`` (units and sendings of the texts in ``reading``) None if s¹ was not computed."""
        for kept, place in ((self.units1, 0), (self.sendings1, 1)):
            counted = output.new_zeros(output.shape[:-1])
            if sent1 is not None:
                counted[reading] = sent1[place]
            kept.append(counted)
        self.above.append(above)
        self.outputs.append(output)

    def of(self, group: int) -> "_Record":
        """That of one nudge."""
        return _Record(
            [x[:, group] for x in self.units1],
            [x[:, group] for x in self.sendings1],
            [[x[:, group] for x in step] for step in self.above],
            [x[:, group] for x in self.outputs],
            [x[:, group] for x in self.projections],
        )

    def busy(self) -> bool:
        """Whether anybody sent anything in the last step."""
        return bool(self.units1[-1].any()) or any(bool(layer.any()) for layer in self.above[-1])


@dataclass(frozen=True)
class _Memory:
    core: FreeCore
    output: Tensor  # the output's own activation when the free phase ended


@dataclass(frozen=True)
class SigmaDeltaBackend:
    """Change-coded phases of at most ``free_steps`` and ``nudge_steps`` steps.

    Hidden neurons are taken to have transmitted ``baseline`` before the free phase, the output ½, s¹ nothing. θ is
    ``projection_threshold`` at s¹, ``threshold`` in hidden layers, ``output_threshold`` at the output; θ' is
    ``projection_nudge_threshold`` at s¹, ``nudge_threshold`` above. ``events`` "graded" counts the units that a neuron
    sends at once as one event with a payload, and so as products. ``dither`` and ``offset`` False take away what makes
    it learn. ``reading`` says how HopAttn is computed (``change_core``). ``dtype`` is that of the N·D-sized products;
    whole numbers up to 256 are exact in bf16.
    """

    free_steps: int = 12
    nudge_steps: int = 8
    threshold: tuple[float, ...] = (0.5,)
    projection_threshold: float = 0.5
    deadband: float = 0.5
    output_threshold: float = 0.05
    baseline: tuple[float, ...] = (0.5,)
    nudge_threshold: float = 0.01
    projection_nudge_threshold: float = 0.02
    events: str = "unit"
    dither: bool = True
    offset: bool = True
    tolerance: float = 0.1
    rule: Rule = Count()
    reading: Reading = Reading()
    dtype: torch.dtype = torch.float32
    together: ClassVar[int] = 32

    def free(self, network: Network, batch: Batch, record: bool = False) -> Equilibrium:
        """From s¹ = 0 and ``baseline`` until all are silent."""
        inputs, w2 = prepare(network, batch, self.dtype), network.w2(self.dtype)
        rest, kept = network.rest(len(batch)), _Record()
        core = FreeCore(self.reading, network, batch, inputs, w2)
        theta1, thresholds = self.projection_threshold, self.thresholds(len(rest.layers))
        deadbands = [*[self.deadband] * (len(rest.layers) - 1), 0.5]
        origins = [*for_each(self.baseline, len(rest.layers) - 1), 0.5]
        rest = State(rest.projection, tuple(torch.full_like(s, o) for s, o in zip(rest.layers, origins, strict=True)))
        units1, units = rest.projection.clone(), [torch.zeros_like(layer) for layer in rest.layers]
        h, output = list(rest.layers), rest.output
        current = torch.zeros_like(h[0])  # w₂ F(h¹)
        stale = torch.ones_like(batch.labels, dtype=torch.bool)  # where s² has sent something since s¹ last looked
        for _ in range(self.free_steps):
            reading, sent1 = stale, None
            if bool(stale.any()):
                rows = _rows(stale)
                own1 = core.read(rows, h[0][rows])
                sent1, arrived = self._deliver(
                    units1, rows, own1, w2, lambda before, own, _: send_on_change(before, own, theta1, self.deadband)
                )
                current[rows] = theta1 * arrived.to(current.dtype)
            sent = list(units)
            for index in in_turn(len(h)):
                u = network.biases[index] + (current if index == 0 else h[index - 1] @ network.weights[index].T)
                if index + 1 < len(h):
                    u = u + h[index + 1] @ network.weights[index + 1]
                own = sigma(u)
                if index + 1 == len(h):
                    output = own
                sent[index] = send_on_change(units[index], own - origins[index], thresholds[index], deadbands[index])
                units[index] = units[index] + sent[index]
                h[index] = origins[index] + thresholds[index] * units[index]
            stale = (sent[0] != 0).any(1) & (not network.shape.clamped)
            kept.add(sent1, sent, reading, output)
            if record:
                kept.projections.append(units1.clone())
            if not kept.busy():
                break
        transmitted = State(theta1 * units1, tuple(h))
        return self._equilibrium(network, batch, core, kept, Phase.FREE, rest, transmitted, transmitted, core)

    def nudge(
        self, network: Network, batch: Batch, start: Equilibrium, betas: tuple[float, ...], record: bool = False
    ) -> list[Equilibrium]:
        """All nudges side by side, from what has been transmitted, the dither in common."""
        assert isinstance(start.memory, _Memory)
        free, base, w2 = start.memory.core, start.rates, network.w2(self.dtype)
        groups, last, kept = len(betas), len(base.layers) - 1, _Record()
        beta = torch.tensor(betas, dtype=network.w1.dtype, device=batch.labels.device).view(1, groups, 1)
        xi1, xi, xi_query = self._dither(batch, base)
        core = NudgeCore(self.reading, free, base, groups, xi_query)
        u0, pull = core.anchor.u, (free.inputs.target - start.memory.output).unsqueeze(1)
        error1, error = self._errors(free, core.anchor, start)
        units1 = self._like(base.projection, groups)
        units = [self._like(layer, groups) for layer in base.layers]
        own1, own, d = torch.zeros_like(units1, dtype=self.dtype), list(units), list(units)
        current = torch.zeros_like(units[0])
        stale = torch.full_like(batch.labels, not self.offset, dtype=torch.bool)  # with it, s¹ has nothing to say yet
        theta1 = self.projection_nudge_threshold

        def fire(before: Tensor, own: Tensor, rows: Rows) -> Tensor:
            return send_dithered(before, own if error1 is None else own - error1[rows], theta1, xi1[rows])

        for _ in range(self.nudge_steps):
            reading, sent1 = stale, None
            if bool(stale.any()):
                rows = _rows(stale)
                moved1 = own1[rows] = core.read(rows, d[0][rows]).to(own1.dtype)
                sent1, arrived = self._deliver(units1, rows, moved1, w2, fire)
                current[rows] = theta1 * arrived.to(current.dtype)
            sent = list(units)
            for index in in_turn(len(d)):
                u = current if index == 0 else d[index - 1] @ network.weights[index].T
                if index < last:
                    u = u + d[index + 1] @ network.weights[index + 1]
                else:
                    u = u + beta * (pull - own[index])
                own[index] = sigma(u0[index] + u) - sigma(u0[index])
                moved = own[index] if error is None else own[index] - error[index]
                sent[index] = send_dithered(units[index], moved, self.nudge_threshold, xi[index])
                units[index] = units[index] + sent[index]
                d[index] = self.nudge_threshold * units[index]
            stale = (sent[0] != 0).flatten(1).any(1) & (not network.shape.clamped)
            output = start.memory.output.unsqueeze(1) + own[last]
            kept.add(sent1, sent, reading, output)
            if record:
                kept.projections.append(units1.clone())
        found = []
        for g in range(groups):
            change1 = theta1 * units1[:, g]
            transmitted = base + State(change1, tuple(layer[:, g] for layer in d))
            known = base + State(own1[:, g].to(base.output.dtype), tuple(layer[:, g] for layer in own))
            phase = Phase.of(betas[g])
            found.append(self._equilibrium(network, batch, free, kept.of(g), phase, base, transmitted, known, core, g))
        return found

    def _deliver(
        self, units: Tensor, rows: "Rows", own: Tensor, w2: Tensor, fire: Callable[[Tensor, Tensor, "Rows"], Tensor]
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Let s¹ send, a few texts at a time, as what they need then stays in the cache.

        ``fire`` gives the signed units of texts from (``units`` they have sent before, ``own`` activations, their
        rows); they are added to ``units`` (B, …). Returns ((units, sendings) of each of ``rows``, w₂ F(units)).
        """
        above, together = own.dim() - 3, max(1, NUMBERS // own[0].numel())
        arrived = torch.empty_like(own, dtype=w2.dtype)
        counted = units.new_zeros(2, *own.shape[:above])
        for start in range(0, len(own), together):
            piece = slice(start, start + together)
            at = piece if isinstance(rows, slice) else rows[piece]
            before = units[at]
            sent = fire(before, own[piece], at)
            units[at] = arrived[piece] = before + sent
            flat = sent.flatten(above)
            counted[0, piece] = flat.abs().sum(-1)
            if self.events == "graded":
                counted[1, piece] = (flat != 0).sum(-1).to(counted.dtype)
        return (counted[0], counted[1]), arrived.flatten(above) @ w2.T

    def _like(self, layer: Tensor, groups: int) -> Tensor:
        return layer.new_zeros(len(layer), groups, *layer.shape[1:])

    def _dither(self, batch: Batch, base: State) -> tuple[Tensor, list[Tensor], Tensor]:
        """ξ of s¹, of the layers above and of the query, one for each text and neuron, shared by the nudges."""
        generator = torch.Generator().manual_seed(batch.seed)

        def drawn(layer: Tensor) -> Tensor:
            shape = (len(layer), 1, *layer.shape[1:])
            if not self.dither:
                return layer.new_full(shape, 0.5)
            return torch.rand(shape, generator=generator, dtype=layer.dtype).to(layer.device)

        above = drawn(base.projection), [drawn(layer) for layer in base.layers]
        return *above, drawn(base.projection) if self.reading.query_threshold else base.projection[:0]

    def _errors(self, free: FreeCore, anchor: Anchor, start: Equilibrium) -> tuple[Tensor | None, list[Tensor] | None]:
        """(0, 0) with the fixed offset; without, the errors e = h* − a*, which the nudges then transmit as well."""
        if self.offset:
            return None, None
        layers = zip(start.rates.layers, anchor.u, strict=True)
        return (start.rates.projection - free.own).unsqueeze(1), [h.unsqueeze(1) - sigma(u) for h, u in layers]

    def _equilibrium(
        self,
        network: Network,
        batch: Batch,
        core: FreeCore,
        kept: _Record,
        phase: str,
        before: State,
        transmitted: State,
        known: State,
        reader: FreeCore | NudgeCore,
        group: int = 0,
    ) -> Equilibrium:
        """``before`` is what had been transmitted when the phase began, ``known`` the neurons' own activations."""
        free = phase == Phase.FREE
        theta1 = self.projection_threshold if free else self.projection_nudge_threshold
        theta = self.thresholds(len(before.layers)) if free else [self.nudge_threshold] * len(before.layers)
        above = [[layer.abs().sum(1) for layer in step] for step in kept.above]
        units = [torch.stack(kept.units1), *(torch.stack(layer) for layer in zip(*above, strict=True))]
        busy = torch.stack(units).sum(0) > 0  # (steps, B)
        steps = (busy * torch.arange(1, len(busy) + 1, device=busy.device).unsqueeze(1)).amax(0) + 1
        sendings = units
        if self.events == "graded":
            moved = [[(layer != 0).sum(1).float() for layer in step] for step in kept.above]
            sendings = [torch.stack(kept.sendings1), *(torch.stack(layer) for layer in zip(*moved, strict=True))]
        totals, none = [events.sum(0) for events in sendings], [torch.zeros_like(steps)] * len(sendings)
        fan_out = fan_outs(network, real_units(network.shape, batch.mask))
        reached = torch.stack([events.double() * out for events, out in zip(sendings, fan_out, strict=True)]).sum(0)
        residual = torch.stack([m.abs().amax(1) * t for m, t in zip(kept.above[-1], theta, strict=True)]).amax(0)
        seen = [Side(h, a, b, h) for h, a, b in zip(_flat(transmitted), _flat(known), _flat(before), strict=True)]
        projection = replace(seen[0], count=seen[0].own)  # w₁ sees the neuron's own activation
        steps = steps.clamp(max=len(busy))
        active, idle = woken(units, steps)
        units1, sizes, attention = real_units(network.shape, batch.mask), network.shape.sizes[1:], reader.events(group)
        first = reader.readings * units1
        if attention is not None:
            first = attention.rows.sum(1) * network.shape.dim
        done = Activity(
            none if self.events == "graded" else totals,
            totals if self.events == "graded" else none,
            [first, *(n * size for n, size in zip(active, sizes, strict=True))],
            [(steps * units1 - first).clamp(min=0), *(n * size for n, size in zip(idle, sizes, strict=True))],
            words=2,  # what the neuron sums up, and what it has sent
        )
        ledger = spiking_ledger(network, batch, phase, steps, done, attention)
        return Equilibrium(
            rates=transmitted,
            residual=residual,
            steps=steps,
            converged=residual <= self.tolerance,
            outputs=torch.stack(kept.outputs),
            events=reached.cumsum(0),
            ledger=ledger,
            memory=_Memory(core, kept.outputs[-1]) if free else None,
            trace=self._recorded(network, core.inputs, kept, before, theta1, theta) if kept.projections else {},
            local=lambda: local_products(self.rule, network, batch, projection, seen),
        )

    def _recorded(
        self, network: Network, inputs: Inputs, kept: _Record, before: State, theta1: float, theta: list[float]
    ) -> dict[str, Tensor]:
        """Spikes of every neuron above s¹, spikes of s¹ in all, residual and φ of what is transmitted, by step."""
        trace = {
            f"spikes_s{i}": torch.stack(layer).to(torch.int16)
            for i, layer in enumerate(zip(*kept.above, strict=True), start=2)
        }
        trace["spikes_s1"] = torch.stack(kept.units1)
        drive, values, residuals = inputs.drive.to(network.w1.dtype), [], []
        h = list(before.layers)
        for step, units1 in zip(kept.above, kept.projections, strict=True):
            changes = [t * move for t, move in zip(theta, step, strict=True)]
            h = [layer + change for layer, change in zip(h, changes, strict=True)]
            state = State(before.projection + theta1 * units1, tuple(h))
            values.append(phi(network, drive, state))
            residuals.append(torch.stack([change.abs().amax(1) for change in changes]).amax(0))
        return {**trace, "residual": torch.stack(residuals), "phi": torch.stack(values)}

    def thresholds(self, layers: int) -> list[float]:
        """θ of s², … sⁿ in the free phase."""
        return [*for_each(self.threshold, layers - 1), self.output_threshold]


def for_each(values: tuple[float, ...], layers: int) -> tuple[float, ...]:
    """One value for each hidden layer: those given, or the only one again and again."""
    return values * layers if len(values) == 1 else values


def _rows(chosen: Tensor) -> Rows:
    """The rows chosen; all of them without a copy."""
    return slice(None) if bool(chosen.all()) else chosen.nonzero().squeeze(1)


def _flat(state: State) -> list[Tensor]:
    return [state.projection.flatten(1), *state.layers]
