"""What spikes cost: events sent by each layer, and the synapses that they reach."""

from dataclasses import dataclass

from torch import Tensor

from eqspike_seq.ledger import Ledger, real_units, row_tokens
from eqspike_seq.network import Batch, Network


@dataclass(frozen=True)
class AttentionEvents:
    """What HopAttn took in one phase.

    ``rows`` (B, P): how often token rows were computed, in all. ``query`` (B, P): unit spikes that the queries sent to
    the stored patterns, None where the scores are products with the query itself. ``patterns`` (B, P): unit spikes of
    the stored patterns, None where a softmax mixes them; ``top``: patterns that it mixes, 0 for all.
    """

    rows: Tensor
    query: Tensor | None = None
    patterns: Tensor | None = None
    top: int = 0

    def count(self, ledger: Ledger, network: Network, batch: Batch, phase: str) -> None:
        """Add it to ``ledger``: layer "query" sends to the patterns, layer "hopattn" back to the units of s¹.

        Scores take n_k·D products a row, or n_k additions a spike of the query; mixing n_k·D products (top: fewer), or
        D additions a spike of a pattern.
        """
        dim = network.shape.dim
        rows, patterns = row_tokens(network.shape, batch.mask)
        pairs = int((rows * patterns).sum()) * dim
        products = 0
        if self.query is None:
            products += int((self.rows * patterns).sum()) * dim
        else:
            reached = int((self.query.double() * patterns).sum())
            ledger.add("query", phase, spikes=int(self.query.sum()), synaptic_events=reached, accumulates=reached)
        spikes = 0 if self.patterns is None else int(self.patterns.sum())
        if self.patterns is None:
            mixed = patterns.clamp(max=self.top) if self.top else patterns
            products += int((self.rows * mixed).sum()) * dim
        ledger.add(
            "hopattn",
            phase,
            spikes=spikes,
            synaptic_events=spikes * dim,
            accumulates=spikes * dim,
            multiply_accumulates=products,
        )
        if phase == "free":
            ledger.synapses |= {} if self.query is None else {"query": pairs}
            ledger.synapses |= {} if self.patterns is None else {"patterns": pairs}


def fan_outs(network: Network, units1: Tensor) -> list[Tensor]:
    """Synapses that one event of s¹, s², … reaches, down and up, for each text; each (B,). ``units1`` as real_units.

    Nothing goes down to an s¹ that is clamped.
    """
    sizes, none = network.shape.sizes, units1.new_zeros(units1.shape)
    first = none if network.shape.clamped else units1
    below = [none, first, *(units1.new_full(units1.shape, size) for size in sizes[1:-1])]
    above = [*sizes[1:], 0]
    return [down + up for down, up in zip(below, above, strict=True)]


def spiking_ledger(
    network: Network,
    batch: Batch,
    phase: str,
    spikes: list[Tensor],
    graded: list[Tensor],
    steps: Tensor,
    attention: AttentionEvents | None,
) -> Ledger:
    """Events of one phase of a batch.

    ``spikes`` and ``graded`` hold the unit and the graded events of s¹, s², … sⁿ, each (B,); ``steps`` (B,) how often
    each neuron above s¹ was updated. A spike of s² goes up to s³ and down to every real unit of s¹; a graded event is
    an event *and* a product at each synapse.
    """
    shape = network.shape
    sizes, count = shape.sizes, len(batch)
    units1 = real_units(shape, batch.mask)
    first = int(units1.sum())
    ledger = Ledger(samples={phase: count})
    first_updated = steps * units1 if attention is None else attention.rows.sum(1) * shape.dim
    updates = [first_updated, *(steps * size for size in sizes[1:])]
    columns = zip(spikes, graded, fan_outs(network, units1), updates, strict=True)
    for index, (units, values, fan_out, updated) in enumerate(columns, start=1):
        accumulates = int((units.double() * fan_out).sum())
        products = int((values.double() * fan_out).sum())
        ledger.add(
            f"s{index}",
            phase,
            spikes=int(units.sum()),
            graded_events=int(values.sum()),
            synaptic_events=accumulates + products,
            accumulates=accumulates,
            multiply_accumulates=products,
            neuron_updates=int(updated.sum()),
        )
    if attention is not None:
        attention.count(ledger, network, batch, phase)
    if phase == "free":
        ledger.add("s1", phase, multiply_accumulates=0 if shape.clamped else first * shape.dim)  # x w₁, once a text
        ledger.synapses |= {"w2": (1 if shape.clamped else 2) * first * sizes[1]}
        pairs = zip(sizes[1:-1], sizes[2:], strict=True)
        ledger.synapses |= {f"w{i}": 2 * pre * post * count for i, (pre, post) in enumerate(pairs, start=3)}
    return ledger
