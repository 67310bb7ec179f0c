"""What a HopAttn layer is to the layers above it: its inputs, s¹ from s², w₂ F(s¹), and changes of s¹ in the nudges.

s¹ ← HopAttn(x w₁ + F⁻¹(w₂ᵀ s²), X)            Bal & Sengupta (2023), Eq. 14; without attention σ of the same

*Pooling queries* ask by q in place of x w₁ (Ramsauer et al. 2021), and with a temperature τ scores are q̂·x/(τ√d) +
log(count), q̂ = q + F⁻¹(w₂ᵀ s²). Stored is q/τ, so that τ weakens what comes back from s² and nothing else (weak
feedback, Xie & Seung 2003). The layer's part of the total potential is G(q̂; X) = τ√d · lse(X q̂/(τ√d) + log count),
whatever τ: s¹ = ∂G/∂q̂. Its derivatives are what it learns from, all local to a query or a pattern and its share p:

    ∂/∂(q/τ) = τ s¹        ∂/∂x_j = Σ_rows p_j q̂

``prepare`` says what asks and what is stored, ``products`` what is learnt of it. How a layer answers is up to its
circuit. All circuits have the same four methods:

    free(s²)     s¹ in the free phase                anchor(…)    the same layer in the nudges, from where it ended:
    activity()   what it took, of spikes only        change(δs²)  the change of s¹ since, and its own activity()

``DenseProjection`` computes all rows exactly; those beside spiking neurons are in ``neuromorphic.attention``.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.model.attention import (
    OfTexts,
    Retrieval,
    hopattn,
    hopattn_and_weights,
    hopattn_change,
    key_bias,
    weights,
    weights_change,
)
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, State, gathered, phi, sigma
from eqspike_seq.model.synapses import Recall

SIZES = 16  # texts or units are left out by so many, so that few sizes of products come up: each is compiled once


@dataclass(frozen=True)
class Inputs(OfTexts):
    """A batch made ready for a network: what stays constant over all phases.

    ``patterns`` (B, P, N, D) are the keys and, without ``values`` like them, also what is found, ``bias`` (B, P, 1, N)
    or None their mask and the logarithms of their counts, ``rows`` (B, P, N, 1) or None the mask of the queries,
    ``drive`` x w₁ or q/τ (B, P, R, D), ``target`` one-hot labels (B, C), ``current`` None. s¹ may be clamped: σ(drive)
    is x, and ``current`` (B, H₂) w₂ x. A token layer has all tokens of an example in one row, see ``packing``: P = 1,
    ``bias`` (B, 1, R, N), ``sums`` as there, ``current`` w_x x + b_x and ``asked`` x of those that ask (B, 1, R, ·).
    """

    patterns: Tensor
    bias: Tensor | None
    rows: Tensor | None
    drive: Tensor
    target: Tensor
    current: Tensor | None = None
    sums: Tensor | None = None
    values: Tensor | None = None
    asked: Tensor | None = None


def prepare(network: Network, batch: Batch, dtype: torch.dtype) -> Inputs:
    """Gather queries and keys, project the queries; N·D-sized tensors in ``dtype``, the target as the weights are."""
    shape = network.shape
    x = batch.x.to(dtype)
    target = one_hot(network, batch)
    if shape.clamped:
        current = (x.flatten(1) @ network.w2(dtype).T).to(network.dtype)
        return Inputs(x, None, None, 2 * x, target, current)
    mask = batch.mask if shape.masked else None
    bias = None if mask is None else key_bias(mask[:, shape.keys], dtype)
    if bias is not None and batch.counts is not None:
        bias += batch.counts[:, shape.keys].clamp(min=1).log().unsqueeze(-2).to(dtype)
    asking, rows = network.asking.to(dtype), None
    if shape.pooling:
        drive = asking.expand(len(batch), -1, -1, -1)
    else:
        asked = gathered(x, shape.queries)
        drive = asked @ asking
        rows = None if mask is None else mask[:, shape.queries].unsqueeze(-1)
    values = None if batch.values is None else gathered(batch.values.to(dtype), shape.keys)
    return Inputs(gathered(x, shape.keys), bias, rows, drive, target, values=values)


def one_hot(network: Network, batch: Batch) -> Tensor:
    """y, (B, C), in the type of the weights."""
    return F.one_hot(batch.labels, network.shape.classes).to(network.dtype)


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


def down(s2: Tensor, w2: Tensor, rows: tuple[int, ...], temperature: float) -> Tensor:
    """F⁻¹(w₂ᵀ s²)/τ: (B, H₂) → (B, *rows), or (B, G, H₂) → (B, G, *rows)."""
    found = feedback(s2.flatten(0, -2), w2)
    return (found if temperature == 1 else found / temperature).view(*s2.shape[:-1], *rows)


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
        return self.network.dtype

    def take(self, keep: Tensor | slice) -> Self:
        """The texts named only."""
        every = isinstance(keep, slice) and keep == slice(None)
        return self if every else replace(self, inputs=self.inputs.take(keep))

    def rest(self, texts: int) -> State:
        """The state that free phases start from."""
        return self.network.rest(texts)

    def phi(self, state: State) -> Tensor:
        """φ of the network for each text, (B,)."""
        return phi(self.network, self.inputs.drive.to(self.full), state)

    def down(self, s2: Tensor) -> Tensor:
        """F⁻¹(w₂ᵀ s²)/τ: (B, H₂) → (B, P, R, D), or (B, G, H₂) → (B, G, P, R, D); by v₂, where there is one."""
        return down(s2, self.v2, self.inputs.drive.shape[1:], self.network.shape.temperature)

    @property
    def v2(self) -> Tensor:
        """What s² is sent down by, in the type of the large products."""
        return self.network.v2(self.w2.dtype) if self.network.copies else self.w2

    def up(self, s1: Tensor) -> Tensor:
        """w₂ F(s¹): (B, P, R, D) → (B, H₂), or (B, G, P, R, D) → (B, G, H₂), in the type of the weights."""
        return (s1.flatten(-3).to(self.w2.dtype) @ self.w2.T).to(self.full)

    def full_query(self, s2: Tensor) -> Tensor:
        """q̂/τ = (x w₁ + F⁻¹(w₂ᵀ s²))/τ in the precision of the weights, (B, P, R, D); where s¹ is clamped, 2x."""
        drive, network = self.inputs.drive.to(self.full), self.network
        if network.shape.clamped:
            return drive
        return drive + down(s2, network.downward[0], drive.shape[1:], network.shape.temperature)

    def scored(self, query: Tensor) -> Tensor:
        """By which patterns are scored: a ``query``, or 0 where shares are as counts."""
        return torch.zeros_like(query) if self.network.shape.uniform else query


@dataclass(frozen=True)
class Found(OfTexts):
    """What each query q* has found, and how that changes with the query. ``rows`` as in ``Inputs``."""

    rows: Tensor | None
    start: Retrieval

    @classmethod
    def of(cls, query: Tensor, inputs: Inputs, dtype: torch.dtype, top: int = 0) -> tuple[Tensor, "Found"]:
        """Also s¹ = HopAttn(q*, X), in the precision of ``query``; shares are kept in ``dtype``."""
        s1, shares = hopattn_and_weights(query, inputs.patterns, inputs.bias, dtype, top, inputs.values)
        start = Retrieval.of(query, inputs.patterns, inputs.bias, shares, s1, top)
        return real(s1, inputs.rows), cls(inputs.rows, start).among(inputs)

    def among(self, inputs: Inputs) -> "Found":
        """The same, changes taken among the patterns of ``inputs``."""
        start = replace(self.start, patterns=inputs.patterns, bias=inputs.bias, values=inputs.values)
        return replace(self, start=start)

    def transposed(self) -> Self:
        """For changes that travel from values to keys."""
        return replace(self, start=replace(self.start, back=True))

    def change(self, query: Tensor) -> Tensor:
        """Of s¹, by a change of its query, both (B, G, P, R, D)."""
        return real(hopattn_change(query, self.start), self.rows)

    def shifted(self, query: Tensor) -> Tensor:
        """The change of p, (B, P, R, N), by a change of its query (B, P, R, D)."""
        return weights_change(query, self.start)

    def after(self, moved: Tensor, query: Tensor, part: float = 1.0) -> Recall:
        """(p, q̂/τ) once that ``part`` of both changes has happened."""
        return self.start.shares + part * moved, self.start.query + part * query


@dataclass(frozen=True)
class Even(Found):
    """The same where shares are as counts: s¹ rests, and only what comes back to the queries changes."""

    def change(self, query: Tensor) -> Tensor:
        """None."""
        return torch.zeros_like(query)

    def shifted(self, query: Tensor) -> Tensor:
        """None."""
        return torch.zeros_like(self.start.shares)


@dataclass(frozen=True)
class Sigma(OfTexts):
    """The same without HopAttn: s¹ = σ(q*)."""

    rows: Tensor | None
    query: Tensor

    def change(self, query: Tensor) -> Tensor:
        """Of s¹, by a change of its query, both (B, G, P, N, D)."""
        start = self.query.unsqueeze(1)
        return real((sigma(start + query) - sigma(start)).to(query.dtype), self.rows)


@dataclass(frozen=True)
class DenseAnchor(OfTexts):
    """Changes of s¹ from ``s1`` (B, P, R, D). ``current`` w₂ F(s¹*) (B, H₂) at full precision; ``v2`` sends down."""

    s1: Tensor
    current: Tensor
    start: Found | Sigma
    w2: Tensor
    v2: Tensor
    temperature: float

    def transposed(self) -> Self:
        """The same for changes that travel every synapse against its direction."""
        start = self.start.transposed() if isinstance(self.start, Found) else self.start
        return replace(self, start=start, w2=self.v2, v2=self.w2)

    def take(self, keep: Tensor | slice) -> "DenseAnchor":
        """The texts named only, for changes."""
        return replace(self, start=self.start.take(keep))

    def change(self, s2: Tensor, before: Tensor) -> Tensor:
        """Of s¹, unless it is clamped, by a change of s²; ``before`` is what it was."""
        return self.start.change(self.turned(s2))

    def turned(self, s2: Tensor) -> Tensor:
        """The change of q̂/τ."""
        return down(s2, self.v2, self.s1.shape[1:], self.temperature)

    def up(self, change: Tensor) -> Tensor:
        """w₂ F(δs¹), (B, G, H₂)."""
        return change.flatten(2) @ self.w2.T

    def with_recall(self, rates: State, change: State) -> tuple[State, State]:
        """The state at the end of a nudge, and its ``change``, with what the patterns learn from."""
        assert isinstance(self.start, Found)
        query = self.turned(change.layers[0])
        moved = self.start.shifted(query)
        return replace(rates, recall=self.start.after(moved, query)), replace(change, recall=(moved, query))


class DenseProjection(Layer):
    """HopAttn of every row, without attention σ; where s¹ is clamped, the input."""

    def free(self, s2: Tensor, before: Tensor, synchronous: bool = False) -> Tensor:
        """s¹ (B, P, R, D) of s² (B, H₂), padding rows 0, whatever it was ``before``."""
        inputs, shape = self.inputs, self.network.shape
        if shape.clamped:
            return inputs.patterns
        query = torch.zeros_like(inputs.drive) if shape.uniform else inputs.drive + self.down(s2)
        found = hopattn(query, inputs.patterns, inputs.bias, values=inputs.values) if shape.attention else sigma(query)
        return real(found, inputs.rows)

    def looped(self, state: State) -> tuple[Tensor, Tensor]:
        """(s², q̂/τ): where the loop through HopAttn starts, and what it turns."""
        return state.layers[0], self.full_query(state.layers[0])

    def turned(self, units: Tensor) -> Tensor:
        """What s², or a change of it, sends to the queries."""
        return self.down(units)

    def returned(self, s1: Tensor) -> Tensor:
        """What s¹, or a change of it, sends to s²."""
        return self.up(s1)

    def recall(self, state: State) -> Recall:
        """What the patterns learn from: (p, q̂/τ), or () where they are not learnt."""
        if not self.network.shape.learnt:
            return ()
        s2 = state.layers[0]
        return weights(self.scored(self.full_query(s2)), self.inputs.patterns, self.inputs.bias), self.full_query(s2)

    def up(self, s1: Tensor) -> Tensor:
        """w₂ F(s¹); where s¹ is clamped, it is there already."""
        return super().up(s1) if self.inputs.current is None else self.inputs.current

    def anchor(self, state: State, batch: Batch) -> DenseAnchor:
        """What changes are taken from, after one more sweep; ``batch`` is the layer's."""
        s2 = state.layers[0]
        exact = self if self.w2.dtype == self.full else DenseProjection.of(self.network, batch, self.full)
        query, rows = exact.scored(exact.full_query(s2)), exact.inputs.rows
        sent = (self.w2, self.v2, self.network.shape.temperature)
        if self.network.shape.attention:
            s1, found = (Even if self.network.shape.uniform else Found).of(query, exact.inputs, self.w2.dtype)
            return DenseAnchor(s1.to(self.w2.dtype), exact.up(s1), found.among(self.inputs), *sent)
        s1 = self.inputs.patterns if self.network.shape.clamped else real(sigma(query), rows)
        return DenseAnchor(s1.to(self.w2.dtype), exact.up(s1), Sigma(rows, query), *sent)
