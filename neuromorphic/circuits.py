"""HopAttn at the side of spiking neurons: the clocked core, a digital softmax that is read once a tick.

At a tick it takes the low-passed feedback, forms the query q = x w₁ + F⁻¹(w₂ᵀ r²) and puts out s¹ = HopAttn(q, X) as
graded values, which stay until the next tick. Linear synapses commute with summing over time, so that w₂ F(s¹) and
w₂ᵀ r² are formed once a tick and are exact.

Nudges put out s¹* + δ¹, where s¹* belongs to the query of the moment at which the free phase ended and δ¹ is the exact
change since (``hopattn_change``): the same numbers, but the small contrast of the nudges is not lost in bf16.

With a sampler the circuit is a soft winner-take-all (``winners``): each step of a tick has one winner in every token
row, and s¹ leaves it as ON and OFF spikes.

Without attention the projection layer spikes as the layers above do: the neurons of s¹ run the M steps of a tick on
their constant query, and the spike count of the tick, divided by M, is what w₂ delivers. Where s¹ is clamped to the
input, the query is 2x: a pixel of x fires at rate x.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eqspike_seq.config.section import Section
from eqspike_seq.model.attention import Retrieval, hopattn, hopattn_and_weights, hopattn_change
from eqspike_seq.model.projection import Inputs, feedback
from neuromorphic.neurons import Membrane, Neuron, Noise
from neuromorphic.winners import pattern_sum

FULL_SCALE = 4.0  # s¹ of a unit that fires at every step
GOLDEN = 0.6180339887498949  # a shift by which a sequence in [0, 1) never clusters


@dataclass(frozen=True)
class Clocked(Section):
    """c"""

    name: ClassVar[str] = "clocked"


@dataclass(frozen=True)
class Winners(Section):
    """w"""

    name: ClassVar[str] = "wta"
    sampler: str = "systematic"
    """How"""


@dataclass
class ClockedCore:
    """The projection layer of one phase, for ``groups`` nudges side by side.

    ``w2`` (H, P·N·D) is in the type of the large products. With a ``sampler`` HopAttn is the mean pattern of M winners.
    """

    inputs: Inputs
    w2: Tensor
    attention: bool
    tick_steps: int
    neuron: Neuron
    noise: Noise
    sampler: str | None = None
    membrane: Membrane | None = None  # (B, G, P, N, D), where s¹ spikes
    spikes: Tensor | None = None  # (B, G) spikes of s¹ so far, where it spikes
    u: Tensor | None = None  # (B, P, N, 1 or M), with a sampler only

    def feedback(self, trace: Tensor) -> Tensor:
        """F⁻¹(w₂ᵀ r²): (B, G, H) → (B, G, P, N, D)."""
        return feedback(trace.flatten(0, 1), self.w2).view(*trace.shape[:2], *self.inputs.drive.shape[1:])

    def forward(self, s1: Tensor) -> Tensor:
        """w₂ F(s¹): (B, G, P, N, D) → (B, G, H)."""
        return (s1.flatten(2).to(self.w2.dtype) @ self.w2.T).to(self.inputs.target.dtype)

    def output(self, trace: Tensor) -> Tensor:
        """s¹ of this tick in the free phase, (B, 1, P, N, D), from the low-passed spikes r² (B, 1, H)."""
        query = self.inputs.drive.unsqueeze(1)
        if self.inputs.current is not None:
            return self._spiking(query.expand(-1, trace.shape[1], -1, -1, -1))
        query = query + self.feedback(trace)
        if not self.attention:
            return self._spiking(query)
        if self.sampler is not None:
            return self._on_off(self.sampler, query)
        return self._only_rows(hopattn(query[:, 0], self.inputs.patterns, self.inputs.bias).unsqueeze(1))

    def _spiking(self, query: Tensor) -> Tensor:
        """Spikes a step of s¹ over this tick, on a constant query; (B, G, P, N, D)."""
        current = query.to(self.inputs.target.dtype)
        count = torch.zeros_like(current)
        state = self.neuron.rest(current) if self.membrane is None else self.membrane
        for _ in range(self.tick_steps):
            state, z = self.neuron.step(state, current, self.noise.draw(current))
            count += z
        self.membrane = state
        count = self._only_rows(count)
        sent = count.flatten(2).sum(2)  # (B, G)
        self.spikes = sent if self.spikes is None else self.spikes + sent
        return count / self.tick_steps

    def _on_off(self, sampler: str, query: Tensor) -> Tensor:
        """The mean pattern of this tick's winners as ON and OFF spikes, at most one a step; (B, G, P, N, D).

        n = ⌊v + M s/A + ½⌋ of them, v ← v + M s/A − n, A = ``FULL_SCALE``: what is left over waits for the next tick.
        """
        assert self.u is not None
        steps, patterns, bias = self.tick_steps, self.inputs.patterns, self.inputs.bias
        each = [pattern_sum(sampler, steps, q, patterns, bias, self.u) for q in query.unbind(1)]
        owed = self._only_rows(torch.stack(each, 1).to(self.u.dtype)) / FULL_SCALE
        if self.membrane is not None:
            owed += self.membrane.v
        sent = owed.round().clamp_(-steps, steps)
        self.membrane = Membrane(owed - sent, torch.zeros_like(owed))
        self.u = (self.u + GOLDEN) % 1  # other winners each tick, evenly spread over time
        count = sent.abs().flatten(2).sum(2)
        self.spikes = count if self.spikes is None else self.spikes + count
        return sent * (FULL_SCALE / steps)

    def _only_rows(self, s1: Tensor) -> Tensor:
        return s1 if self.inputs.rows is None else s1.mul_(self.inputs.rows.unsqueeze(1))


@dataclass
class ClockedNudges(ClockedCore):
    """The same during the nudges: δ¹ since the end of the free phase.

    ``trace0`` (B, H) is the trace at that moment; ``s1`` (B, P, N, D) and ``start``, what HopAttn had found, belong to
    it. ``moved`` says whether the trace had left it at the last tick: at the first of a nudge δ¹ is 0.
    """

    trace0: Tensor | None = None
    start: Retrieval | None = None
    s1: Tensor | None = None
    moved: bool = False

    def anchor(self, w2: Tensor, trace: Tensor) -> Tensor:
        """Fix s¹* and its softmax at full precision; returns w₂ F(s¹*), (B, 1, H)."""
        inputs, self.trace0 = self.inputs, trace
        query = inputs.drive.to(w2.dtype) + feedback(trace, w2).view(inputs.drive.shape)
        s1, shares = hopattn_and_weights(query, inputs.patterns, inputs.bias, self.w2.dtype)
        self.start = Retrieval.of(query, inputs.patterns, inputs.bias, shares, s1)
        self.s1 = s1 if inputs.rows is None else s1.mul_(inputs.rows)
        return (self.s1.flatten(1) @ w2.T).unsqueeze(1)

    def change(self, trace: Tensor) -> Tensor:
        """δ¹ of this tick, (B, G, P, N, D)."""
        assert self.trace0 is not None and self.start is not None
        shift, like = trace - self.trace0.unsqueeze(1), self.inputs.drive
        self.moved = bool(shift.any())
        if not self.moved:
            return like.new_zeros(()).expand(*trace.shape[:2], *like.shape[1:])
        return self._only_rows(hopattn_change(self.feedback(shift), self.start))
