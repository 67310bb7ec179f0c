"""HopAttn: retrieval from a modern Hopfield network whose stored patterns are the embeddings of the text.

    HopAttn(q, K) = softmax(q Kᵀ/√d) K                 Bal & Sengupta (2023), Eq. 11; Ramsauer et al. (2021)
    G(q)          = √d · lse(K q/√d),  ∇G = HopAttn    convex, so HopAttn is a legitimate EP activation

Shapes: queries (…, R, D), stored patterns (…, N, D), both with the same leading axes; ``bias`` (…, 1, N) is 0 for
a stored pattern and hugely negative for padding.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

BLOCKED = -1e9  # the score of padding; finite, so that a text without a known word gives rows of numbers, not NaN
SCORES_AT_ONCE = 2**19  # that a processor works on together
LARGEST_GAIN = {torch.float32: 20.0, torch.bfloat16: 2.0}  # of a score over the mean: beyond it e^d is not precise


Found = TypeVar("Found", Tensor, tuple[Tensor, Tensor])


def key_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where ``mask`` (…, N) holds, ``BLOCKED`` elsewhere; (…, 1, N)."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, BLOCKED).unsqueeze(-2)


def texts_at_once(queries: int, patterns: int) -> int:
    """How many texts of so many rows each make ``SCORES_AT_ONCE``."""
    return max(1, SCORES_AT_ONCE // (queries * patterns))


def chosen(part: Tensor, keep: Tensor | slice) -> Tensor:
    """The texts named, of ``part`` (B, …): a slice, or a copy that takes a third of the time of ``part[keep]``."""
    if isinstance(keep, slice) or keep.dtype == torch.bool:
        return part[keep]
    return part.index_select(0, keep)


def taken(part: Any, keep: Tensor | slice) -> Any:
    """The texts named, of a tensor (B, …), of several, or of what is ``OfTexts``; anything else as it is."""
    if isinstance(part, Tensor):
        return chosen(part, keep)
    if isinstance(part, tuple):
        return tuple(taken(each, keep) for each in part)
    return part.take(keep) if isinstance(part, OfTexts) else part


class OfTexts:
    """A dataclass of tensors that all begin with the texts, (B, …), and of what is the same for all texts."""

    def take(self, keep: Tensor | slice) -> Self:
        """The texts named only."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{name: taken(part, keep) for name, part in parts.items()})


@dataclass(frozen=True)
class Retrieval(OfTexts):
    """What queries q* have found, so that changes of it can be had without subtracting nearly equal numbers.

    ``query`` q* is (B, P, R, D), ``patterns`` K (B, P, N, D), ``bias`` (B, P, 1, N) or None, ``shares``
    p = softmax(q* Kᵀ/√d) (B, P, R, N), ``found`` p K (B, P, R, D), all in one floating-point type. p need not add up to
    1 once it is rounded: ``total`` (B, P, R, 1) is its sum. With ``top``, p is over that many patterns only.

    Where patterns are stored twice, K are the keys, and ``found`` is p V of the ``values`` V (B, P, N, D). ``back``:
    changes travel against the direction of the synapses, from the values to the keys.
    """

    query: Tensor
    patterns: Tensor
    bias: Tensor | None
    shares: Tensor
    total: Tensor
    found: Tensor
    top: int = 0
    values: Tensor | None = None
    back: bool = False

    @classmethod
    def of(
        cls, query: Tensor, patterns: Tensor, bias: Tensor | None, shares: Tensor, found: Tensor, top: int = 0
    ) -> "Retrieval":
        """From q* and ``found`` in any precision; they are kept in that of ``shares``."""
        total = shares.sum(-1, keepdim=True, dtype=_wide(shares.dtype))
        return cls(query.to(shares.dtype), patterns, bias, shares, total, found.to(shares.dtype), top)

    @property
    def scoring(self) -> Tensor:
        """What a change of the query is scored by."""
        return self.patterns if self.values is None or not self.back else self.values

    @property
    def mixed(self) -> Tensor:
        """What a change of the shares is a mix of."""
        return self.patterns if self.values is None or self.back else self.values


