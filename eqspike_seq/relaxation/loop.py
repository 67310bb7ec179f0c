"""The loop through HopAttn: s² sends to the queries, which find something else, which moves s².

A small change of s² comes back multiplied by the loop gain, the largest eigenvalue of

    M = ½ D w₂ J w₂ᵀ D/τ,   J = Xᵀ (diag p − p pᵀ) X/√d of each row,   D = 1 for units of s² inside σ, else 0

which is symmetric and has no negative one. Below 1 the free phase settles, quickly below ½; near it and above, texts
may have more than one fixed point, and a network that ends in the wrong one answers wrongly. The temperature τ divides
it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqspike_seq.model.attention import hopattn_and_weights
from eqspike_seq.model.batch import Batch, Lookup
from eqspike_seq.model.network import Network, State
from eqspike_seq.model.projection import DenseProjection
from eqspike_seq.relaxation.buckets import buckets
from eqspike_seq.relaxation.dense import DenseBackend, sweep
from eqspike_seq.relaxation.stack import largest_change

ITERATIONS = 30  # of the power method
SWEEPS, STILL = 300, 1e-5  # from either end, and the change at which they stop
APART = 0.01  # of a unit, from which two ends are different ones


@dataclass(frozen=True)
class Loop:
    """``gain`` (B,) of each text at its free state; ``apart`` (B,) whether starts from s² = 0 and from s² = 1 end in
    different states."""

    gain: Tensor
    apart: Tensor


def loop_of(network: Network, batch: Batch | Lookup) -> Loop:
    """Of texts whose s¹ is HopAttn's, as they stand in ``batch``."""
    gain = torch.zeros(len(batch), dtype=network.dtype, device=batch.labels.device)
    apart = torch.zeros(len(batch), dtype=torch.bool, device=batch.labels.device)
    for rows, narrow, texts in buckets(DenseBackend(dtype=network.dtype), network, batch):
        projection = DenseProjection.of(narrow, texts, network.dtype)
        ends = [settled_from(projection, len(texts), level) for level in (0.0, 1.0)]
        apart[rows] = largest_change(ends[0].layers, ends[1].layers) > APART
        gain[rows] = loop_gain(projection, ends[0].layers[0])
    return Loop(gain, apart)


def settled_from(projection: DenseProjection, texts: int, level: float) -> State:
    """The free state that is reached with all units above s¹ at ``level``."""
    rest = projection.network.rest(texts)
    state = State(rest.projection, tuple(torch.full_like(layer, level) for layer in rest.layers))
    for _ in range(SWEEPS):
        before, state = state, sweep(projection, state)
        if float(largest_change(state.layers, before.layers).max()) < STILL:
            break
    return state


def loop_gain(projection: DenseProjection, s2: Tensor) -> Tensor:
    """The largest eigenvalue of M for each text, (B,), at ``s2`` (B, H₂), by the power method."""
    inputs, dim = projection.inputs, projection.network.shape.dim
    keys = inputs.patterns
    found, shares = hopattn_and_weights(projection.full_query(s2), keys, inputs.bias, projection.full)
    inside = ((s2 > 0) & (s2 < 1)).to(s2.dtype)
    v = torch.rand(s2.shape, generator=torch.Generator().manual_seed(0), dtype=s2.dtype).to(s2.device)
    gain = s2.new_zeros(len(s2))
    for _ in range(ITERATIONS):
        v = v * inside / (v * inside).norm(dim=1, keepdim=True).clamp(min=1e-30)
        turned = projection.down(v)
        scores = turned @ keys.mT
        moved = ((shares * scores) @ keys - found * (shares * scores).sum(-1, keepdim=True)) / dim**0.5
        v = 0.5 * projection.up(moved) * inside
        gain = v.norm(dim=1)
    return gain
