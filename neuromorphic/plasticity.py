"""Local plasticity rules: what a synapse makes of its two sides, in place of the rates of Eq. 18.

EP asks each synapse for (r_post r_pre at the end of +β) − (the same of −β), Eq. 18. A rule says what stands for
r_post r_pre. It is given what the two sides show (``Side``) and nothing else: no other neuron, no error, no weight.

    count     r = spikes of the window / window
    trace     r = the end of a slow trace r ← r + a(z − r), which starts at the free phase's rate
    eqspike   at each spike of one side: its trace × the change of the other side's trace since its last spike
    membrane  r = clip((spikes + ΔV − what its bounds added)/window, 0, 1): the count less the neuron's own
              quantisation error, which it knows from its membrane

Patterns X of pooling queries, where they are learnt, hold p ⊗ q̂ whatever the rule: a pattern unit sees its own share p
and, on its wires, the query q̂ with what the spikes of s² have added. With winners its spikes are p, of change codes
in a nudge the change of p: one that fires moves towards the query.

``eqspike`` is our reading of Martin et al. (iScience 2021), whose full text was not available: spikes of one side gate
the change of the other side's rate; before it Bengio et al. (2015), presynaptic activity × rate of change, and Ernoult
et al. (2020), C-EP. It sums Δ(r_post r_pre) = Δr_post r_pre(t−1) + r_post(t) Δr_pre over the events of a nudge. To take
the spike itself for r and the change within that one step for Δr also has the right mean, E z = r, but spike trains
that interact are not independent from step to step: of integrate-and-fire neurons it gave a gradient with cosine 0.25
to Eq. 18 between two hidden layers where this one gives that of ``trace``. ``membrane`` is ours.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from eqspike_seq.config.section import Section
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, State
from eqspike_seq.model.synapses import Product, Products, contrasts, static_products


@dataclass(frozen=True)
class Side:
    """What the neurons of one layer show their synapses over one phase; (B, H), a row a text.

    ``count`` is spikes a step over the window (for a graded value its mean), ``own`` the neuron's own estimate of its
    rate, ``trace0`` and ``trace`` the slow trace at both ends. Where a rule follows single events: ``spikes`` and
    ``course`` (the trace after each step), both (K, B, H), or for values held over a tick ``held`` (ticks, B, H) less
    ``trace0``.
    """

    count: Tensor
    own: Tensor
    trace0: Tensor
    trace: Tensor
    spikes: Tensor | None = None
    course: Tensor | None = None
    held: Tensor | None = None

    @cached_property
    def moved(self) -> Tensor:
        """The trace after each step less ``trace0``, (K, B, H)."""
        assert self.course is not None
        return self.course - self.trace0

    @cached_property
    def weights(self) -> Tensor:
        """``event_weights`` of the side's own spikes, (K, B, H)."""
        assert self.spikes is not None and self.course is not None
        return event_weights(self.spikes, self.course)


