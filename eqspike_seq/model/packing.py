"""The tokens of a pair in one row: those that ask and those that are stored, without padding in between.

Texts of a pair differ in length, and so do pairs: with a place for every token of the longest text, more than half of
the places of SNLI are padding. Here the texts of a pair stand one after the other, and a mask tells each token which of
them it looks at.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Shape, gathered


@dataclass(frozen=True)
class Row:
    """M tokens of each example: ``x`` (B, M, D), ``ids`` (B, M) or None, ``of`` (B, M), which text each is of among
    those packed, −1 for padding after the last, and ``values`` (B, M, D) where what is found is stored by itself."""

    x: Tensor
    ids: Tensor | None
    of: Tensor
    values: Tensor | None

    @classmethod
    def packed(cls, batch: Batch, inputs: list[int], spare: Tensor) -> "Row":
        """The tokens of ``inputs``; examples with ``spare`` (B,) get one place of padding at least."""
        mask = gathered(batch.mask, inputs)
        count, places = len(mask), mask.shape[2]
        mask = mask.flatten(1)
        lengths = mask.sum(1)
        size = max(1, int((lengths + spare).max())) if count else 1
        order = (~mask).to(torch.int8).argsort(dim=1, stable=True)[:, :size]
        there = torch.arange(size, device=mask.device) < lengths.unsqueeze(1)
        flat = (order + torch.arange(count, device=mask.device).unsqueeze(1) * mask.shape[1]).flatten()

        def row(x: Tensor) -> Tensor:
            return gathered(x, inputs).flatten(0, 2).index_select(0, flat).view(count, size, -1)

        values = None if batch.values is None else row(batch.values)
        ids = None if batch.ids is None else gathered(batch.ids, inputs).flatten(1).gather(1, order)
        return cls(row(batch.x), ids, torch.where(there, order.div(places, rounding_mode="floor"), -1), values)


@dataclass(frozen=True)
class Packed:
    """``asking`` (B, R, D) has a text for each of P projections, ``stored`` (B, M, D) every text that is looked at.

    ``sees`` (B, R, M): which stored tokens each looks at; where there is none, padding. ``sums`` (B, P, R) is 1/√n for
    the n tokens of a projection, else 0: times s^c it is what w₂ reads.
    """

    asking: Row
    stored: Row
    sees: Tensor
    sums: Tensor
    layout: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, shape: Shape, batch: Batch) -> "Packed":
        """Of a batch, packed once for all phases."""
        key = shape.projections
        if key not in batch.packed:
            batch.packed[key] = cls._made(shape, batch)
        found: Packed = batch.packed[key]
        return found

    @classmethod
    def _made(cls, shape: Shape, batch: Batch) -> "Packed":
        kinds = sorted(set(shape.keys))
        spare = (~gathered(batch.mask, kinds).any(2)).any(1).long()  # a text without a word finds nothing
        stored = Row.packed(batch, kinds, spare)
        asking = stored if shape.queries == kinds else Row.packed(batch, shape.queries, torch.zeros_like(spare))
        wanted = torch.tensor([*(kinds.index(key) for key in shape.keys), -1], device=spare.device)[asking.of]
        sees = stored.of.unsqueeze(1) == wanted.unsqueeze(2)
        sees |= ~sees.any(2, keepdim=True) & (stored.of < 0).unsqueeze(1)
        projections = torch.arange(len(shape.projections), device=spare.device).view(1, -1, 1)
        sums = (asking.of.unsqueeze(1) == projections).to(batch.x.dtype)
        sums = sums / sums.sum(2, keepdim=True).clamp(min=1).sqrt()
        return cls(asking, stored, sees, sums, shape.projections)

    @property
    def rows(self) -> Tensor:
        """Which tokens ask, (B, 1, R, 1); the others are padding."""
        return (self.asking.of >= 0).view(len(self.asking.of), 1, -1, 1)

    def unpacked(self, shares: Tensor, mask: Tensor) -> Tensor:
        """``shares`` (B, 1, R, M) by projection, (B, P, N, N), at the places of ``mask`` (B, inputs, N)."""
        count, _, tokens = mask.shape
        found = shares.new_zeros(count, len(self.layout), tokens, tokens)
        kinds = sorted({key for _, key in self.layout})
        for row in range(count):
            for place, (query, key) in enumerate(self.layout):
                asks, looked_at = self.asking.of[row] == place, self.stored.of[row] == kinds.index(key)
                there = mask[row, query].unsqueeze(1) & mask[row, key]
                found[row, place][there] = shares[row, 0][asks][:, looked_at].flatten()
        return found


def summed(compared: Tensor, sums: Tensor) -> Tensor:
    """Σ_j s^c_j/√n of each projection, (B, [G,] 1, R, H_c) → (B, [G,] P, H_c)."""
    tokens = compared.squeeze(-3)
    sums = sums.to(tokens.dtype)
    return (sums if tokens.dim() == sums.dim() else sums.unsqueeze(1)) @ tokens


def by_projection(counted: Tensor, sums: Tensor | None) -> Tensor:
    """Sums over the rows of each projection: (B, [G,] P, R) → (B, [G,] P), with a token layer from (B, [G,] 1, R)."""
    if sums is not None:
        counted = counted * (sums > 0 if counted.dim() == sums.dim() else (sums > 0).unsqueeze(1))
    return counted.sum(-1)
