"""What learning from a batch takes: its phases, what synapses and patterns gather, the optimiser."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from eqspike_seq.learning.optimisers import OPTIMIZERS
from eqspike_seq.ledger import Ledger, compared_units, dense_ledger, read_units, real_units, row_tokens
from eqspike_seq.model.network import Shape
from eqspike_seq.phases import Phase


def training_ledger(
    shape: Shape, mask: Tensor, phases: Iterable[Ledger], optimizer: str | None, bptt_steps: int = 0, patterns: int = 0
) -> Ledger:
    """All that learning from a batch takes: its phases, then ``update_ledger``."""
    whole = Ledger()
    for phase in phases:
        whole += phase
    whole += update_ledger(shape, mask, whole, optimizer, bptt_steps, patterns)
    return whole


def update_ledger(
    shape: Shape, mask: Tensor, relaxed: Ledger, optimizer: str | None, bptt_steps: int = 0, patterns: int = 0
) -> Ledger:
    """What learning from a batch takes once its phases are over.

    EP: each synapse adds d_post s̄_pre + s̄_post d_pre to what it has gathered, two products, one word read and written;
    unless ``relaxed`` shows that its synapses learnt at each event. Backpropagation: ``bptt_steps`` sweeps forward and
    back. Then the optimiser, once for all texts; None where another process that shares the batch counts it. Of the
    patterns X, where they are learnt, so many different ones, ``patterns``, occur in the batch.

    A weight that has a copy for feedback, and a pattern that is stored as key and value, is two synapses: each gathers
    for itself, both products under the plain rule, else one.
    """
    phase, count = Phase.UPDATE, len(mask)
    ledger = Ledger(samples={phase: count}, sizes=list(shape.sizes))
    ledger.add("input", phase, io_bytes=count)  # the label
    units = real_units(shape, mask)
    by_event = relaxed.total("plasticity_writes") > 0
    copies = 2 if shape.feedback else 1
    one_sided = shape.one_sided
    if bptt_steps:
        _add_backpropagation(ledger, shape, mask, bptt_steps)
    above = [f"{kind}{index}" for index in range(2, len(shape.sizes) + 1) for kind in "wb"]
    parameters = {name: math.prod(size) for name, size in shape.parameters.items() if name not in above}

    def gather(layer: str, words: int, **others: int) -> None:
        ledger.add(layer, phase, plasticity_reads=words, plasticity_writes=words, **others)

    if shape.pooling:
        gather("q", count * parameters["q"], accumulates=count * parameters["q"])
    elif not shape.clamped:
        gather("w1", count * parameters["w1"], multiply_accumulates=int(units.sum()) * shape.dim)
    if shape.compared:
        products = int(compared_units(shape, mask).sum()) * shape.dim
        for name in (each for each in shape.of_tokens if each != "bx"):
            terms = 1 if name == "wx" or one_sided else 2
            gather(name, count * parameters[name], multiply_accumulates=terms * products)
        gather("bx", count * shape.compared, accumulates=count * shape.compared)
    if shape.learnt:
        _add_patterns(ledger, shape, mask, copies, one_sided)
    below, flat = read_units(shape, mask), shape.flat
    for index, size in enumerate(shape.sizes[1:], start=2):
        pairs = 0 if by_event or bptt_steps else int(below.sum()) * size
        twice = f"w{index}" in shape.sent_back
        if twice:
            gather(f"v{index}", pairs, multiply_accumulates=pairs if one_sided else 2 * pairs)
        products = pairs if twice and one_sided else 2 * pairs
        gather(f"w{index}", pairs + count * size, accumulates=count * size, multiply_accumulates=products)  # biases too
        parameters[f"w{index}"] = flat * size + size
        below, flat = torch.full_like(below, size), size
    if optimizer is None:
        return ledger
    if shape.learnt:  # one word a component: no moments
        touched = copies * shape.dim * patterns
        products = 2 * touched  # its square, and the step
        ledger.add("X", phase, optimiser_reads=2 * touched, optimiser_writes=2 * touched, multiply_accumulates=products)
    step = OPTIMIZERS[optimizer]
    for layer, number in parameters.items():
        words = {"optimiser_reads": step.reads * number, "optimiser_writes": step.writes * number}
        arithmetic = {"multiply_accumulates": step.products * number, "divisions": step.divisions * number}
        ledger.add(layer, phase, **words, **arithmetic)
    return ledger


def _add_patterns(ledger: Ledger, shape: Shape, mask: Tensor, copies: int, one_sided: bool) -> None:
    """Every pattern of a text adds δp q̄ + p̄ δq of each row that sees it to what it has gathered, each of its
    ``copies``, or one term each where they learn ``one_sided``; with a token layer also w₁ δr + w_xᵀ δs^c + δr∘g + r∘δg
    where it asks, g = w_aᵀ s^c and δg."""
    rows, stored = row_tokens(shape, mask)
    seen, own = 2 * int((rows * stored).sum()) * shape.dim, int(stored.sum()) * shape.dim
    if shape.compared:
        units = int(real_units(shape, mask).sum())
        seen, own = seen + units * (shape.dim + 3 * shape.compared + 2), own + units
    seen, own = seen if one_sided else copies * seen, copies * own
    ledger.add("X", Phase.UPDATE, multiply_accumulates=seen, plasticity_reads=own, plasticity_writes=own)


def _add_backpropagation(ledger: Ledger, shape: Shape, mask: Tensor, steps: int) -> None:
    """``steps`` sweeps forward, all activations kept, and back: a product for the error and one for the weight, each.

    Every step's gradient of every weight is added to what the synapse has gathered.
    """
    taken = torch.full_like(mask[:, 0].sum(-1), steps)
    forward = dense_ledger(shape, mask, taken, Phase.UPDATE)
    kept = forward.total("state_writes")
    for layer, phases in forward.counts.items():
        for kinds in phases.values():
            uses = kinds["multiply_accumulates"]
            ledger.add(layer, Phase.UPDATE, **{**kinds, "multiply_accumulates": 3 * uses})
            if layer != "hopattn":
                ledger.add(layer, Phase.UPDATE, weight_reads=uses, plasticity_reads=uses, plasticity_writes=uses)
    ledger.add("s1", Phase.UPDATE, state_reads=kept)
