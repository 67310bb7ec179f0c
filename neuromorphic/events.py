"""What spikes cost: events sent by each layer, the synapses that they reach, the neurons that they wake."""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqspike_seq.ledger import PAYLOAD_BITS, Ledger, load, real_units, row_tokens
from eqspike_seq.model.network import Batch, Network
from eqspike_seq.phases import Phase


@dataclass(frozen=True)
class AttentionEvents:
    """What HopAttn took in one phase.

    ``rows`` (B, P): how often token rows were computed, in all; ``readings`` (B,): at how many moments. ``query``
    (B, P): unit spikes that the queries sent to the stored patterns, None where the scores are products with the query
    itself. ``patterns`` (B, P): unit spikes of the stored patterns, None where a softmax mixes them; ``top``: patterns
    that it mixes, 0 for all.
    """

    rows: Tensor
    readings: Tensor
    query: Tensor | None = None
    patterns: Tensor | None = None
    top: int = 0

    def count(self, ledger: Ledger, network: Network, batch: Batch, phase: str) -> None:
        """Add it to ``ledger``: layer "query" sends to the patterns, layer "hopattn" back to the units of s¹.

        Scores take n_k·D products a row, or n_k additions a spike of the query; mixing n_k·D products (top: fewer), or
        D additions a spike of a pattern. Winners are drawn without a division.
        """
        dim = network.shape.dim
        tokens, stored = row_tokens(network.shape, batch.mask)
        pairs = int((tokens * stored).sum()) * dim
        scored, rows = int((self.rows * stored).sum()), int(self.rows.sum())
        fetched = dim * int((self.readings.unsqueeze(1) * stored).sum())  # all patterns, once each reading
        if self.query is None:
            ledger.add("hopattn", phase, multiply_accumulates=scored * dim, pattern_reads=fetched)
        else:
            _add_spikes(ledger, "query", phase, int(self.query.sum()), int((self.query.double() * stored).sum()))
            ledger.synapses |= {"query": pairs} if phase == Phase.FREE else {}
        if self.patterns is None:
            mixed = stored.clamp(max=self.top) if self.top else stored
            products = dim * int((self.rows * mixed).sum())
            ledger.add("hopattn", phase, multiply_accumulates=products, pattern_reads=fetched, divisions=rows * dim)
        else:
            _add_spikes(ledger, "hopattn", phase, int(self.patterns.sum()), int(self.patterns.sum()) * dim)
            ledger.synapses |= {"patterns": pairs} if phase == Phase.FREE else {}
        ledger.add("hopattn", phase, exponentials=scored, state_reads=rows * dim)


def _add_spikes(ledger: Ledger, layer: str, phase: str, spikes: int, reached: int) -> None:
    """Unit spikes inside HopAttn: at each synapse a component of a pattern is fetched and added to a sum."""
    ledger.add(
        layer,
        phase,
        spikes=spikes,
        synaptic_events=reached,
        accumulates=reached,
        pattern_reads=reached,
        state_reads=reached,
        state_writes=reached,
    )


def fan_outs(network: Network, units1: Tensor) -> list[Tensor]:
    """Synapses that one event of s¹, s², … reaches, down and up, for each text; each (B,). ``units1`` as real_units.

    Nothing goes down to an s¹ that is clamped.
    """
    sizes, none = network.shape.sizes, units1.new_zeros(units1.shape)
    first = none if network.shape.clamped else units1
    below = [none, first, *(units1.new_full(units1.shape, size) for size in sizes[1:-1])]
    above = [*sizes[1:], 0]
    return [down + up for down, up in zip(below, above, strict=True)]


@dataclass(frozen=True)
class Activity:
    """What the neurons did in one phase: for s¹, s², … each a tensor (B,).

    ``spikes`` unit events, ``graded`` events that carry a value, ``active`` and ``idle`` updates of neurons. ``words``
    of state are read and written at an update. ``plastic``: synapses learn at each event.
    """

    spikes: list[Tensor]
    graded: list[Tensor]
    active: list[Tensor]
    idle: list[Tensor]
    words: int = 1
    plastic: bool = False


def spiking_ledger(
    network: Network, batch: Batch, phase: str, steps: Tensor, done: Activity, attention: AttentionEvents | None
) -> Ledger:
    """Events of one phase of a batch, which took ``steps`` (B,) time steps.

    A spike of s² goes up to s³ and down to every real unit of s¹; a graded event is an event *and* a product at each
    synapse. At each synapse a weight is fetched and the neuron's summed input read and written.
    """
    shape, count = network.shape, len(batch)
    units1 = real_units(shape, batch.mask)
    ledger = Ledger(samples={phase: count}, steps={phase: int(steps.sum())}, sizes=list(shape.sizes))
    columns = zip(done.spikes, done.graded, fan_outs(network, units1), done.active, done.idle, strict=True)
    for index, (units, values, fan_out, active, idle) in enumerate(columns, start=1):
        accumulates = int((units.double() * fan_out).sum())
        products = int((values.double() * fan_out).sum())
        reached, updated = accumulates + products, int(active.sum())
        learnt = reached if done.plastic else 0
        if done.plastic and shape.clamped and index == 2:  # nothing goes down to pixels, but their synapses learn
            learnt += int((units.double() * units1).sum())
        ledger.add(
            f"s{index}",
            phase,
            spikes=int(units.sum()),
            graded_events=int(values.sum()),
            payload_bits=PAYLOAD_BITS * int(values.sum()),
            synaptic_events=reached,
            accumulates=accumulates,
            multiply_accumulates=products + learnt,
            neuron_updates=updated,
            idle_updates=int(idle.sum()),
            state_reads=reached + done.words * updated,
            state_writes=reached + done.words * updated,
            weight_reads=reached,
            plasticity_reads=learnt,
            plasticity_writes=learnt,
        )
    if attention is not None:
        attention.count(ledger, network, batch, phase)
    if phase == Phase.FREE:
        load(ledger, shape, batch.mask)
        ledger.synapses |= {"w2": (1 if shape.clamped else 2) * int(units1.sum()) * shape.sizes[1]}
        pairs = zip(shape.sizes[1:-1], shape.sizes[2:], strict=True)
        ledger.synapses |= {f"w{i}": 2 * pre * post * count for i, (pre, post) in enumerate(pairs, start=3)}
    return ledger


def woken(sent: list[Tensor], steps: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """(updates of neurons that have received something, of others) a neuron, for each layer above s¹, each (B,).

    ``sent`` holds for s¹, s², … what a layer sent in each step, (steps, B); s³, s⁵, … are updated first in a step, so
    that what their neighbours sent in the step before wakes them, s², s⁴, … by what was sent in the same. In the first
    step all are.
    """
    active, idle = [], []
    for index in range(len(sent) - 1):
        heard = sent[index] + (sent[index + 2] if index + 2 < len(sent) else 0) > 0
        if index % 2:
            heard = heard.roll(1, 0)
        heard[0] = True
        inside = torch.arange(len(heard), device=steps.device).unsqueeze(1) < steps
        awake = (heard & inside).sum(0)
        active.append(awake)
        idle.append(steps - awake)
    return active, idle
