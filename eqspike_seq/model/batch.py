"""Texts on their way into the network: as ids of patterns in a table, then with the vectors of these."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

Shift = Callable[[Tensor, Tensor], Tensor]  # ids (B, inputs, N), labels (B,) → (B, inputs, N, K)


@dataclass(frozen=True)
class Batch:
    """Texts as the network sees them: ``x`` (B, inputs, N, D), ``mask`` (B, inputs, N) bool, ``labels`` (B,).

    ``seed`` is that of whatever is random while they are relaxed: dither, stochastic neurons. Where patterns are stored
    with ``counts`` (B, inputs, N) of how often they occur, 1 or more, and not one by one, log(count) is added to their
    scores. ``ids`` (B, inputs, N) are theirs in the table that X is learnt in, 0 for padding. On a device a pattern is
    stored twice: ``x`` as the key that queries are compared with, and ``values``, like it, as what they find.
    """

    x: Tensor
    mask: Tensor
    labels: Tensor
    seed: int = 0
    counts: Tensor | None = None
    ids: Tensor | None = None
    values: Tensor | None = None
    packed: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # see ``packing``

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor | slice, places: int, seed: int = 0) -> "Batch":
        """The texts named, cut to their first ``places``."""
        absent = (self.counts, self.ids, self.values)
        counts, ids, values = (None if part is None else part[rows, :, :places] for part in absent)
        x, mask = self.x[rows, :, :places], self.mask[rows, :, :places]
        return Batch(x, mask, self.labels[rows], seed, counts, ids, values)

    def to(self, dtype: torch.dtype) -> "Batch":
        """With vectors of another type."""
        return self.holding(self.stored.to(dtype))

    @property
    def stored(self) -> Tensor:
        """What is stored of each pattern: ``x``, or both copies one after the other, (B, inputs, N, 2 D)."""
        return self.x if self.values is None else torch.cat([self.x, self.values], -1)

    def holding(self, stored: Tensor) -> "Batch":
        """The same texts with other vectors ``stored``."""
        if self.values is None:
            return replace(self, x=stored)
        keys, values = stored.chunk(2, -1)
        return replace(self, x=keys, values=values)


@dataclass(frozen=True)
class Lookup:
    """Texts before their vectors are looked up: ``ids`` (B, inputs, N) of rows of ``table`` (V + 1, D), 0 for padding.

    ``counts``, ``labels`` and ``seed`` as in ``Batch``. ``shift``, if any, is added to the first K components of the
    vectors of each text: it depends on the text's own label. ``twice``: rows of the table hold a pattern as a key and
    after it as a value, (V + 1, 2 D). ``noise`` of their ids is what vectors are multiplied by.
    """

    table: Tensor
    ids: Tensor
    labels: Tensor
    seed: int = 0
    counts: Tensor | None = None
    shift: Shift | None = None
    twice: bool = False
    noise: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mask(self) -> Tensor:
        """Which places hold a pattern, (B, inputs, N)."""
        return self.ids > 0

    def take(self, rows: Tensor | slice, places: int, seed: int = 0) -> Batch:
        """The texts named, cut to their first ``places``, with their vectors."""
        ids, labels = self.ids[rows, :, :places], self.labels[rows]
        counts = None if self.counts is None else self.counts[rows, :, :places]
        x = self.table.index_select(0, ids.flatten()).view(*ids.shape, -1)
        if self.shift is not None:
            own = self.shift(ids, labels)
            x[..., : own.shape[-1]] += own
        if self.noise is not None:
            x *= self.noise(ids)
        keys, values = x.chunk(2, -1) if self.twice else (x, None)
        return Batch(keys, ids > 0, labels, seed, counts, ids, values)

    def whole(self) -> Batch:
        """All of them, with their vectors."""
        return self.take(slice(None), self.ids.shape[2], self.seed)
