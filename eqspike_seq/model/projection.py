"""What a HopAttn layer is to the layers above it: its inputs, s¹ from s², w₂ F(s¹), and changes of s¹ in the nudges.

s¹ ← HopAttn(x w₁ + F⁻¹(w₂ᵀ s²), X)            Bal & Sengupta (2023), Eq. 14; without attention σ of the same
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.model.attention import Retrieval, hopattn, hopattn_change, key_bias
from eqspike_seq.model.network import Batch, Network, State, gathered, sigma

SIZES = 16  # texts or units are left out by so many, so that few sizes of products come up: each is compiled once


@dataclass(frozen=True)
class Inputs:
    """A batch made ready for a network: what stays constant over all phases.

    ``patterns`` (B, P, N, D) are the keys, ``bias`` (B, P, 1, N) or None their mask, ``rows`` (B, P, N, 1) or None the
    mask of the queries, ``drive`` x w₁ (B, P, N, D), ``target`` one-hot labels (B, C). Where s¹ is clamped, ``drive``
    is 2x, so that σ(drive) = x, and ``current`` (B, H₂) is w₂ x; else it is None.
    """

    patterns: Tensor
    bias: Tensor | None
    rows: Tensor | None
    drive: Tensor
    target: Tensor
    current: Tensor | None = None

    def take(self, keep: Tensor | slice) -> "Inputs":
        """The texts named only."""
        return Inputs(
            self.patterns[keep],
            None if self.bias is None else self.bias[keep],
            None if self.rows is None else self.rows[keep],
            self.drive[keep],
            self.target[keep],
            None if self.current is None else self.current[keep],
        )


def prepare(network: Network, batch: Batch, dtype: torch.dtype) -> Inputs:
    """Gather queries and keys, project the queries; N·D-sized tensors in ``dtype``, the target as the weights are."""
    shape = network.shape
    x = batch.x.to(dtype)
    target = F.one_hot(batch.labels, shape.classes).to(network.w1.dtype)
    if shape.clamped:
        current = (x.flatten(1) @ network.w2(dtype).T).to(network.w1.dtype)
        return Inputs(x, None, None, 2 * x, target, current)
    mask = batch.mask if shape.masked else None
    return Inputs(
        patterns=gathered(x, shape.keys),
        bias=None if mask is None else key_bias(mask[:, shape.keys], dtype),
        rows=None if mask is None else mask[:, shape.queries].unsqueeze(-1),
        drive=gathered(x, shape.queries) @ network.w1.to(dtype),
        target=target,
    )


def above(network: Network, layers: tuple[Tensor, ...], index: int) -> Tensor:
    """w_{i+1}ᵀ s^{i+1} + b_i: what layer ``index`` of the stack gets apart from the layer below it."""
    if index + 1 == len(layers):
        return network.biases[index]
    return layers[index + 1] @ network.weights[index + 1] + network.biases[index]


def in_sizes(wanted: Tensor) -> Tensor:
    """Places of those ``wanted`` (n,), and of some others after them, up to a multiple of ``SIZES``."""
    count = -(-int(wanted.sum()) // SIZES) * SIZES
    return wanted.to(torch.int8).argsort(descending=True, stable=True)[:count]


def feedback(first: Tensor, w2: Tensor) -> Tensor:
    """F(w₂ᵀ s²) of s² or of a change of it (B, H₂), (B, P·N·D), in the type of ``w2``.

    One product serves all texts where they share one s² (stride 0); units of s² that are 0 in all texts, as changes of
    saturated ones are, take no part on a processor.
    """
    if first.stride(0) == 0:
        return (first[:1].to(w2.dtype) @ w2).expand(len(first), -1)
    if w2.device.type == "cpu":
        some = in_sizes(first.any(0))
        if 2 * len(some) < first.shape[1]:
            return first[:, some].to(w2.dtype) @ w2[some]
    return first.to(w2.dtype) @ w2


def project(network: Network, inputs: Inputs, first: Tensor, w2: Tensor) -> Tensor:
    """s¹ from s²: HopAttn (or σ) of x w₁ + F⁻¹(w₂ᵀ s²), padding rows 0; (B, P, N, D)."""
    if network.shape.clamped:
        return inputs.patterns
    query = inputs.drive + feedback(first, w2).view(inputs.drive.shape)
    new = hopattn(query, inputs.patterns, inputs.bias) if network.shape.attention else sigma(query)
    return new if inputs.rows is None else new.mul_(inputs.rows)


def input_of(network: Network, inputs: Inputs, projection: Tensor, w2: Tensor) -> Tensor:
    """w₂ F(s¹), (B, H₂), in the type of the weights."""
    if inputs.current is not None:
        return inputs.current
    return (projection.flatten(1).to(w2.dtype) @ w2.T).to(network.w1.dtype)


@dataclass(frozen=True)
class Anchor:
    """What the change of every layer is taken from: inputs u* of each layer, and of s¹ what it has found, else q*."""

    rows: Tensor | None
    start: Retrieval | Tensor  # with HopAttn, without
    u: tuple[Tensor, ...]
    error: Tensor  # y − s*ⁿ

    def take(self, keep: Tensor | slice) -> "Anchor":
        """The texts named only."""
        return Anchor(
            None if self.rows is None else self.rows[keep],
            self.start[keep] if isinstance(self.start, Tensor) else self.start.take(keep),
            tuple(u[keep] for u in self.u),
            self.error[keep],
        )


def full_query(network: Network, inputs: Inputs, first: Tensor) -> Tensor:
    """x w₁ + F⁻¹(w₂ᵀ s²) in the precision of the weights, (B, P, N, D); where s¹ is clamped, 2x."""
    drive = inputs.drive.to(network.w1.dtype)
    return drive if network.shape.clamped else drive + feedback(first, network.weights[0]).view(drive.shape)


def make_anchor(
    network: Network, inputs: Inputs, base: State, start: Retrieval | Tensor, below: Tensor | None = None
) -> Anchor:
    """u* once, in the precision of the weights, from s* = ``base``; in the shapes of a nudge: (B, 1, Hᵢ).

    ``start`` is what the query has found, without HopAttn the query; ``below`` is w₂ F(s¹*), if it is there already.
    """
    if below is None:
        below = base.projection.to(network.w1.dtype).flatten(1) @ network.weights[0].T
    currents = [below, *(low @ w.T for low, w in zip(base.layers, network.weights[1:], strict=False))]
    return Anchor(
        inputs.rows,
        start,
        tuple((u + above(network, base.layers, i)).unsqueeze(1) for i, u in enumerate(currents)),
        (inputs.target - base.output).unsqueeze(1),
    )


def project_change(anchor: Anchor, change: Tensor) -> Tensor:
    """Change of s¹, which is not clamped, that a change of its query brings, both (B, G, P, N, D), padding rows 0."""
    if isinstance(anchor.start, Retrieval):
        moved = hopattn_change(change, anchor.start)
    else:
        query = anchor.start.unsqueeze(1)
        moved = (sigma(query + change) - sigma(query)).to(change.dtype)
    return moved if anchor.rows is None else moved.mul_(anchor.rows.unsqueeze(1))
