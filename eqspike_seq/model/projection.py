"""What a HopAttn layer is to the layers above it: its inputs, s¹ from s², w₂ F(s¹), and changes of s¹ in the nudges.

s¹ ← HopAttn(x w₁ + F⁻¹(w₂ᵀ s²), X)            Bal & Sengupta (2023), Eq. 14; without attention σ of the same

``prepare`` says what asks and what is stored, ``static_products`` what is learnt of it: here is where another kind of
layer goes. How one answers is up to its circuit. All circuits have the same four methods:

    free(s²)     s¹ in the free phase                anchor(…)    the same layer in the nudges, from where it ended:
    activity()   what it took, of spikes only        change(δs²)  the change of s¹ since, and its own activity()

``DenseProjection`` computes all rows exactly; those beside spiking neurons are in ``neuromorphic.attention``.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.model.attention import Retrieval, hopattn, hopattn_and_weights, hopattn_change, key_bias
from eqspike_seq.model.network import Batch, Network, gathered, sigma

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


def static_products(network: Network, batch: Batch, s1: Tensor) -> dict[str, Tensor]:
    """Σ x ⊗ s¹ over the batch, for w₁ (P, D, D): what the synapses of static inputs hold; {} where s¹ is clamped."""
    if network.shape.clamped:
        return {}
    queries = gathered(batch.x, network.shape.queries).to(s1.dtype)
    return {"w1": torch.einsum("bpnd,bpne->pde", queries, s1.view(queries.shape))}


def in_sizes(wanted: Tensor) -> Tensor:
    """Places of those ``wanted`` (n,), and of some others after them, up to a multiple of ``SIZES``."""
    count = -(-int(wanted.sum()) // SIZES) * SIZES
    return wanted.to(torch.int8).argsort(descending=True, stable=True)[:count]


def feedback(s2: Tensor, w2: Tensor) -> Tensor:
    """F(w₂ᵀ s²) of s² or of a change of it (B, H₂), (B, P·N·D), in the type of ``w2``.

    One product serves all texts where they share one s² (stride 0); units of s² that are 0 in all texts, as changes of
    saturated ones are, take no part on a processor.
    """
    if s2.stride(0) == 0:
        return (s2[:1].to(w2.dtype) @ w2).expand(len(s2), -1)
    if w2.device.type == "cpu":
        some = in_sizes(s2.any(0))
        if 2 * len(some) < s2.shape[1]:
            return s2[:, some].to(w2.dtype) @ w2[some]
    return s2.to(w2.dtype) @ w2


def down(s2: Tensor, w2: Tensor, rows: tuple[int, ...]) -> Tensor:
    """F⁻¹(w₂ᵀ s²): (B, H₂) → (B, *rows), or (B, G, H₂) → (B, G, *rows)."""
    return feedback(s2.flatten(0, -2), w2).view(*s2.shape[:-1], *rows)


def real(s1: Tensor, rows: Tensor | None) -> Tensor:
    """``s1``, (B, P, N, D) or (B, G, P, N, D), in place, 0 in the rows of padding."""
    return s1 if rows is None else s1.mul_(rows if s1.dim() == 4 else rows.unsqueeze(1))


@dataclass(frozen=True)
class Layer:
    """A projection layer of a network on a batch. ``w2`` (H₂, P·N·D) is in the type of the large products."""

    network: Network
    inputs: Inputs
    w2: Tensor

    @classmethod
    def of(cls, network: Network, batch: Batch, dtype: torch.dtype) -> Self:
        """With large products in ``dtype``."""
        return cls(network, prepare(network, batch, dtype), network.w2(dtype))

    @property
    def full(self) -> torch.dtype:
        """The type of the weights."""
        return self.network.w1.dtype

    def take(self, keep: Tensor | slice) -> Self:
        """The texts named only."""
        return replace(self, inputs=self.inputs.take(keep))

    def down(self, s2: Tensor) -> Tensor:
        """F⁻¹(w₂ᵀ s²): (B, H₂) → (B, P, N, D), or (B, G, H₂) → (B, G, P, N, D)."""
        return down(s2, self.w2, self.inputs.drive.shape[1:])

    def up(self, s1: Tensor) -> Tensor:
        """w₂ F(s¹): (B, P, N, D) → (B, H₂), or (B, G, P, N, D) → (B, G, H₂), in the type of the weights."""
        return (s1.flatten(-3).to(self.w2.dtype) @ self.w2.T).to(self.full)

    def full_query(self, s2: Tensor) -> Tensor:
        """x w₁ + F⁻¹(w₂ᵀ s²) in the precision of the weights, (B, P, N, D); where s¹ is clamped, 2x."""
        drive = self.inputs.drive.to(self.full)
        return drive if self.network.shape.clamped else drive + feedback(s2, self.network.weights[0]).view(drive.shape)


@dataclass(frozen=True)
class Found:
    """What each query q* has found, and how that changes with the query. ``rows`` as in ``Inputs``."""

    rows: Tensor | None
    start: Retrieval

    @classmethod
    def of(cls, query: Tensor, inputs: Inputs, dtype: torch.dtype, top: int = 0) -> tuple[Tensor, "Found"]:
        """Also s¹ = HopAttn(q*, X), in the precision of ``query``; shares are kept in ``dtype``."""
        s1, shares = hopattn_and_weights(query, inputs.patterns, inputs.bias, dtype, top)
        start = Retrieval.of(query, inputs.patterns, inputs.bias, shares, s1, top)
        return real(s1, inputs.rows), cls(inputs.rows, start)

    def among(self, inputs: Inputs) -> "Found":
        """The same, changes taken among the patterns of ``inputs``."""
        return replace(self, start=replace(self.start, patterns=inputs.patterns, bias=inputs.bias))

    def take(self, keep: Tensor | slice) -> "Found":
        """The texts named only."""
        return Found(None if self.rows is None else self.rows[keep], self.start.take(keep))

    def change(self, query: Tensor) -> Tensor:
        """Of s¹, by a change of its query, both (B, G, P, N, D)."""
        return real(hopattn_change(query, self.start), self.rows)


@dataclass(frozen=True)
class Sigma:
    """The same without HopAttn: s¹ = σ(q*)."""

    rows: Tensor | None
    query: Tensor

    def take(self, keep: Tensor | slice) -> "Sigma":
        """The texts named only."""
        return Sigma(None if self.rows is None else self.rows[keep], self.query[keep])

    def change(self, query: Tensor) -> Tensor:
        """Of s¹, by a change of its query, both (B, G, P, N, D)."""
        start = self.query.unsqueeze(1)
        return real((sigma(start + query) - sigma(start)).to(query.dtype), self.rows)


@dataclass(frozen=True)
class DenseAnchor:
    """``s1`` s¹* (B, P, N, D), ``current`` w₂ F(s¹*) (B, H₂) from it at full precision, and changes of s¹."""

    s1: Tensor
    current: Tensor
    start: Found | Sigma
    w2: Tensor

    def take(self, keep: Tensor | slice) -> "DenseAnchor":
        """The texts named only, for changes."""
        return replace(self, start=self.start.take(keep))

    def change(self, s2: Tensor) -> Tensor:
        """Of s¹, unless it is clamped, by a change of s²."""
        return self.start.change(down(s2, self.w2, self.s1.shape[1:]))


class DenseProjection(Layer):
    """HopAttn of every row, without attention σ; where s¹ is clamped, the input."""

    def free(self, s2: Tensor) -> Tensor:
        """s¹ (B, P, N, D) of s² (B, H₂), padding rows 0."""
        inputs, shape = self.inputs, self.network.shape
        if shape.clamped:
            return inputs.patterns
        query = inputs.drive + self.down(s2)
        return real(hopattn(query, inputs.patterns, inputs.bias) if shape.attention else sigma(query), inputs.rows)

    def up(self, s1: Tensor) -> Tensor:
        """w₂ F(s¹); where s¹ is clamped, it is there already."""
        return super().up(s1) if self.inputs.current is None else self.inputs.current

    def anchor(self, s2: Tensor, batch: Batch) -> DenseAnchor:
        """What changes are taken from; ``batch`` is the layer's."""
        exact = self if self.w2.dtype == self.full else DenseProjection.of(self.network, batch, self.full)
        query, rows = exact.full_query(s2), exact.inputs.rows
        if self.network.shape.attention:
            s1, found = Found.of(query, exact.inputs, self.w2.dtype)
            return DenseAnchor(s1.to(self.w2.dtype), exact.up(s1), found.among(self.inputs), self.w2)
        s1 = self.inputs.patterns if self.network.shape.clamped else real(sigma(query), rows)
        return DenseAnchor(s1.to(self.w2.dtype), exact.up(s1), Sigma(rows, query), self.w2)
