"""A token layer of neurons that fire at most once a step, around a HopAttn core that is read once a tick.

At a tick the queries take in x∘(w_aᵀ r^c)/τ, r^c the low-passed spikes of s^c, and the core puts out s¹ = x∘r; then the
neurons of s^c run the steps of the tick on a constant input,

    u = w_x x + b_x + w_a s¹ + F⁻¹(w₂ᵀ r²)/(τ√n),   r² the low-passed spikes of s²

and what they have sent, divided by its steps, is what w₂ delivers until the next tick. In the nudges they go on from
their membranes, and s¹ is s¹* + δ¹, as in ``clocked``.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from eqspike_seq.model.attention import hopattn
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import State
from eqspike_seq.model.projection import Found, real
from eqspike_seq.model.synapses import Recall
from eqspike_seq.model.token_layer import TokenLayer
from neuromorphic.activity import ProjectionActivity
from neuromorphic.attention.clocked import Tick, every_row
from neuromorphic.neurons import Membrane, Noise


@dataclass
class TokenRates:
    """s^c in the free phase, which is one group, (B, 1, 1, R, H_c), of neurons with ``membrane``.

    ``trace`` is r^c, ``gain`` that of its low-pass, ``s1`` what s^c put out last. At each tick so far: ``heard`` r^c,
    ``counts`` the spikes, ``kept`` v − what its bounds added, before the first tick too. ``nudged``: the nudges, once
    they have begun.
    """

    layer: TokenLayer
    batch: Batch
    tick: Tick
    gain: float
    membrane: Membrane
    trace: Tensor
    heard: list[Tensor] = field(default_factory=list)
    counts: list[Tensor] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)
    nudged: "TokenRatesNudged | None" = None
    s1: Tensor = field(init=False)

    @classmethod
    def of(cls, layer: TokenLayer, batch: Batch, tick: Tick, feedback_tau: float) -> "TokenRates":
        """At rest."""
        trace = real(layer.rest(len(batch)).projection, layer.inputs.rows).unsqueeze(1)
        membrane = tick.neuron.rest(torch.zeros_like(trace))
        return cls(layer, batch, tick, 1 - math.exp(-tick.steps / feedback_tau), membrane, trace)

    def free(self, s2: Tensor) -> Tensor:
        """What s^c puts out in this tick, by r² (B, 1, H₂)."""
        inputs = self.layer.inputs
        query = inputs.drive + self.turned(self.trace[:, 0])
        retrieved = real(hopattn(query, inputs.patterns, inputs.bias, values=inputs.values), inputs.rows)
        return self._put_out(self.layer.heard(self.layer.s1_of(retrieved), s2[:, 0]).unsqueeze(1))

    def turned(self, trace: Tensor) -> Tensor:
        """What r^c, or a change of it, sends to the queries."""
        return self.layer.turned(trace.to(self.layer.w2.dtype))

    def _put_out(self, u: Tensor) -> Tensor:
        """Spikes a step, by a constant input, both (B, G, 1, R, H_c)."""
        u = u.to(self.layer.full)
        count = torch.zeros_like(u)
        self.kept = self.kept or [self.membrane.v - self.membrane.added]
        self.heard.append(self.trace)
        for _ in range(self.tick.steps):
            self.membrane, z = self.tick.neuron.step(self.membrane, u, self.tick.noise.draw(u))
            count += z
        self.counts.append(count)
        self.kept.append(self.membrane.v - self.membrane.added)
        self.s1 = count / self.tick.steps
        self.trace = self.trace + self.gain * (self.s1 - self.trace)
        return self.s1

    def current(self) -> Tensor:
        """w₂ F(s^c) of the last tick, (B, G, H₂)."""
        return self.layer.up(self.s1)

    def whole(self, s1: Tensor) -> Tensor:
        """s^c of what was put out: that."""
        return s1

    def own(self, ticks: int, group: int) -> Tensor:
        """What its neurons know of their rates in the last ``ticks``: the count less quantisation errors."""
        spikes = torch.stack(self.counts[-ticks:]).sum(0) + self.kept[-1] - self.kept[-1 - ticks]
        return (spikes[:, group] / (ticks * self.tick.steps)).clamp(0, 1)

    def recall(self, ticks: int, group: int) -> tuple[Recall, Recall]:
        """(change, mean over it) of what the patterns, w₁ and w_a saw in the last ``ticks``, p, q̂/τ, r and s¹, from
        where the nudges began."""
        if self.nudged is None:
            return (), ()
        start = self.nudged.start
        turned = self.turned(torch.stack(self.heard[-ticks:]).mean(0)[:, group] - self.nudged.trace0[:, 0])
        moved, found = start.shifted(turned), start.change(turned.unsqueeze(1)).squeeze(1)
        level, s1_of = start.start.found + 0.5 * found, self.layer.s1_of
        change = (moved, turned, found, s1_of(found))
        return change, (*start.after(moved, turned, 0.5), level, s1_of(level))

    def anchor(self, s2: Tensor, put_out: Tensor, groups: int, noise: Noise) -> "TokenRatesNudged":
        """A copy of the neurons for each nudge, from r² (B, H₂); s¹* and its softmax at full precision."""
        query = self.layer.inputs.drive.to(self.layer.full) + self.turned(self.trace[:, 0])
        retrieved, found = Found.of(query, self.layer.inputs, self.layer.w2.dtype)
        s1 = self.layer.s1_of(retrieved).to(self.layer.w2.dtype)
        trace = self.trace.expand(-1, groups, *self.trace.shape[2:])
        self.nudged = TokenRatesNudged(
            *(self.layer, self.batch, replace(self.tick, noise=noise), self.gain, self.membrane.copies(groups), trace),
            start=found,
            trace0=self.trace,
            s2=s2.unsqueeze(1),
            u0=self.layer.heard(s1, s2).unsqueeze(1),
        )
        self.nudged.nudged = self.nudged
        return self.nudged

    def activity(self, group: int = 0) -> ProjectionActivity:
        """What it took so far."""
        took = every_row(self.layer, self.batch, len(self.heard))
        return replace(took, spikes=torch.stack(self.counts)[:, :, group].sum(0).flatten(1).sum(1))


@dataclass(kw_only=True)
class TokenRatesNudged(TokenRates):
    """The same in the nudges. ``start``: what queries had retrieved when the free phase ended, by r^c ``trace0``;
    ``u0`` (B, 1, 1, R, H_c) is the input of s^c then, by r² ``s2`` (B, 1, H₂)."""

    start: Found
    trace0: Tensor
    s2: Tensor
    u0: Tensor

    def change(self, s2: Tensor) -> Tensor:
        """What s^c puts out in this tick, by r² (B, G, H₂)."""
        retrieved = self.start.change(self.turned(self.trace - self.trace0))
        return self._put_out(self.u0 + self.layer.returned(retrieved) + self.layer.back(s2 - self.s2))


def seen(by_rule: Tensor, rates: State, recall: tuple[Recall, Recall]) -> tuple[State, State]:
    """(change, mean over it) of s^c, by what a rule reads of it, from 0, and of what ``TokenRates.recall`` has."""
    change = State(by_rule, rates.layers, recall[0])
    return change, State(0.5 * by_rule, rates.layers, recall[1])
