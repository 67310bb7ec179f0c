"""What is imperfect in a synapse or a unit, each by its equation.

Symbols: w the weight that a synapse stores, W its range (−W ≤ w ≤ W), Δ the update that a learning rule asks for, ξ a
standard normal draw and u a uniform one in [0, 1), each synapse its own. What a network computes with is g·w.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

Fraction = Annotated[float, Field(ge=0, le=1)]
SMALLEST = 1e-9  # that float32 can divide by, whatever it is multiplied with before


@dataclass(frozen=True, kw_only=True)
class Imperfection:
    """Where its figures come from: ``label`` how they were had, ``source`` by whom, or that they are an example.

    ``sizes`` are the figures that are 0 where nothing is imperfect; without any, something always is. ``ranged``: it is
    in proportion to a range of weights; ``synaptic``: of synapses or units, and not of spikes on their way.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)
    sizes: ClassVar[tuple[str, ...]] = ()
    ranged: ClassVar[bool] = False
    synaptic: ClassVar[bool] = True
    label: Literal["measured", "modelled", "recalled"]
    source: Annotated[str, Field(min_length=1)]

    @property
    def ideal(self) -> bool:
        """Whether nothing is imperfect."""
        return bool(self.sizes) and not any(getattr(self, size) for size in self.sizes)


@dataclass(frozen=True, kw_only=True)
class Range(Imperfection):
    """Weights end at a largest conductance: w ← clip(w, −W, W), W = ``limit``/√fan-in of the layer.

    New weights are uniform in ±1/√fan-in. The scale of a layer is that of the circuits around its synapses, and that of
    stored patterns one of each component: W = √3 ``limit`` times its root mean square, as of such weights.
    """

    limit: Annotated[float, Field(ge=SMALLEST, le=1e6)]

    def of(self, fan_in: float | Tensor) -> float | Tensor:
        """W of a layer."""
        return self.limit / fan_in**0.5  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Bits(Imperfection):
    """Weights of b ``bits``: w = k W/(2^{b−1} − 1), k a whole number. What lies between two levels is rounded,

        nearest       to the nearer one, so that updates below half a step are lost
        stochastic    k ← ⌊k + u⌋: up with the probability of the part that is missing, so that the mean is right

    and nothing but k is kept. (Gupta et al. 2015, Deep learning with limited numerical precision.)
    """

    ranged: ClassVar[bool] = True
    bits: Annotated[int, Field(ge=2, le=24)]
    rounding: Literal["stochastic", "nearest"] = "stochastic"

    def step(self, limit: float | Tensor) -> float | Tensor:
        """Between two levels."""
        return limit / (2 ** (self.bits - 1) - 1)

    def nearest(self, weight: Tensor, limit: float | Tensor) -> Tensor:
        """The nearest level."""
        step = self.step(limit)
        return (weight / step).round() * step

    def rounded(self, weight: Tensor, limit: float | Tensor, random: torch.Generator) -> Tensor:
        """A level, by the device's own rounding."""
        if self.rounding == "nearest":
            return self.nearest(weight, limit)
        step = self.step(limit)
        return floor_of(weight / step, random) * step


@dataclass(frozen=True, kw_only=True)
class Pulses(Imperfection):
    """Updates are whole numbers of pulses, no two of them alike:

        n = ⌊|Δ|/(p W) + u⌋,   Δ ← sign(Δ) p W (n + c √n ξ)

    p ``least``: the mean change by a pulse as a share of W; c ``spread``: its standard deviation over its mean. (The
    pulsed update of Gokmen & Vlasov 2016, with the noise from cycle to cycle of Rasch et al. 2021, arXiv 2104.02184.)
    """

    ranged: ClassVar[bool] = True
    least: Annotated[float, Field(ge=SMALLEST, le=1)]
    spread: Annotated[float, Field(ge=0, le=100)] = 0.0

    def given(self, change: Tensor, limit: float | Tensor, random: torch.Generator) -> Tensor:
        """The update that a synapse gets."""
        size = self.least * limit
        count = floor_of(change.abs() / size, random)
        noise = self.spread * count.sqrt() * normal(change, random) if self.spread else 0
        return change.sign() * size * (count + noise)


@dataclass(frozen=True, kw_only=True)
class SoftBounds(Imperfection):
    """An update moves a weight less the nearer it is to the end it moves to, and less one way than the other:

        dw/dt = a₊ (1 − w/W) upwards,  −a₋ (1 + w/W) downwards;   over an update Δ in small steps, for Δ > 0

        w ← W − (W − w) exp(−a₊ Δ/W),   for Δ < 0   w ← −W + (W + w) exp(−a₋ |Δ|/W)

    a₊ ``up``, a₋ ``down``. (Fusi & Abbott 2007; Rasch et al. 2021, arXiv 2104.02184.)
    """

    ranged: ClassVar[bool] = True
    up: Annotated[float, Field(gt=0, le=100)] = 1.0
    down: Annotated[float, Field(gt=0, le=100)] = 1.0

    def moved(self, weight: Tensor, change: Tensor, limit: float | Tensor) -> Tensor:
        """The weight after an update."""
        gain = torch.where(change > 0, self.up, self.down)
        end = limit * change.sign()
        return weight + (end - weight) * -torch.expm1(-gain * change.abs() / limit)