class Rule(Section):
    """What a synapse holds at the end of a phase, summed over the texts of a batch; its settings are its fields."""

    follows: ClassVar[str]  # "window": counts and membranes; "trace": traces; "events": traces and single events

    def synapse(self, post: Side, pre: Side) -> Product:
        """For each pair of neurons, (H_post, H_pre)."""
        raise NotImplementedError

    def input(self, post: Side) -> Tensor:
        """For a constant input of 1 (biases, static currents) and each text, (B, H_post)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Traced(Rule):
    """A rule whose synapses see slow traces r ← r + (1 − exp(−1/τ))(z − r)."""

    trace_tau: Annotated[float, Field(ge=1)] = 200.0
    """Time constant of the slow trace, in steps."""


class _RateProduct(Rule):
    """r_post r_pre, where r is what the rule reads off a side."""

    reads: ClassVar[str]

    def synapse(self, post: Side, pre: Side) -> Product:
        """Σ_b r_post r_pre."""
        return Product(((self.input(post), self.input(pre)),))

    def input(self, post: Side) -> Tensor:
        """r_post."""
        rate: Tensor = getattr(post, self.reads)
        return rate


@dataclass(frozen=True)
class Count(_RateProduct):
    """r = spikes of the window / window."""

    name: ClassVar[str] = "count"
    follows: ClassVar[str] = "window"
    reads: ClassVar[str] = "count"


@dataclass(frozen=True)
class MembraneCount(_RateProduct):
    """r = (spikes + ΔV − what its bounds added)/window, clipped to [0, 1]; see ``Side.own``."""

    name: ClassVar[str] = "membrane"
    follows: ClassVar[str] = "window"
    reads: ClassVar[str] = "own"


@dataclass(frozen=True)
class Trace(_RateProduct, Traced):
    """r = the slow trace at the end of the phase."""

    name: ClassVar[str] = "trace"
    follows: ClassVar[str] = "trace"
    reads: ClassVar[str] = "trace"


@dataclass(frozen=True)
class EqSpike(Traced):
    """Σ over spikes of post r_post(t) (r_pre(t) − r_pre(t')) + the same with the sides exchanged, over a nudge.

    t' is the last spike of the same neuron, or the start of the nudge. A held value is an event at the end of each
    tick. Nothing is learnt in a free phase.
    """

    name: ClassVar[str] = "eqspike"
    follows: ClassVar[str] = "events"

    def synapse(self, post: Side, pre: Side) -> Product:
        """The sum above; (H_post, H_pre)."""
        if post.spikes is None or post.course is None:
            return Product(((post.trace[:0], pre.trace[:0]),))
        if pre.held is not None:
            return self._with_held(post.moved, post.weights, pre.held, pre.trace0)
        ours, theirs = post.weights.flatten(0, 1), pre.weights.flatten(0, 1)
        return Product(((ours, pre.moved.flatten(0, 1)), (post.moved.flatten(0, 1), theirs)))

    def _with_held(self, moved: Tensor, weights: Tensor, held: Tensor, start: Tensor) -> Product:
        """The same where pre holds h(τ) over each tick τ: its trace is linear in h, so that one product is enough.

        With ρ(τ) the change of its trace at the end of τ, ρ(τ) = (1 − g) ρ(τ−1) + g h(τ), g = 1 − (1 − a)^M, the sum is
        Σ_τ (C − D)(τ) h(τ) + D(τ) ρ(τ−1) + (m(τ) − m(τ−1)) ρ(τ) + m(end) start, where m is ``moved`` at the end of a
        tick, C the sum of ``weights`` over it and D the same weighted by (1 − a)^(k+1) at its step k.
        """
        ticks, steps, remains = len(held), len(weights) // len(held), math.exp(-1 / self.trace_tau)
        by_tick = weights.unflatten(0, (ticks, steps))
        decay = remains ** torch.arange(1, steps + 1, device=weights.device, dtype=weights.dtype)
        late = torch.einsum("tmbh,m->tbh", by_tick, decay)
        ends = moved[steps - 1 :: steps]
        factors = torch.diff(ends, dim=0, prepend=torch.zeros_like(ends[:1]))
        factors[:-1] += late[1:]
        kept = remains**steps
        for tick in range(ticks - 2, -1, -1):
            factors[tick] += kept * factors[tick + 1]
        factors = by_tick.sum(1) - late + (1 - kept) * factors
        return Product(((ends[-1], start), (factors.to(held.dtype).flatten(0, 1), held.flatten(0, 1))))

    def input(self, post: Side) -> Tensor:
        """r(K) − r(0): an input of 1 has a trace of 1."""
        return post.trace - post.trace0


def event_weights(spikes: Tensor, course: Tensor) -> Tensor:
    """c(t) = z(t) (r(t) − r(next spike)), the last term 0 where there is none; (K, B, H).

    Then Σ over spikes of r(t) (x(t) − x(t')) = Σ_t c(t) x(t) for every x that is 0 at the start.
    """
    weights, following, fired = spikes * course, torch.zeros_like(course[0]), spikes > 0
    for step in range(len(course) - 1, -1, -1):
        weights[step].addcmul_(spikes[step], following, value=-1)
        torch.where(fired[step], course[step], following, out=following)
    return weights


def local_products(
    rule: Rule, network: Network, batch: Batch, projection: Side, sides: list[Side], seen: tuple[State, State]
) -> Products:
    """What every synapse and bias holds at the end of a phase, summed over the batch, by parameter name.

    ``projection`` is s¹ as the synapses w₁ of its static input see it, ``sides`` s¹ as w₂ sees it and the layers above.
    ``seen``: what the patterns and a token layer see, (change since the free phase, mean of both); they hold products
    of both less those of then.
    """
    held: Products = {**static_products(network, batch, rule.input(projection))}
    held |= contrasts(network, batch, *seen)
    for index, (post, pre) in enumerate(zip(sides[1:], sides[:-1], strict=True), start=2):
        held[f"w{index}"] = rule.synapse(post, pre)
        held[f"b{index}"] = rule.input(post).sum(0)
        if f"w{index}" in network.shape.sent_back:  # by the plain rule
            held[f"v{index}"] = held[f"w{index}"]
    return held
