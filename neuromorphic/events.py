"""What spikes cost: events sent by each layer, and the synapses that they reach."""

from torch import Tensor

from eqspike_seq.ledger import Ledger, layer_products, real_units
from eqspike_seq.network import Batch, Network


def fan_outs(network: Network, units1: Tensor) -> list[Tensor]:
    """Synapses that one event of s¹, s², … reaches, down and up, for each text; each (B,). ``units1`` as real_units."""
    sizes = network.shape.sizes
    below = [units1.new_zeros(units1.shape), units1, *(units1.new_full(units1.shape, size) for size in sizes[1:-1])]
    above = [*sizes[1:], 0]
    return [down + up for down, up in zip(below, above, strict=True)]


def spiking_ledger(
    network: Network,
    batch: Batch,
    phase: str,
    spikes: list[Tensor],
    graded: list[Tensor],
    readings: Tensor,
    steps: Tensor,
) -> Ledger:
    """Events of one phase of a batch.

    ``spikes`` and ``graded`` hold the unit and the graded events of s¹, s², … sⁿ, each (B,); ``readings`` (B,) how
    often HopAttn was computed, ``steps`` (B,) how often each neuron above it was updated. A spike of s² goes up to s³
    and down to every real unit of s¹; a graded event is an event *and* a product at each synapse.
    """
    shape = network.shape
    sizes, count = shape.sizes, len(batch)
    units1 = real_units(shape, batch.mask)
    first = int(units1.sum())
    ledger = Ledger(samples={phase: count})
    updates = [(readings if shape.attention else steps) * units1, *(steps * size for size in sizes[1:])]
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
    if shape.attention:
        products = int((readings * layer_products(shape, batch.mask)["hopattn"]).sum())
        ledger.add("hopattn", phase, multiply_accumulates=products)
    if phase == "free":
        ledger.add("s1", phase, multiply_accumulates=first * shape.dim)  # x w₁, once a text
        ledger.synapses = {"w2": 2 * first * sizes[1]}
        pairs = zip(sizes[1:-1], sizes[2:], strict=True)
        ledger.synapses |= {f"w{i}": 2 * pre * post * count for i, (pre, post) in enumerate(pairs, start=3)}
    return ledger