@dataclass(frozen=True, kw_only=True)
class Programming(Imperfection):
    """A weight that is programmed from outside, by writing and reading back, is missed: w ← w + e W ξ, e ``error``."""

    sizes: ClassVar[tuple[str, ...]] = ("error",)
    ranged: ClassVar[bool] = True
    error: Fraction


@dataclass(frozen=True, kw_only=True)
class Mismatch(Imperfection):
    """No two synapses are alike: g = exp(σ ξ − σ²/2), fixed when the chip is made. Their mean is 1: a factor that all
    have in common is that of the circuits around them, and set there.

    The copy of a weight that sends up and the one that sends down have gains of their own: one that both share would
    but rename the weight. (Log-normal, as currents of transistors below threshold are whose thresholds are normal:
    Pelgrom et al. 1989.)
    """

    sizes: ClassVar[tuple[str, ...]] = ("sigma",)
    sigma: Annotated[float, Field(ge=0, le=10)]


@dataclass(frozen=True, kw_only=True)
class Asymmetry(Imperfection):
    """What is sent down has weights of its own from the start: v ← (1 − η) w + η r, and of a pattern the value in place
    of v, the key in place of w. η is ``eta``; r is normal, with the root mean square of what it replaces."""

    sizes: ClassVar[tuple[str, ...]] = ("eta",)
    eta: Fraction

    def copied(self, copy: Tensor, size: Tensor, random: torch.Generator) -> Tensor:
        """(1 − η) w + η r of a ``copy`` of w, r of this root mean square; 0 stays."""
        return torch.where(copy == 0, copy, (1 - self.eta) * copy + self.eta * size * normal(copy, random))


@dataclass(frozen=True, kw_only=True)
class Injected(Mismatch):
    """Not of a chip but of a training that prepares for one: gains g = exp(σ ξ − σ²/2) drawn anew for each training
    batch, and none afterwards. Updates are of the weight without its gain. (Noise injection: Murray & Edwards 1994.)"""


@dataclass(frozen=True, kw_only=True)
class ReadNoise(Mismatch):
    """A synapse does not read the same twice: gains g = exp(σ ξ − σ²/2) of their own for each batch that is presented,
    in training and in use. They last through all phases of a batch: this is slow noise, as of traps (1/f). What is
    faster than a network settles averages out. Updates are of the weight without its gain."""


@dataclass(frozen=True, kw_only=True)
class Drift(Imperfection):
    """A weight that was written decays, each synapse with an exponent of its own:

        w ← w (t/t₀)^{−ν},   ν = ν̄ + s ξ

    ν̄ ``exponent`` (0: circuits around the synapses make up for what all have in common), s ``spread``, t ``seconds``
    after writing, t₀ ``since``, when the weight was as written. Time passes once, between training and use: where a
    run starts from another's weights, after they were programmed and before they learn; else at its end. (Phase-change
    memory: Joshi et al. 2020, Nature Communications 11.)
    """

    sizes: ClassVar[tuple[str, ...]] = ("exponent", "spread")
    exponent: Annotated[float, Field(ge=0, le=1)] = 0.0
    spread: Annotated[float, Field(ge=0, le=1)]
    seconds: Annotated[float, Field(gt=0, le=1e10)]
    since: Annotated[float, Field(gt=0, le=1e10)] = 20.0

    def factor(self, like: Tensor, random: torch.Generator) -> Tensor:
        """(t/t₀)^{−ν} of each synapse."""
        return (-math.log(self.seconds / self.since) * (self.exponent + self.spread * normal(like, random))).exp()


@dataclass(frozen=True, kw_only=True)
class LostSpikes(Imperfection):
    """A spike reaches none of its targets with the probability p, ``share``. Its neuron does not know, and goes on as
    if it had arrived: what a change-coding neuron has sent and what its targets have heard of it stay apart."""

    sizes: ClassVar[tuple[str, ...]] = ("share",)
    synaptic: ClassVar[bool] = False
    share: Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Stuck(Imperfection):
    """A ``share`` of the synapses never changes: each is held at a weight uniform in ±W, whatever is written to it."""

    sizes: ClassVar[tuple[str, ...]] = ("share",)
    ranged: ClassVar[bool] = True
    share: Fraction


@dataclass(frozen=True, kw_only=True)
class Thresholds(Imperfection):
    """Units differ too: each hears a constant input σ ξ that nobody gave it, b ← b + σ ξ, fixed when the chip is made.

    An offset of a unit's threshold is one of its bias, which learns; u = 0 … 2 takes a unit from silence to its limit.
    """

    sizes: ClassVar[tuple[str, ...]] = ("sigma",)
    sigma: Annotated[float, Field(ge=0, le=10)]


def within(value: Tensor, limit: float | Tensor) -> Tensor:
    """clip(value, −W, W)."""
    bound = torch.as_tensor(limit, dtype=value.dtype, device=value.device)
    return value.clamp(-bound, bound)


def floor_of(value: Tensor, random: torch.Generator) -> Tensor:
    """⌊value + u⌋: a whole number whose mean is ``value``; whole numbers, to four digits, stay."""
    whole = value.round()
    draw = torch.rand(value.shape, generator=random, dtype=value.dtype).to(value.device)
    return torch.where((value - whole).abs() < 1e-4, whole, (value + draw).floor())


def normal(like: Tensor, random: torch.Generator) -> Tensor:
    """ξ of each synapse."""
    return torch.randn(like.shape, generator=random, dtype=like.dtype).to(like.device)