def by_text(
    function: Callable[..., Found], queries: Tensor, patterns: Tensor, *others: Tensor | Retrieval | None
) -> Found:
    """``function`` of the arguments a few texts (rows of the first axis) at a time; it returns one tensor or two.

    The scores of a few texts stay in a processor's cache; those of a whole batch would fill it many times over, and
    memory too. On another device, or where there are few texts or only one, ``function`` is called once.
    """
    if queries.device.type != "cpu" or queries.dim() < 3 or not queries.numel():
        return function(queries, patterns, *others)
    together = texts_at_once(queries[0].numel() // queries.shape[-1], patterns.shape[-2])
    if len(queries) <= together:
        return function(queries, patterns, *others)
    pieces = [slice(start, start + together) for start in range(0, len(queries), together)]
    found: list[Tensor] = []
    for piece in pieces:
        made = function(queries[piece], patterns[piece], *(taken(other, piece) for other in others))
        parts = made if isinstance(made, tuple) else (made,)
        found = found or [part.new_empty(len(queries), *part.shape[1:]) for part in parts]
        for whole, part in zip(found, parts, strict=True):
            whole[piece] = part
    return (found[0], found[1]) if isinstance(made, tuple) else found[0]


def weights(queries: Tensor, patterns: Tensor, bias: Tensor | None, top: int = 0) -> Tensor:
    """softmax(q Kᵀ/√d), (…, R, N); with ``top``, over that many patterns with the highest scores of each row only."""
    scores = _scores(queries, patterns)
    if bias is not None:
        scores += bias
    return torch.softmax(_of_highest(scores, top), dim=-1)


def hopattn(
    queries: Tensor, patterns: Tensor, bias: Tensor | None = None, top: int = 0, values: Tensor | None = None
) -> Tensor:
    """HopAttn(q, K), (…, R, D), or with ``values`` V softmax(q Kᵀ/√d) V; ``top`` as in ``weights``."""
    return by_text(lambda q, k, b, v: weights(q, k, b, top) @ (k if v is None else v), queries, patterns, bias, values)


def hopattn_and_weights(
    queries: Tensor,
    patterns: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    top: int = 0,
    values: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``hopattn``, in the precision of q whatever that of K is, and its softmax weights, kept in ``dtype``."""

    def of(q: Tensor, k: Tensor, b: Tensor | None, v: Tensor | None) -> tuple[Tensor, Tensor]:
        k = k.to(q.dtype)
        p = weights(q, k, None if b is None else b.to(q.dtype), top)
        return p @ (k if v is None else v.to(q.dtype)), p.to(dtype)

    return by_text(of, queries, patterns, bias, values)


def potential(queries: Tensor, patterns: Tensor, bias: Tensor | None = None) -> Tensor:
    """G(q) = √d · lse(K q/√d) of each row, (…, R), with ∂G/∂q = HopAttn(q, K)."""
    root, scores = math.sqrt(patterns.shape[-1]), _scores(queries, patterns)
    return root * torch.logsumexp(scores if bias is None else scores + bias, dim=-1)


def hopattn_change(change: Tensor, start: Retrieval) -> Tensor:
    """HopAttn(q* + δq, K) − HopAttn(q*, K); δq (B, G, P, R, D), so the result. With values, δp of the change of the
    scores times V; ``start.back`` the same with keys and values exchanged, whose derivative is the transposed one.

    The result keeps its relative precision, in bf16 too, however small δq is; see ``_moved``. The G nudges are side by
    side as rows of one product.
    """
    count, groups, projections, rows, dim = change.shape

    def of(change: Tensor, patterns: Tensor, start: Retrieval) -> Tensor:
        moved, whole = _moved(change.unflatten(2, (groups, rows)), start)
        return (moved.flatten(2, 3) @ patterns) / whole.flatten(2, 3).to(patterns.dtype)

    joined = change.transpose(1, 2).reshape(count, projections, groups * rows, dim)
    found = by_text(of, joined, start.mixed, start)
    return found.view(count, projections, groups, rows, dim).transpose(1, 2)


def weights_change(change: Tensor, start: Retrieval) -> Tensor:
    """δp of ``hopattn_change`` of one nudge δq (B, P, R, D); (B, P, R, N)."""

    def of(change: Tensor, patterns: Tensor, start: Retrieval) -> Tensor:
        moved, whole = _moved(change.unsqueeze(2), start)
        return (moved / whole).squeeze(2)

    return by_text(of, change, start.patterns, start)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _scores(queries: Tensor, patterns: Tensor) -> Tensor:
    """q Kᵀ/√d, (…, R, N)."""
    return (queries / math.sqrt(patterns.shape[-1])) @ patterns.mT


def _of_highest(scores: Tensor, top: int) -> Tensor:
    """The ``top`` highest scores of each row, all others blocked; with 0, all."""
    if not 0 < top < scores.shape[-1]:
        return scores
    least = scores.topk(top, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    return scores.masked_fill(scores < least, BLOCKED)


def _moved(change: Tensor, start: Retrieval) -> tuple[Tensor, Tensor]:
    """(p (e^d − 1 − E), 1 + E), whose quotient is δp; δq is (B, P, G, R, D).

    With δa = δq Kᵀ/√d and c = δq·s*/√d its mean under p, the shares change by

        d = δa − c,   E = Σ p (e^d − 1)/Σ p,   δp = p (e^d − 1 − E)/(1 + E)

    which holds for any c: the mean is what leaves d, and so what rounding does to it, small, and 1 + E ≥ 1 (Jensen).
    Where keys and values differ, c is not quite the mean.
    Rows in which a pattern gains so much that e^d would lose its precision or overflow get the difference of the two
    softmaxes instead, (δp, 1), from q* itself: a pattern whose share was rounded to 0 can come back. Which of the two
    it is depends on the row alone.
    """
    texts, projections, groups, rows, dim = change.shape
    wide, low = start.total.dtype, change.dtype
    mean = (change * start.found.unsqueeze(2)).sum(-1, dtype=wide) / -math.sqrt(dim)
    joined = (change / math.sqrt(dim)).reshape(texts * projections, groups * rows, dim)
    keys = start.scoring.flatten(0, 1).mT
    d = torch.baddbmm(mean.to(low).reshape(texts * projections, groups * rows, 1), joined, keys).to(start.shares.dtype)
    d = d.view(texts, projections, groups, rows, -1)
    fine = d.amax(-1, keepdim=True) <= LARGEST_GAIN.get(low, LARGEST_GAIN[torch.float32])  # not where it is NaN
    p, grown = start.shares.unsqueeze(2), d.expm1_()
    excess = (p * grown).sum(-1, keepdim=True, dtype=wide) / start.total.unsqueeze(2)
    moved, whole = grown.sub_(excess.to(grown.dtype)).mul_(p), 1 + excess
    fine &= whole > 0.5  # not where rounding has left c far from the mean
    if not fine.all():
        some = ~fine.flatten(1).all(1)
        exact = _softmax_change(change[some], start.take(some)).to(moved.dtype)
        moved[some] = torch.where(fine[some], moved[some], exact)
        whole = torch.where(fine, whole, 1.0)
    return moved, whole


def _softmax_change(change: Tensor, start: Retrieval) -> Tensor:
    """softmax((q* + δq) Kᵀ/√d) − softmax(q* Kᵀ/√d), over the patterns that q* looks at; (B, P, G, R, N)."""
    wide = start.total.dtype
    keys = start.patterns.to(wide).unsqueeze(2)
    scores = _scores(start.query.to(wide).unsqueeze(2), keys)
    if start.bias is not None:
        scores += start.bias.to(wide).unsqueeze(2)
    scores = _of_highest(scores, start.top)
    moved = _scores(change.to(wide), start.scoring.to(wide).unsqueeze(2))
    scores = scores - scores.amax(-1, keepdim=True)
    moved -= moved.gather(-1, (scores + moved).argmax(-1, keepdim=True))  # so that no large number rounds others off
    return torch.softmax(scores + moved, -1) - torch.softmax(scores, -1)
