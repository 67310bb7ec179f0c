"""The token layer: each token is compared with what it has found in the other text, by rates, as a projection layer.

    r_j ← HopAttn(q̂_j, X),   q̂_j = w₁ x_j + x_j∘(w_aᵀ s^c_j)/τ,   s¹_j = x_j∘r_j
    s^c_j ← σ(w_x x_j + b_x + w_a s¹_j + F⁻¹(w₂ᵀ s²)/(τ√n))

of every token j of the text that asks, n of them; X is the text that is searched, and r_j what the token retrieves. ∘
multiplies component by component: s¹_j compares the token with what it has retrieved, and the same gain x_j acts on the
way back, so that the connection stays symmetric. All tokens of a pair stand in one row (``packing``), of R. The
temperature τ weakens what comes back, from s^c to the queries and from s² to s^c, and nothing else (weak feedback, Xie
& Seung 2003): what is stored is w₁/τ. The state is s^c; r is a function of it, by ∂/∂q̂ of the first term of

    φ ∋ τ Σ_j [ τ√d · lse(X q̂_j/√d) + s^c_jᵀ (w_x x_j + b_x) ] + s²ᵀ w₂ (Σ_j s^c_j/√n)

The layers above see the sum over the tokens only. Attend, compare, aggregate: Parikh, Täckström, Das & Uszkoreit
(2016); a product as the comparison: Wang & Jiang (2017).
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.model.attention import BLOCKED, chosen, hopattn, potential, weights
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, State, phi_above, sigma
from eqspike_seq.model.packing import Packed, summed
from eqspike_seq.model.projection import DenseAnchor, DenseProjection, Even, Found, Inputs, feedback, one_hot, real
from eqspike_seq.model.synapses import Recall


def dense_layer(network: Network, batch: Batch, dtype: torch.dtype) -> DenseProjection:
    """The projection layer of a network on a batch, computed exactly, with large products in ``dtype``."""
    return (TokenLayer if network.shape.compared else DenseProjection).of(network, batch, dtype)


@dataclass(frozen=True)
class TokenAnchor(DenseAnchor):
    """Changes of s^c (B, G, 1, R, H_c). ``w_a``, ``v_a``, which sends down, and ``asked``, x (B, 1, R, D), are in the
    type of large products, ``sums`` (B, P, R) as in ``packing``.

    ``inside``: (u*/2 − σ(u*), −σ(u*), 1 − σ(u*)) of s^c, each (B, 1, 1, R, H_c), so that

        σ(u* + δu) − σ(u*) = clip(δu/2 + u*/2 − σ(u*), −σ(u*), 1 − σ(u*))

    keeps the relative precision of δu, in bf16 too: the first is 0 except for units that are clipped.
    """

    w_a: Tensor
    v_a: Tensor
    asked: Tensor
    sums: Tensor
    inside: tuple[Tensor, Tensor, Tensor]

    def take(self, keep: Tensor | slice) -> "TokenAnchor":
        """The texts named only, for changes."""
        offset, low, high = (chosen(part, keep) for part in self.inside)
        asked, sums = chosen(self.asked, keep), chosen(self.sums, keep)
        return replace(self, start=self.start.take(keep), asked=asked, sums=sums, inside=(offset, low, high))

    def transposed(self) -> Self:
        """The same for changes that travel every synapse against its direction."""
        return replace(super().transposed(), w_a=self.v_a, v_a=self.w_a)

    def change(self, s2: Tensor, before: Tensor) -> Tensor:
        """Of s^c by a change of s² (B, G, H₂), after it had changed by ``before``."""
        offset, low, high = self.inside
        u = F.linear(gained(self.start.change(self.turned(before)), self.asked), self.w_a)
        u += returning(s2, self.v2, self.sums, self.temperature)
        return torch.clamp(u.div_(2).add_(offset), low, high)

    def turned(self, change: Tensor) -> Tensor:
        """The change of q̂/τ by one of s^c."""
        return gained(change @ (self.v_a / self.temperature), self.asked)

    def up(self, change: Tensor) -> Tensor:
        """w₂ of the sums, (B, G, H₂)."""
        return summed(change, self.sums).flatten(2) @ self.w2.T

    def with_recall(self, rates: State, change: State) -> tuple[State, State]:
        """The state at the end of a nudge, and its ``change``, with what w₁, w_a and the patterns learn from."""
        assert isinstance(self.start, Found)
        query = self.turned(change.projection)
        moved, found = self.start.shifted(query), self.start.change(query.unsqueeze(1)).squeeze(1)
        level = self.start.start.found + found
        after = (*self.start.after(moved, query), level, gained(level, self.asked))
        return replace(rates, recall=after), replace(change, recall=(moved, query, found, gained(found, self.asked)))


class TokenLayer(DenseProjection):
    """s^c (B, 1, R, H_c); that of padding is driven so low that it stays at 0."""

    @classmethod
    def of(cls, network: Network, batch: Batch, dtype: torch.dtype) -> Self:
        """With large products in ``dtype``."""
        packed = Packed.of(network.shape, batch)
        asked, stored = (row.x.unsqueeze(1).to(dtype) for row in (packed.asking, packed.stored))
        values = None if packed.stored.values is None else packed.stored.values.unsqueeze(1).to(dtype)
        w_x, b_x = (part.to(dtype) for part in network.tokens[:2])
        bias = torch.zeros_like(packed.sees, dtype=dtype).masked_fill_(~packed.sees, BLOCKED).unsqueeze(1)
        current = F.linear(asked, w_x, b_x).masked_fill_(~packed.rows, BLOCKED)
        drive, target = asked @ network.asking[0].to(dtype), one_hot(network, batch)
        inputs = Inputs(stored, bias, packed.rows, drive, target, current, packed.sums, values, asked)
        return cls(network, inputs, network.w2(dtype))

    @property
    def sums(self) -> Tensor:
        """(B, P, R), see ``packing``."""
        assert self.inputs.sums is not None
        return self.inputs.sums

    @property
    def asked(self) -> Tensor:
        """x of the tokens that ask, (B, 1, R, D)."""
        assert self.inputs.asked is not None
        return self.inputs.asked

    def rest(self, texts: int) -> State:
        """The state that free phases start from: all units in the middle of σ."""
        state, units = self.network.rest(texts), (self.inputs.drive.shape[2], self.network.shape.compared)
        return replace(state, projection=state.output.new_full((texts, 1, *units), 0.5))

    @property
    def w_a(self) -> Tensor:
        """In the type of large products."""
        return self.network.tokens[2].to(self.w2.dtype)

    @property
    def v_a(self) -> Tensor:
        """What s^c is sent down by: w_a, or its copy."""
        return self.network.tokens[-1].to(self.w2.dtype)

    def free(self, s2: Tensor, before: Tensor, synchronous: bool = False) -> Tensor:
        """s^c of s² (B, H₂) and what it was ``before``."""
        inputs = self.inputs
        query = self.scored(self._query(before))
        retrieved = real(hopattn(query, inputs.patterns, inputs.bias, values=inputs.values), inputs.rows)
        return sigma(self.heard(self.s1_of(retrieved), s2))

    def s1_of(self, retrieved: Tensor) -> Tensor:
        """s¹ = x∘r of what is ``retrieved``, or of a change of it."""
        return gained(retrieved, self.asked)

    def _query(self, compared: Tensor) -> Tensor:
        """q̂/τ by s^c."""
        return self.inputs.drive + self.turned(compared)

    def heard(self, s1: Tensor, s2: Tensor) -> Tensor:
        """u of s^c, (B, 1, R, H_c)."""
        assert self.inputs.current is not None
        return F.linear(s1, self.w_a).add_(self.inputs.current).add_(self.back(s2))

    def back(self, s2: Tensor) -> Tensor:
        """F⁻¹(w₂ᵀ s²)/(τ√n) of s² or its change, (B, [G,] 1, R, H_c)."""
        return returning(s2, self.v2, self.sums, self.network.shape.temperature)

    def up(self, s1: Tensor) -> Tensor:
        """w₂ of the sums over s^c, (B, [G,] H₂), in the type of the weights."""
        return (summed(s1.to(self.w2.dtype), self.sums).flatten(-2) @ self.w2.T).to(self.full)

    def phi(self, state: State) -> Tensor:
        """φ of the network for each text, (B,)."""
        inputs, compared, shape = self.inputs, state.projection.to(self.w2.dtype), self.network.shape
        assert inputs.current is not None
        query = self._query(compared)
        if shape.uniform:
            retrieved = query * hopattn(self.scored(query), inputs.patterns, inputs.bias)
        else:
            retrieved = potential(query, inputs.patterns, inputs.bias).unsqueeze(-1)
        value = shape.temperature * real(retrieved, inputs.rows).flatten(1).sum(1)
        value = shape.temperature * (value + (compared * inputs.current).flatten(1).sum(1))
        below = summed(state.projection, self.sums).flatten(1)
        return value.to(self.full) + phi_above(self.network, below, state)

    def looped(self, state: State) -> tuple[Tensor, Tensor]:
        """(s^c, q̂/τ): where the loop through HopAttn starts, and what it turns."""
        compared = state.projection.to(self.w2.dtype)
        return compared, self._query(compared)

    def turned(self, units: Tensor) -> Tensor:
        """What s^c, or a change of it, sends to the queries."""
        return gained(units @ (self.v_a / self.network.shape.temperature), self.asked)

    def returned(self, retrieved: Tensor) -> Tensor:
        """What a change of r sends to s^c."""
        return F.linear(self.s1_of(retrieved), self.w_a)

    def recall(self, state: State) -> Recall:
        """What w₁, w_a and the patterns learn from: (p, q̂/τ, r, s¹) as s^c asks."""
        _, query = self.looped(state)
        shares = weights(self.scored(query), self.inputs.patterns, self.inputs.bias)
        values = self.inputs.patterns if self.inputs.values is None else self.inputs.values
        retrieved = real(shares @ values, self.inputs.rows)
        return shares, query, retrieved, self.s1_of(retrieved)

    def anchor(self, state: State, batch: Batch) -> TokenAnchor:
        """What changes are taken from, after one more sweep; ``batch`` is the layer's."""
        exact = self if self.w2.dtype == self.full else type(self).of(self.network, batch, self.full)
        low, inputs = self.w2.dtype, exact.inputs
        query = exact.scored(exact._query(state.projection.to(self.full)))
        retrieved, found = (Even if self.network.shape.uniform else Found).of(query, inputs, low)
        u = exact.heard(exact.s1_of(retrieved), state.layers[0])
        offset, lowest, highest = (part.to(low) for part in clipped(u))
        units = sigma(u)
        sent = (self.w2, self.v2, self.network.shape.temperature)
        kept = (units.to(low), exact.up(units), found.among(self.inputs), *sent)
        inside = (offset, lowest, highest)
        return TokenAnchor(*kept, w_a=self.w_a, v_a=self.v_a, asked=self.asked, sums=self.sums, inside=inside)


def gained(found: Tensor, asked: Tensor) -> Tensor:
    """x∘``found`` of each token that asks, x ``asked`` (B, 1, R, D), and ``found`` like it or (B, G, 1, R, D)."""
    return found * (asked if found.dim() == asked.dim() else asked.unsqueeze(1))


def clipped(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(u/2 − σ(u), −σ(u), 1 − σ(u)) of u (B, …), each (B, 1, …): what a change of σ(u) is made from, and its bounds."""
    level = sigma(u).unsqueeze(1)
    return u.unsqueeze(1) / 2 - level, -level, 1 - level


def returning(s2: Tensor, w2: Tensor, sums: Tensor, temperature: float) -> Tensor:
    """F⁻¹(w₂ᵀ s²)/(τ√n) of s² (B, H₂) or its change (B, G, H₂), for each token: (B, [G,] 1, R, H_c)."""
    back = feedback(s2.flatten(0, -2), w2).view(*s2.shape[:-1], sums.shape[1], -1) / temperature
    tokens = sums.mT.to(back.dtype)
    return ((tokens if back.dim() == tokens.dim() else tokens.unsqueeze(1)) @ back).unsqueeze(-3)
