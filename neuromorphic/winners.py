"""HopAttn by soft winner-take-all: one spike at a time, each of a unit that stands for a stored pattern.

For each token row, N units hold the stored patterns; the potential of unit j is a_j = q·x_j/√d. Under shared inhibition
one of them fires at a time, unit j with probability p_j = exp(a_j)/Σ_k exp(a_k), and its spike delivers its pattern:

    E[pattern of the winner | q] = Σ_j p_j x_j = HopAttn(q, X)

so that the mean pattern of M winners estimates HopAttn from unit spikes. How the winners are drawn decides how fast the
error falls; here as the numbers of spikes of each unit among M winners, given the uniform numbers u in [0, 1):

    iid          M independent draws (u: M for each row), error ~ 1/√M
    systematic   the units at (u + m)/M of the cumulative p, m = 0 … M − 1 (u: one for each row), error ~ 1/M, unbiased
    sigma-delta  φ ← φ + p; the unit with the largest φ wins; φ_winner ← φ_winner − 1 (no u), error ~ 1/M

A row keeps its u, so that a query that rests brings the same winners again, and so that the nudges differ by what has
changed and not by chance. Sources: stochastic winner-take-all with exponential neurons, Nessler, Pfeiffer, Buesing &
Maass (2013); systematic sampling, Madow & Madow (1944); the one-hot sigma-delta sampler and its use here are ours.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from eqspike_seq.model.attention import by_text, weights

Sampler = Callable[[Tensor, int, Tensor], Tensor]


def iid(p: Tensor, winners: int, u: Tensor) -> Tensor:
    """Spikes of each unit, (…, N), among ``winners`` independent draws from p (…, N); u (…, M)."""
    winner = torch.searchsorted(_cumulative(p), u.contiguous(), right=True)
    return torch.zeros_like(p).scatter_add_(-1, winner, torch.ones_like(u))


def systematic(p: Tensor, winners: int, u: Tensor) -> Tensor:
    """Spikes of each unit, (…, N), at equal distances of the cumulative p; u (…, 1) or, its first used, (…, M).

    Of the places (u + m)/M those below P are ⌈M P − u⌉ in number.
    """
    below = (winners * _cumulative(p) - u[..., :1]).ceil_()
    return torch.diff(below, prepend=torch.zeros_like(below[..., :1]))


def one_hot_sigma_delta(p: Tensor, winners: int, u: Tensor) -> Tensor:
    """Spikes of each unit, (…, N), each the unit to which most is owed; u is not used."""
    owed, counts = torch.zeros_like(p), torch.zeros_like(p)
    for _ in range(winners):
        owed += p
        winner = owed.argmax(-1, keepdim=True)
        owed.scatter_add_(-1, winner, -torch.ones_like(winner, dtype=p.dtype))
        counts.scatter_add_(-1, winner, torch.ones_like(winner, dtype=p.dtype))
    return counts


def _cumulative(p: Tensor) -> Tensor:
    """Sums of p from the left, the last exactly 1, so that padding (p = 0) never wins."""
    total = p.cumsum(-1)
    return total.div_(total[..., -1:].clone())


SAMPLERS: dict[str, Sampler] = {"iid": iid, "systematic": systematic, "sigma-delta": one_hot_sigma_delta}


def pattern_sum(name: str, winners: int, queries: Tensor, patterns: Tensor, bias: Tensor | None, u: Tensor) -> Tensor:
    """Sum of the patterns of M winners, (…, R, D); queries (…, R, D), ``patterns`` (…, N, D), u (…, R, 1 or M)."""

    def of(q: Tensor, k: Tensor, b: Tensor | None, u: Tensor) -> Tensor:
        return SAMPLERS[name](weights(q, k, b).to(u.dtype), winners, u).to(k.dtype) @ k

    return by_text(of, queries, patterns, bias, u)


def uniform(name: str, winners: int, rows: tuple[int, ...], seed: int) -> Tensor:
    """The u of token rows, (…, 1 or M), which they keep in all phases of a text."""
    generator = torch.Generator().manual_seed(seed + 2)
    return torch.rand(*rows, winners if name == "iid" else 1, generator=generator)
