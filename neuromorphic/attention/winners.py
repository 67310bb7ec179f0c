"""HopAttn by soft winner-take-all: one spike at a time, each of a unit that stands for a stored pattern.

For each token row, N units hold the stored patterns; the potential of unit j is a_j = q·x_j/√d. Under shared inhibition
one of them fires at a time, unit j with probability p_j = exp(a_j)/Σ_k exp(a_k), and its spike delivers its pattern:

    E[pattern of the winner | q] = Σ_j p_j x_j = HopAttn(q, X)

so that the mean pattern of M winners estimates HopAttn from unit spikes. How the winners are drawn decides how fast the
error falls; here as the numbers of spikes of each unit among M winners, given the uniform numbers u in [0, 1):

    iid          M independent draws (u: M for each row), error ~ 1/√M
    systematic   the units at (u + m)/M of the cumulative p, m = 0 … M − 1 (u: one for each row), error ~ 1/M, unbiased
    sigma-delta  φ ← φ + p; the unit with the largest φ wins; φ_winner ← φ_winner − 1 (no u), error ~ 1/M

Beside neurons that fire at most once a step (``Winners``) each step of a tick has one winner in every row, and s¹
leaves it as ON and OFF spikes. Patterns that are learnt count the steps that they win in a window, and learn from that
as their share. Beside change-coded neurons (``GatedWinners``) a row keeps its u, so that a query that
rests brings the same winners again, and so that the nudges differ by what has changed and not by chance; winners are
far too coarse for these, so that the units of the patterns send the change of their own probability there.

Sources: stochastic winner-take-all with exponential neurons, Nessler, Pfeiffer, Buesing &
Maass (2013); systematic sampling, Madow & Madow (1944); the one-hot sigma-delta sampler and its use here are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from eqspike_seq.model.attention import by_text, weights, weights_change
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.projection import DenseProjection, Found, Inputs, Layer, real
from eqspike_seq.model.synapses import Recall
from neuromorphic.activity import ProjectionActivity
from neuromorphic.attention.clocked import Circuit, SpikingProjection, Tick, every_row
from neuromorphic.attention.gated import Circuit as GatedCircuit
from neuromorphic.attention.gated import Dither, GatedNudges, GatedProjection, Texts
from neuromorphic.neurons import GOLDEN, Membrane, Threshold, send_dithered

FULL_SCALE = 4.0  # s¹ of a unit that fires at every step

SamplerName = Literal["systematic", "iid", "sigma-delta"]
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


@dataclass(frozen=True)
class Winners(Circuit):
    """A winner in every row at each step; s¹ as ON and OFF spikes."""

    name: ClassVar[str] = "wta"
    sampler: SamplerName = "systematic"
    """How winners are drawn. systematic: evenly spaced on the cumulative probabilities. iid: independently.
    sigma-delta: the unit to which most is owed."""

    def projection(self, layer: Layer, batch: Batch, tick: Tick) -> "WinnersProjection":
        """Nothing is owed yet."""
        drive = layer.inputs.drive
        owed = torch.zeros_like(drive, dtype=torch.float32).unsqueeze(1)
        u = uniform(self.sampler, tick.steps, drive.shape[:3], batch.seed).to(drive.device)
        none = owed.new_zeros(len(batch), 1)
        return WinnersProjection(
            layer, batch, tick, membrane=Membrane(owed, owed), spikes=none, sampler=self.sampler, u=u
        )


@dataclass(kw_only=True)
class WinnersProjection(SpikingProjection):
    """s¹ as ON and OFF spikes; ``u`` (B, P, R, 1 or M) draws the winners of the next tick, ``drawn`` those so far."""

    sampler: str
    u: Tensor
    drawn: tuple[Tensor, ...] = ()

    def _put_out(self, query: Tensor) -> Tensor:
        """The mean pattern of this tick's winners as ON and OFF spikes, at most one a step; (B, G, P, N, D).

        n = ⌊v + M s/A + ½⌋ of them, v ← v + M s/A − n, A = ``FULL_SCALE``: what is left over waits for the next tick.
        """
        steps, inputs = self.tick.steps, self.layer.inputs
        each = [pattern_sum(self.sampler, steps, q, inputs.patterns, inputs.bias, self.u) for q in query.unbind(1)]
        self.drawn += (self.u,)
        owed = real(torch.stack(each, 1).to(self.u.dtype), inputs.rows) / FULL_SCALE
        owed += self.membrane.v
        sent = owed.round().clamp_(-steps, steps)
        self.membrane = Membrane(owed - sent, self.membrane.added)
        self.u = (self.u + GOLDEN) % 1  # other winners each tick, evenly spread over time
        self.spikes = self.spikes + sent.abs().flatten(2).sum(2)
        return sent * (FULL_SCALE / steps)

    def recall(self, ticks: int, group: int) -> tuple[Recall, Recall]:
        """What patterns see in the last ``ticks``: how often each has won, and the mean query; changes from 0."""
        if not self.layer.network.shape.learnt:
            return (), ()
        inputs, heard, spikes = self.layer.inputs, [s2[:, group] for s2 in self.heard[-ticks:]], torch.zeros(())
        for s2, u in zip(heard, self.drawn[-ticks:], strict=True):
            p = weights(inputs.drive + self.layer.down(s2), inputs.patterns, inputs.bias)
            spikes = spikes + SAMPLERS[self.sampler](p.to(u.dtype), self.tick.steps, u)
        shares, query = spikes / (ticks * self.tick.steps), self.layer.full_query(torch.stack(heard).mean(0))
        return (shares, query), (0.5 * shares, 0.5 * query)

    def activity(self, group: int = 0) -> ProjectionActivity:
        """A winner in all rows at each step."""
        took = every_row(self.layer, self.batch, len(self.heard), self.tick.steps)
        return ProjectionActivity(took.retrievals, took.hopattn, self.spikes[:, group])


@dataclass(frozen=True)
class GatedWinners(GatedCircuit):
    """``winners`` spikes in each row that is computed; see ``gated``."""

    name: ClassVar[str] = "wta"
    sampler: SamplerName = "systematic"
    """How winners are drawn. systematic: evenly spaced on the cumulative probabilities. iid: independently.
    sigma-delta: the unit to which most is owed."""
    winners: Annotated[int, Field(ge=1, le=256)] = 32
    """Spikes per row each time it is computed."""
    pattern_nudge_threshold: Threshold = 2e-4
    """Change of a pattern's probability per spike of its unit in the nudges."""

    def projection(self, layer: DenseProjection, batch: Batch) -> "GatedWinnersProjection":
        """Before anything has been computed."""
        return GatedWinnersProjection(self, layer, batch)

    def nudges(self, free: GatedProjection, groups: int, dither: Dither) -> "GatedWinnersNudges":
        """From what the last queries of ``free`` have found; shares at full precision, as spikes send them."""
        return GatedWinnersNudges(self, free, groups, dither)


