"""HopAttn beside neurons that fire at most once a step: read once a tick, by default as a digital softmax.

At a tick a projection takes the low-passed spikes r² of s², forms the query q = x w₁ + F⁻¹(w₂ᵀ r²) and puts out s¹,
which stays until the next tick. Linear synapses commute with summing over time, so that w₂ F(s¹) and w₂ᵀ r² are formed
once a tick and are exact.

``Clocked`` puts out graded values. Its nudges put out s¹* + δ¹, where s¹* belongs to the query of the moment at which
the free phase ended and δ¹ is the exact change since: the same numbers, but the small contrast of nudges is not lost
in bf16. ``winners`` has a circuit whose s¹ leaves as spikes.

Without attention s¹ are neurons as above: they run the M steps of a tick on their constant query, and the spike count
of the tick, divided by M, is what w₂ delivers. Where s¹ is clamped to the input, the query is 2x: a pixel of x fires at
rate x.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from eqspike_seq.config.section import Section
from eqspike_seq.ledger import HopAttnActivity, row_tokens
from eqspike_seq.model.attention import hopattn
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.projection import Found, Layer, real
from eqspike_seq.model.synapses import Recall
from neuromorphic.activity import ProjectionActivity
from neuromorphic.neurons import Membrane, Neuron, Noise


@dataclass(frozen=True)
class Tick:
    """Its ``steps``, and what neurons of s¹ run on meanwhile."""

    steps: int
    neuron: Neuron
    noise: Noise


class Circuit(Section):
    """What computes HopAttn for neurons that send rates: it makes the projection of a batch."""

    def projection(self, layer: Layer, batch: Batch, tick: Tick) -> "ClockedProjection":
        """At rest."""
        raise NotImplementedError


@dataclass(frozen=True)
class Clocked(Circuit):
    """A digital softmax."""

    name: ClassVar[str] = "clocked"

    def projection(self, layer: Layer, batch: Batch, tick: Tick) -> "ClockedProjection":
        """At rest."""
        return ClockedProjection(layer, batch, tick)


@dataclass
class ClockedProjection:
    """s¹ in the free phase, which is one group: (B, 1, P, N, D), ``s1`` that of the last tick. Here by a softmax.

    ``heard``: r² (B, G, H₂) at each tick so far; ``nudged``: the nudges, once they have begun.
    """

    layer: Layer
    batch: Batch
    tick: Tick
    heard: list[Tensor] = field(default_factory=list)
    nudged: "SoftmaxAnchor | None" = None
    s1: Tensor = field(init=False)

    def free(self, s2: Tensor) -> Tensor:
        """s¹ of this tick, from r² (B, 1, H₂)."""
        query = self.layer.inputs.drive.unsqueeze(1)
        if self.layer.inputs.current is None:
            query = query + self.layer.down(s2)
        self.heard.append(s2.clone())
        self.s1 = self._put_out(query.expand(-1, s2.shape[1], -1, -1, -1))
        return self.s1

    def _put_out(self, query: Tensor) -> Tensor:
        """s¹ of a constant query, both (B, G, P, N, D)."""
        inputs = self.layer.inputs
        return real(hopattn(query[:, 0], inputs.patterns, inputs.bias, values=inputs.values).unsqueeze(1), inputs.rows)

    def current(self) -> Tensor:
        """w₂ F(s¹) of the last tick, (B, 1, H₂)."""
        return self.layer.up(self.s1)

    def whole(self, s1: Tensor) -> Tensor:
        """s¹ of what was put out: that."""
        return s1

    def recall(self, ticks: int, group: int) -> tuple[Recall, Recall]:
        """(change, mean over it) of what the patterns saw in the last ``ticks``, from where the nudges began."""
        if self.nudged is None:
            return (), ()
        return self.nudged.recalled(torch.stack(self.heard[-ticks:]).mean(0)[:, 0] - self.nudged.trace0)

    def anchor(self, s2: Tensor, s1: Tensor, groups: int, noise: Noise) -> "SoftmaxAnchor | SpikingProjection":
        """For nudges from r² (B, H₂) and s¹ (B, P, N, D), with random numbers of their own.

        Here s¹* and its softmax are had anew from r², at full precision.
        """
        layer, w2 = self.layer, self.layer.network.weights[0]
        exact, found = Found.of(layer.full_query(s2), layer.inputs, layer.w2.dtype)
        self.nudged = SoftmaxAnchor(layer, exact, self.batch, s2, (exact.flatten(1) @ w2.T).unsqueeze(1), found)
        return self.nudged

    def activity(self, group: int = 0) -> ProjectionActivity:
        """What it took so far."""
        return every_row(self.layer, self.batch, len(self.heard))


@dataclass
class SoftmaxAnchor:
    """s¹ in the nudges, as changes δ¹ of ``s1`` (B, P, N, D) since the free phase ended with ``trace0`` (B, H₂) and
    ``current0`` w₂ F(s¹*) (B, 1, H₂).

    ``shifts`` (B, G, H₂) are how far r² was from ``trace0`` at each tick, ``moved`` whether it had left it at the last
    one: at the first of a nudge δ¹ is 0.
    """

    layer: Layer
    s1: Tensor
    batch: Batch
    trace0: Tensor
    current0: Tensor
    found: Found
    shifts: list[Tensor] = field(default_factory=list)
    moved: bool = False
    delta: Tensor = field(init=False)

    def change(self, s2: Tensor) -> Tensor:
        """δ¹ of this tick, (B, G, P, N, D), from r² (B, G, H₂)."""
        shift = s2 - self.trace0.unsqueeze(1)
        self.shifts.append(shift)
        self.moved = bool(shift.any())
        nothing = self.layer.inputs.drive.new_zeros(()).expand(*s2.shape[:2], *self.s1.shape[1:])
        self.delta = self.found.change(self.layer.down(shift)) if self.moved else nothing
        return self.delta

    def whole(self, change: Tensor) -> Tensor:
        """s¹ of a change of it; both (B, G, P, N, D)."""
        return change + self.s1.unsqueeze(1)

    def recall(self, ticks: int, group: int) -> tuple[Recall, Recall]:
        """(change, mean over it) of what the patterns see in the last ``ticks`` of one nudge, by the mean of r²."""
        return self.recalled(torch.stack(self.shifts[-ticks:]).mean(0)[:, group])

    def recalled(self, shift: Tensor) -> tuple[Recall, Recall]:
        """By a change of r², (B, H₂); nothing where patterns are not learnt."""
        if not self.layer.network.shape.learnt:
            return (), ()
        turned = self.layer.down(shift)
        moved = self.found.shifted(turned)
        shares, query = self.found.after(moved, turned)
        return (moved, turned), (shares - 0.5 * moved, query - 0.5 * turned)

    def current(self) -> Tensor:
        """w₂ F(s¹* + δ¹)."""
        if not self.moved:
            return self.current0.expand(*self.delta.shape[:2], -1)
        return self.current0 + self.layer.up(self.delta)

    def activity(self, group: int = 0) -> ProjectionActivity:
        """What it took so far."""
        return every_row(self.layer, self.batch, len(self.shifts))


def every_row(layer: Layer, batch: Batch, ticks: int, winners: int | None = None) -> ProjectionActivity:
    """HopAttn of all rows at every tick, ``winners`` in each where there is no softmax."""
    rows = ticks * row_tokens(layer.network.shape, batch.mask)[0]
    retrievals = torch.full_like(rows[:, 0], ticks)
    won = None if winners is None else rows * winners
    return ProjectionActivity(retrievals, HopAttnActivity(rows, retrievals, winners=won))


@dataclass(kw_only=True)
class SpikingProjection(ClockedProjection):
    """s¹ as spikes, ``spikes`` (B, G) so far: here, without attention, of neurons on the query.

    The nudges go on from their membranes (B, G, P, N, D), as changes of ``begun`` (B, P, N, D), their rates in the free
    phase.
    """

    membrane: Membrane
    spikes: Tensor
    begun: Tensor | None = None

    @classmethod
    def of(cls, layer: Layer, batch: Batch, tick: Tick) -> "SpikingProjection":
        """At rest."""
        silent = torch.zeros_like(layer.inputs.drive, dtype=layer.full).unsqueeze(1)
        none = silent.new_zeros(len(batch), 1)
        return cls(layer, batch, tick, membrane=tick.neuron.rest(silent), spikes=none)

    def _put_out(self, query: Tensor) -> Tensor:
        """Spikes a step."""
        u = query.to(self.layer.full)
        count = torch.zeros_like(u)
        for _ in range(self.tick.steps):
            self.membrane, z = self.tick.neuron.step(self.membrane, u, self.tick.noise.draw(u))
            count += z
        count = real(count, self.layer.inputs.rows)
        self.spikes = self.spikes + count.flatten(2).sum(2)
        return count / self.tick.steps

    def anchor(self, s2: Tensor, s1: Tensor, groups: int, noise: Noise) -> "SpikingProjection":
        """A copy of the neurons for each nudge."""
        none, tick = self.spikes.new_zeros(len(s1), groups), replace(self.tick, noise=noise)
        return replace(self, tick=tick, membrane=self.membrane.copies(groups), spikes=none, heard=[], begun=s1)

    def change(self, s2: Tensor) -> Tensor:
        """Of their rates in this tick, since the free phase, from r² (B, G, H₂)."""
        assert self.begun is not None
        return self.free(s2) - self.begun.unsqueeze(1)

    def whole(self, s1: Tensor) -> Tensor:
        """s¹ of what was put out: that, or in the nudges a change of it."""
        return s1 if self.begun is None else s1 + self.begun.unsqueeze(1)

    def activity(self, group: int = 0) -> ProjectionActivity:
        """No HopAttn."""
        return ProjectionActivity(torch.full_like(self.batch.labels, len(self.heard)), None, self.spikes[:, group])
