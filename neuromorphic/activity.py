"""What spikes cost: events sent by each layer, the synapses that they reach, the neurons that they wake."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eqspike_seq.ledger import (
    PAYLOAD_BITS,
    HopAttnActivity,
    Ledger,
    compared_units,
    load,
    one_each,
    real_units,
)
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, State
from eqspike_seq.phases import Phase
from eqspike_seq.text_ledgers import LedgerByText


@dataclass(frozen=True)
class ProjectionActivity:
    """What s¹ did in one phase: computed at ``retrievals`` (B,) moments, by ``hopattn`` or, None, as σ.

    ``spikes`` (B,) unit spikes are of neurons that are stepped as those above; None where it puts out values instead.
    Of a token layer they are those of s^c: s¹ puts out values.
    """

    retrievals: Tensor
    hopattn: HopAttnActivity | None
    spikes: Tensor | None = None


@dataclass(frozen=True)
class Activity:
    """What the neurons did in one phase of ``steps`` (B,) time steps: for s¹, s², … each a tensor (B,).

    ``spikes`` unit events, ``graded`` events that carry a value, ``active`` and ``idle`` updates of neurons. ``words``
    of state are read and written at an update. ``plastic``: synapses learn at each event.
    """

    steps: Tensor
    spikes: list[Tensor]
    graded: list[Tensor]
    active: list[Tensor]
    idle: list[Tensor]
    hopattn: HopAttnActivity | None
    words: int = 1
    plastic: bool = False

    @classmethod
    def of_rates(
        cls, network: Network, batch: Batch, steps: int, first: ProjectionActivity, sent: list[Tensor]
    ) -> "Activity":
        """Of neurons that are all updated in all of ``steps``; ``sent`` (B,) spikes of s², s³, …"""
        units1 = real_units(network.shape, batch.mask)
        none = torch.zeros_like(units1)
        taken, above = torch.full_like(none, steps), [none] * len(sent)
        read = first.retrievals * units1
        active = taken * units1 if first.hopattn is None else read
        spikes, updated = list(sent), [taken * size for size in network.shape.sizes[1:]]
        if network.shape.compared and first.spikes is not None:
            spikes, updated = [first.spikes, *sent], [taken * compared_units(network.shape, batch.mask), *updated]
            first, above = replace(first, spikes=None), [none, *above]
        return cls(
            taken,
            [none if first.spikes is None else first.spikes, *spikes],
            [read if first.spikes is None else none, *above],
            [active, *updated],
            [none if first.spikes is None else taken * units1 - active, *above],
            first.hopattn,
        )

    @classmethod
    def of_changes(
        cls,
        network: Network,
        batch: Batch,
        first: ProjectionActivity,
        units: list[Tensor],
        payloads: Sequence[Tensor] = (),
    ) -> "Activity":
        """Of neurons that send changes: ``units`` of s¹, s², … in each step, (steps, B); of a token layer after s¹.

        ``payloads``, if given, are those that were sent at once as one event with a value. A text takes the steps until
        the first in which nobody sends.
        """
        busy = torch.stack(units).sum(0) > 0
        steps = (busy * torch.arange(1, len(busy) + 1, device=busy.device).unsqueeze(1)).amax(0) + 1
        steps = steps.clamp(max=len(busy))
        shape, units1 = network.shape, real_units(network.shape, batch.mask)
        awake, sizes = woken(units[bool(shape.compared) :], steps), list(shape.sizes[1:])
        read, full = first.retrievals * units1, torch.ones_like(units1)
        above = [(n, size * full) for n, size in zip(awake, sizes, strict=True)]
        if first.hopattn is not None:
            read = first.hopattn.rows.sum(1) * network.shape.dim
        if shape.compared:
            above.insert(0, (compared_awake(units, steps), compared_units(shape, batch.mask)))
        totals, none = [sent.sum(0) for sent in payloads or units], [torch.zeros_like(steps)] * len(units)
        return cls(
            steps,
            none if payloads else totals,
            totals if payloads else none,
            [read, *(n * size for n, size in above)],
            [(steps * units1 - read).clamp(min=0), *((steps - n) * size for n, size in above)],
            first.hopattn,
            words=2,  # what the neuron sums up, and what it has sent
        )

    def ledger(self, network: Network, batch: Batch, phase: Phase) -> Ledger:
        """All events of the phase."""
        ledger = Ledger({}, {phase: len(batch)}, {phase: int(self.steps.sum())}, sizes=list(network.shape.sizes))
        self.count(ledger, network, batch, phase)
        return ledger

    def ledgers(self, network: Network, batch: Batch, phase: Phase) -> LedgerByText:
        """All events of the phase, of each text by itself."""
        totals: dict[str, Any] = {"samples": {phase: 1}, "steps": {phase: self.steps.numpy()}}
        ledger = LedgerByText(**totals, sizes=list(network.shape.sizes))
        self.count(ledger, network, batch, phase)
        return ledger

    def count(self, ledger: Ledger, network: Network, batch: Batch, phase: Phase) -> None:
        """Add all events of the phase to ``ledger``.

        A spike of s² goes up to s³ and down to every real unit of s¹; a graded event is an event *and* a product at
        each synapse. At each synapse a weight is fetched and the neuron's summed input read and written; a unit of a
        token layer reads the sum that it shares with all tokens of its text as well.
        """
        shape, count = network.shape, ledger.of(one_each(batch.mask))
        units1 = real_units(shape, batch.mask)
        columns = zip(self.spikes, self.graded, fan_outs(network, batch), self.active, self.idle, strict=True)
        for name, (units, values, fan_out, active, idle) in zip(shape.layers, columns, strict=True):
            accumulates = ledger.of(units.long() * fan_out)
            products = ledger.of(values.long() * fan_out)
            reached, updated, graded = accumulates + products, ledger.of(active), ledger.of(values.long())
            learnt, shared = reached if self.plastic else 0, updated if name == "sc" else 0
            if self.plastic and shape.clamped and name == "s2":  # nothing goes down to pixels, but their synapses learn
                learnt += ledger.of(units.long() * units1)
            ledger.add(
                name,
                phase,
                spikes=ledger.of(units.long()),
                graded_events=graded,
                payload_bits=PAYLOAD_BITS * graded,
                synaptic_events=reached,
                accumulates=accumulates,
                multiply_accumulates=products + learnt,
                neuron_updates=updated,
                idle_updates=ledger.of(idle),
                state_reads=reached + self.words * updated + shared,
                state_writes=reached + self.words * updated,
                weight_reads=reached,
                plasticity_reads=learnt,
                plasticity_writes=learnt,
            )
        if self.hopattn is not None:
            self.hopattn.count(ledger, shape, batch.mask, phase)
        if phase == Phase.FREE:
            load(ledger, shape, batch.mask)
            up = ledger.of(units1)
            down = 0 if shape.clamped else up
            if shape.compared:
                ledger.synapses |= {"wa": 2 * up * shape.compared}
                up, down = ledger.of(compared_units(shape, batch.mask)), shape.flat * count
            ledger.synapses |= {"w2": (up + down) * shape.sizes[1]}
            pairs = zip(shape.sizes[1:-1], shape.sizes[2:], strict=True)
            ledger.synapses |= {f"w{i}": 2 * pre * post * count for i, (pre, post) in enumerate(pairs, start=3)}


def fan_outs(network: Network, batch: Batch) -> list[Tensor]:
    """Synapses that one event of s¹, s², … reaches, down and up, for each text; each (B,).

    Nothing goes down to an s¹ that is clamped. With a token layer s¹ sends to s^c of its token, s^c to its query and to
    s², and s² to sums that all tokens of a text read, as they share its weights; s^c comes after s¹.
    """
    shape, sizes, units1 = network.shape, network.shape.sizes, real_units(network.shape, batch.mask)
    none = torch.zeros_like(units1)
    if shape.compared:
        layers = [*sizes[2:], 0]
        heard = [torch.full_like(units1, size) for size in (shape.flat, *sizes[1:-1])]  # from s², s³, …
        own = [torch.full_like(units1, number) for number in (shape.compared, shape.dim + sizes[1])]  # of one token
        return [*own, *(down + up for down, up in zip(heard, layers, strict=True))]
    first = none if shape.clamped else units1
    below = [none, first, *(units1.new_full(units1.shape, size) for size in sizes[1:-1])]
    above = [*sizes[1:], 0]
    return [down + up for down, up in zip(below, above, strict=True)]


def compared_awake(units: list[Tensor], steps: Tensor) -> Tensor:
    """Updates of a unit of a token layer that has received something, (B,): from s¹ in the same step, or from s² in
    the one before; ``units`` as in ``Activity.of_changes``."""
    return _awake((units[0] + units[2].roll(1, 0)) > 0, steps)


def _awake(heard: Tensor, steps: Tensor) -> Tensor:
    """In how many of ``steps`` (B,) a neuron is awake: the first, and those in which it has ``heard`` (steps, B)."""
    heard[0] = True
    inside = torch.arange(len(heard), device=steps.device).unsqueeze(1) < steps
    return (heard & inside).sum(0)


def woken(sent: list[Tensor], steps: Tensor) -> list[Tensor]:
    """Updates of a neuron that has received something, for each layer above s¹, each (B,); the others are idle.

    ``sent`` holds for s¹, s², … what a layer sent in each step, (steps, B); s³, s⁵, … are updated first in a step, so
    that what their neighbours sent in the step before wakes them, s², s⁴, … by what was sent in the same. In the first
    step all are.
    """
    active = []
    for index in range(len(sent) - 1):
        heard = sent[index] + (sent[index + 2] if index + 2 < len(sent) else 0) > 0
        active.append(_awake(heard.roll(1, 0) if index % 2 else heard, steps))
    return active


def events_by_tick(network: Network, batch: Batch, first: ProjectionActivity, fired: list[list[Tensor]]) -> Tensor:
    """Synaptic events of each text until each tick, (ticks, B); spikes of s¹, or s^c, are spread evenly over the ticks.

    ``fired``: at each tick the spikes so far of s², s³, …, each (B,).
    """
    below, *outs = fan_outs(network, batch)
    values, spread = real_units(network.shape, batch.mask), 0 if first.spikes is None else first.spikes / len(fired)
    each = (values if first.spikes is None else spread) * below
    if network.shape.compared:
        compared, *outs = outs
        each = values * below + spread * compared
    return torch.stack(
        [
            sum((f * out for f, out in zip(layers, outs, strict=True)), (tick + 1) * each)
            for tick, layers in enumerate(fired)
        ]
    )


def rates_by_tick(cumulative: list[Tensor], back: int, every: int) -> Tensor:
    """Spikes a step over the last ``back`` ticks of ``every`` steps (all, while there are fewer), at each tick."""
    found = []
    for index, now in enumerate(cumulative):
        before = cumulative[index - back] if index >= back else torch.zeros_like(now)
        # whole spikes before the window are taken away; the part of now below one spike breaks ties
        found.append((now - before.floor()) / (min(index + 1, back) * every))
    return torch.stack(found)


def change_of_halves(counts: list[Tensor], late: list[Tensor], window: int) -> Tensor:
    """The residual: the largest change of any rate from the window's earlier half to its later, whose ``late`` are."""
    half = window - window // 2
    changes = [(b / (window - half) - (w - b) / half).abs().amax(-1) for w, b in zip(counts, late, strict=True)]
    return torch.stack(changes).amax(0)


def course_of_rates(
    energy: Callable[[State], Tensor], spikes: list[Tensor], sent: list[Tensor], tick_steps: int
) -> dict[str, Tensor]:
    """Residual and φ at each tick of a recorded phase, from its spike rates, both (ticks, B).

    ``energy`` is φ of a state, ``spikes`` (steps, B, Hᵢ) of each layer above s¹, ``sent`` s¹ at each tick. The residual
    is the largest change of a rate since the tick before; at first, from the middle of σ.
    """
    layers = [torch.stack([tick.to(sent[0]).mean(0) for tick in raster.split(tick_steps)]) for raster in spikes]
    changes = [torch.cat([rates[:1] - 0.5, rates.diff(dim=0)]).abs().amax(2) for rates in layers]
    states = (State(s1, tuple(rates[tick] for rates in layers)) for tick, s1 in enumerate(sent))
    return {
        "residual": torch.stack(changes).amax(0),
        "phi": torch.stack([energy(state) for state in states]),
    }