class GatedWinnersProjection(GatedProjection):
    """s¹ in the free phase: the mean pattern of its winners, of which each row keeps its ``u``."""

    def __init__(self, circuit: GatedWinners, layer: DenseProjection, batch: Batch) -> None:
        super().__init__(layer, batch, circuit.query_threshold, circuit.attention_threshold)
        self.circuit = circuit
        self.u = uniform(circuit.sampler, circuit.winners, self.own.shape[:3], batch.seed).to(self.own)

    def _mixed(self, query: Tensor, inputs: Inputs, texts: Texts) -> Tensor:
        sampler, winners = self.circuit.sampler, self.circuit.winners
        return pattern_sum(sampler, winners, query, inputs.patterns, inputs.bias, self.u[texts]) / winners

    def _won(self) -> Tensor:
        return self.rows * self.circuit.winners


class GatedWinnersNudges(GatedNudges):
    """The change of s¹ that the spikes of the patterns bring, which send the change of their probabilities."""

    def __init__(self, circuit: GatedWinners, free: GatedProjection, groups: int, dither: Dither) -> None:
        found = free.found(free.layer.full)
        super().__init__(free, found, groups, circuit.query_nudge_threshold if circuit.query_threshold else 0.0, dither)
        shares, generator = found.start.shares, torch.Generator().manual_seed(free.batch.seed + 3)
        self.pattern_step = circuit.pattern_nudge_threshold
        self.xi_patterns = torch.rand(shares.shape, generator=generator).to(shares)
        self.patterns = shares.new_zeros(len(shares), groups, *shares.shape[1:])  # signed units sent, (B, G, P, N, N)
        self.won = torch.zeros_like(self.sent)

    def _mixed(self, query: Tensor, found: Found, texts: Texts) -> Tensor:
        stored, moved = found.start.patterns, []
        for group in range(query.shape[1]):
            units = self.patterns[texts, group]
            shift = weights_change(query[:, group], found.start)
            fired = real(send_dithered(units, shift, self.pattern_step, self.xi_patterns[texts]), found.rows)
            self.patterns[texts, group] = units + fired
            self.won[texts, group] += fired.abs().sum((2, 3), dtype=torch.float64)
            moved.append((self.pattern_step * (units + fired)).to(stored.dtype) @ stored)
        return torch.stack(moved, 1)

    def _moved(self, query: Tensor, group: int) -> Tensor:
        """What the patterns have sent: one that fired moves towards the query."""
        return self.pattern_step * self.patterns[:, group]

    def _won(self, group: int) -> Tensor:
        return self.won[:, group]
