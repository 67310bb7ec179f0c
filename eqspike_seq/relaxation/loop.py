"""The loop through HopAttn: s² sends to the queries, which find something else, which moves s².

A small change of s² comes back multiplied by the loop gain, the largest eigenvalue of

    M = ½ D w₂ J w₂ᵀ D/τ,   J = Xᵀ (diag p − p pᵀ) X/√d of each row,   D = 1 for units of s² inside σ, else 0

(of a token layer s^c is in the place of s², and w_a in that of w₂), which is symmetric and has no negative one, unless
a device stores weights and patterns twice: then the length that the power method ends with stands for it. Below 1
the free phase settles, quickly below ½; near it and above, texts may have more than one fixed point, and a network that
ends in the wrong one answers wrongly. The temperature τ divides it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqspike_seq.model.attention import hopattn_and_weights
from eqspike_seq.model.batch import Batch, Lookup
from eqspike_seq.model.network import Network, State, above_s1
from eqspike_seq.model.projection import DenseProjection
from eqspike_seq.model.token_layer import dense_layer
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
        projection = dense_layer(narrow, texts, network.dtype)
        ends = [settled_from(projection, len(texts), level) for level in (0.0, 1.0)]
        apart[rows] = largest_change(above_s1(network.shape, ends[0]), above_s1(network.shape, ends[1])) > APART
        gain[rows] = loop_gain(projection, ends[0])
    return Loop(gain, apart)


def settled_from(projection: DenseProjection, texts: int, level: float) -> State:
    """The free state that is reached with all units above s¹ at ``level``."""
    shape, rest = projection.network.shape, projection.rest(texts)
    state = State(rest.projection, tuple(torch.full_like(layer, level) for layer in rest.layers))
    if shape.compared:
        state.projection.fill_(level)
    for _ in range(SWEEPS):
        before, state = state, sweep(projection, state)
        if float(largest_change(above_s1(shape, state), above_s1(shape, before)).max()) < STILL:
            break
    return state


def loop_gain(projection: DenseProjection, state: State) -> Tensor:
    """The largest eigenvalue of M for each text, (B,), at a ``state``, by the power method."""
    inputs, dim = projection.inputs, projection.network.shape.dim
    keys, (units, query) = inputs.patterns, projection.looped(state)
    values = keys if inputs.values is None else inputs.values
    found, shares = hopattn_and_weights(query, keys, inputs.bias, projection.full, values=values)
    inside, axes = ((units > 0) & (units < 1)).to(units.dtype), tuple(range(1, units.dim()))
    v = torch.rand(units.shape, generator=torch.Generator().manual_seed(0), dtype=units.dtype).to(units.device)
    gain = units.new_zeros(len(units))
    for _ in range(ITERATIONS):
        v = v * inside / (v * inside).square().sum(axes, keepdim=True).sqrt().clamp(min=1e-30)
        turned = projection.turned(v)
        scores = turned @ keys.mT
        moved = ((shares * scores) @ values - found * (shares * scores).sum(-1, keepdim=True)) / dim**0.5
        v = 0.5 * projection.returned(moved) * inside
        gain = v.square().sum(axes).sqrt()
    return gain
