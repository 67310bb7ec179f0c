"""HopAttn: retrieval from a modern Hopfield network whose stored patterns are the embeddings of the text.

    HopAttn(q, K) = softmax(q Kᵀ/√d) K                 Bal & Sengupta (2023), Eq. 11; Ramsauer et al. (2021)
    G(q)          = √d · lse(K q/√d),  ∇G = HopAttn    convex, so HopAttn is a legitimate EP activation

Shapes: queries (…, R, D), stored patterns (…, N, D), both with the same leading axes; ``bias`` (…, 1, N) is 0 for
a stored pattern and hugely negative for padding.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

BLOCKED = -1e9  # the score of padding; finite, so that a text without a known word gives rows of numbers, not NaN
SCORES_AT_ONCE = 2**19  # that a processor works on together
LARGEST_CHANGE = 20.0  # of a score, up to which exp(δa) − 1 is taken; beyond it, the softmax itself


Found = TypeVar("Found", Tensor, tuple[Tensor, Tensor])


def key_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where ``mask`` (…, N) holds, ``BLOCKED`` elsewhere; (…, 1, N)."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, BLOCKED).unsqueeze(-2)


def texts_at_once(queries: int, patterns: int) -> int:
    """How many texts of so many rows each make ``SCORES_AT_ONCE``."""
    return max(1, SCORES_AT_ONCE // (queries * patterns))


def by_text(function: Callable[..., Found], queries: Tensor, patterns: Tensor, *others: Tensor | None) -> Found:
    """``function`` of the tensors a few texts (rows of the first axis) at a time; it returns one tensor or two.

    The scores of a few texts stay in a processor's cache; those of a whole batch would fill it many times over, and
    memory too. On another device, or where there are few texts or only one, ``function`` is called once.
    """
    if queries.device.type != "cpu" or queries.dim() < 3:
        return function(queries, patterns, *others)
    together = texts_at_once(queries[0].numel() // queries.shape[-1], patterns.shape[-2])
    if len(queries) <= together:
        return function(queries, patterns, *others)
    pieces = [slice(start, start + together) for start in range(0, len(queries), together)]
    given = (queries, patterns, *others)
    found: list[Tensor] = []
    for piece in pieces:
        made = function(*(None if tensor is None else tensor[piece] for tensor in given))
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
    if 0 < top < scores.shape[-1]:
        least = scores.topk(top, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        scores = scores.masked_fill(scores < least, BLOCKED)
    return torch.softmax(scores, dim=-1)


def hopattn(queries: Tensor, patterns: Tensor, bias: Tensor | None = None, top: int = 0) -> Tensor:
    """HopAttn(q, K), (…, R, D); ``top`` as in ``weights``."""
    return by_text(lambda q, k, b: weights(q, k, b, top) @ k, queries, patterns, bias)


def hopattn_and_weights(
    queries: Tensor, patterns: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """HopAttn(q, K), in the precision of q whatever that of K is, and its softmax weights, kept in ``dtype``."""

    def of(q: Tensor, k: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor]:
        k = k.to(q.dtype)
        p = weights(q, k, None if b is None else b.to(q.dtype))
        return p @ k, p.to(dtype)

    return by_text(of, queries, patterns, bias)


def potential(queries: Tensor, patterns: Tensor, bias: Tensor | None = None) -> Tensor:
    """G(q) = √d · lse(K q/√d) of each row, (…, R), with ∂G/∂q = HopAttn(q, K)."""
    root, scores = math.sqrt(patterns.shape[-1]), _scores(queries, patterns)
    return root * torch.logsumexp(scores if bias is None else scores + bias, dim=-1)


def hopattn_change(change: Tensor, patterns: Tensor, probabilities: Tensor) -> Tensor:
    """HopAttn(q* + δq, K) − HopAttn(q*, K) without subtracting nearly equal numbers; δq (B, G, P, R, D), so the result.

    With p = softmax(q* Kᵀ/√d) given, δa = δq Kᵀ/√d and E = Σ p (e^{δa} − 1):

        δp = p (e^{δa} − 1 − E)/(1 + E),   δs¹ = δp K

    so that the result keeps its relative precision in bf16 however small δq is. p is (B, P, R, N), K (B, P, N, D); the
    G nudges are side by side as rows of one product.
    """

    def of(change: Tensor, patterns: Tensor, probabilities: Tensor) -> Tensor:
        scores = _scores(change, patterns).to(probabilities.dtype).unflatten(-2, (groups, rows))
        moved, whole = _moved(scores, probabilities.unsqueeze(-3))
        return (moved.flatten(-3, -2) @ patterns) / whole.flatten(-3, -2).to(patterns.dtype)

    count, groups, projections, rows, dim = change.shape
    joined = change.transpose(1, 2).reshape(count, projections, groups * rows, dim)
    found = by_text(of, joined, patterns, probabilities)
    return found.view(count, projections, groups, rows, dim).transpose(1, 2)


def weights_change(change: Tensor, patterns: Tensor, probabilities: Tensor) -> Tensor:
    """δp of ``hopattn_change`` of one nudge, (…, R, N), in the precision of ``probabilities``."""
    moved, whole = _moved(_scores(change, patterns).to(probabilities.dtype), probabilities)
    return moved / whole


def _scores(queries: Tensor, patterns: Tensor) -> Tensor:
    """q Kᵀ/√d, (…, R, N)."""
    return (queries / math.sqrt(patterns.shape[-1])) @ patterns.mT


def _moved(scores: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """(p (e^{δa} − 1 − E), 1 + E), whose quotient is δp; for large δa (δp, 1). ``scores`` δa are overwritten."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    if scores.amax() > LARGEST_CHANGE:
        p = probabilities.to(wide)
        moved = torch.softmax(p.log() + scores.to(wide), dim=-1) - p
        return moved.to(scores.dtype), torch.ones_like(moved[..., :1])
    grown = torch.expm1_(scores)
    excess = (probabilities * grown).sum(-1, keepdim=True, dtype=wide)
    return grown.sub_(excess.to(grown.dtype)).mul_(probabilities), 1 + excess
