"""What the classes of the training texts say of a pattern by itself: its smoothed log-count ratios.

Of n_c of the N_c training texts of class c that hold the pattern, with C classes and α pseudo-counts,

    r_c = ln((n_c + αCπ_c)/N_c) − ln((n_¬c + αC(1 − π_c))/N_¬c),   π_c = N_c/N

(Wang & Manning 2012; of two classes one ratio says all). The pseudo-counts are shared out as the classes are, so that a
pattern which says nothing has r = 0 however rare it is and however unequal the classes are. A class without a training
text counts as one of one text, so that all ratios are finite. α = 1 is Laplace's rule for two equal classes. Ratios are
divided by their root mean square over all patterns.

A training text has a part in the ratios of its own patterns, of rare ones the whole: a pattern of one text would tell
its label. So a text is trained on with the ratios that all other texts give; ``own`` is the difference.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class NaiveBayes:
    """``counts`` n (V + 1, C) of training texts, row 0 padding; ``totals`` N (C,); ``smoothing`` α; the ratios are
    multiplied by ``scale``, and there are ``copies`` of each, every second one negative."""

    counts: Tensor
    totals: Tensor
    smoothing: float
    scale: float
    copies: int

    @classmethod
    def of(cls, counts: Tensor, totals: Tensor, smoothing: float, spread: float, copies: int) -> "NaiveBayes":
        """With ratios whose root mean square is ``spread``."""
        plain = cls(counts, totals, smoothing, 1.0, 1)
        size = float(plain.vectors()[1:].square().mean().sqrt()) if len(counts) > 1 else 0.0
        return cls(counts, totals, smoothing, spread / size if size else 1.0, copies)

    def to(self, device: torch.device | str) -> "NaiveBayes":
        """The same on another device."""
        return replace(self, counts=self.counts.to(device), totals=self.totals.to(device))

    @property
    def ratios(self) -> int:
        """How many there are: one of two classes, else one a class."""
        return 1 if len(self.totals) == 2 else len(self.totals)

    @property
    def components(self) -> int:
        """K: ratios and their copies."""
        return self.ratios * self.copies

    def vectors(self) -> Tensor:
        """r of every pattern, (V + 1, K)."""
        found = self._components(self.of_all)
        found[0] = 0
        return found

    @cached_property
    def of_all(self) -> Tensor:
        """The ratios of every pattern, (V + 1, ratios)."""
        return self._ratios(self.counts, self.totals)

    def own(self, ids: Tensor, labels: Tensor) -> Tensor:
        """r without a text itself less r with it, (B, inputs, N, K), for patterns ``ids`` (B, inputs, N) of texts of
        these ``labels`` (B,)."""
        counts = self.counts[ids]
        mine = torch.nn.functional.one_hot(labels, len(self.totals)).to(counts.dtype)
        without = (counts - mine[:, None, None]).clamp_(min=0)
        totals = (self.totals - mine)[:, None, None]
        change = self._ratios(without, totals) - self.of_all[ids]
        return self._components(change) * (ids > 0).unsqueeze(-1)

    def _ratios(self, counts: Tensor, totals: Tensor) -> Tensor:
        """(…, ratios) of ``counts`` (…, C) among ``totals`` (…, C)."""
        totals = totals.clamp(min=1)
        every, whole = totals.sum(-1, keepdim=True), counts.sum(-1, keepdim=True)
        prior, pseudo = totals / every, self.smoothing * len(self.totals)
        inside = (counts + pseudo * prior).log() - totals.log()
        outside = (whole - counts + pseudo * (1 - prior)).log() - (every - totals).log()
        return self.scale * (inside - outside)[..., -self.ratios :]

    def _components(self, ratios: Tensor) -> Tensor:
        signs = torch.tensor([1.0, -1.0]).repeat(self.copies)[: self.copies].to(ratios)
        return (ratios.unsqueeze(-2) * signs.unsqueeze(-1)).flatten(-2)
