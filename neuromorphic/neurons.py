"""Spiking neurons as pure step functions: small frozen parameters, explicit state, spikes out.

``u`` is the input that σ takes in a rate network; the neurons aim at a rate of σ(u) = clip(u/2, 0, 1) spikes a step.
Units: thresholds for membranes, steps for times.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from eqspike_seq.config.section import Section
from eqspike_seq.model.network import sigma

FINEST = 1e-6  # threshold: as many units as that makes of 1 can just be counted one by one in float32
Threshold = Annotated[float, Field(ge=FINEST)]
LATER = 4096  # moves the later half of the digits of a uniform number to the front
GOLDEN = 0.6180339887498949  # a shift by which a sequence in [0, 1) never clusters
STAIRS = 10_000  # steps over which the soft reset's rate is summed


@dataclass(frozen=True)
class Membrane:
    """State of neurons that spike: potential ``v``, what its bounds ``added`` so far, refractory steps or None."""

    v: Tensor
    added: Tensor
    wait: Tensor | None = None

    def copies(self, groups: int) -> "Membrane":
        """(B, 1, …) → (B, groups, …), each its own."""

        def copied(tensor: Tensor) -> Tensor:
            return tensor.expand(-1, groups, *tensor.shape[2:]).clone()

        return Membrane(copied(self.v), copied(self.added), None if self.wait is None else copied(self.wait))


class Noise:
    """Uniform random numbers for stochastic neurons; ``common`` gives all nudges of a text the same ones."""

    def __init__(self, seed: int, on: bool, common: bool = True) -> None:
        self.generator = torch.Generator().manual_seed(seed) if on else None
        self.common = common

    def draw(self, like: Tensor) -> Tensor | None:
        """U[0, 1) for ``like`` (B, G, …); None where no neuron asks for it."""
        if self.generator is None:
            return None
        shape = (like.shape[0], 1 if self.common else like.shape[1], *like.shape[2:])
        return torch.rand(shape, generator=self.generator, dtype=like.dtype).to(like.device)


class Neuron(Section):
    """A model of a neuron that fires at most once a step; its settings are its fields."""

    stochastic: ClassVar[bool] = False  # whether a step takes uniform random numbers

    @property
    def common_noise(self) -> bool:
        """Whether both nudges take the same random numbers."""
        return True

    def rest(self, like: Tensor) -> Membrane:
        """The state before the free phase."""
        raise NotImplementedError

    def step(self, state: Membrane, u: Tensor, uniform: Tensor | None = None) -> tuple[Membrane, Tensor]:
        """(state after the step, spikes 0 or 1 of the shape of ``u``); ``uniform`` in [0, 1) if ``stochastic``."""
        raise NotImplementedError

    def rate(self, u: Tensor) -> Tensor:
        """Spikes a step in the long run under a constant input ``u``, in its shape."""
        raise NotImplementedError


@dataclass(frozen=True)
class IntegrateAndFire(Neuron):
    """Integrate-and-fire, reset by subtraction.

        v ← v + u/2,   z = 1[v > θ],   v ← clip(v − θz, low, high),   θ = 1

    For a constant u in [0, 2] the mean of z is σ(u) = u/2. Outside, v would run away; it is held in [``low``,
    ``high``], from where it recovers in (high − θ)/(1 − u/2) or (θ − low)/(u/2) steps. The comparison is strict.
    Source: Gerstner & Kistler, Spiking Neuron Models (2002), ch. 4, without leak; snnTorch's ``Leaky`` with beta 1.
    """

    name: ClassVar[str] = "if"
    low: float = -1.0
    high: float = 2.0
    start: float = 0.5

    def rest(self, like: Tensor) -> Membrane:
        """v at ``start``."""
        return Membrane(torch.full_like(like, self.start), torch.zeros_like(like))

    def step(self, state: Membrane, u: Tensor, uniform: Tensor | None = None) -> tuple[Membrane, Tensor]:
        """One step of the equation above."""
        v = state.v + 0.5 * u
        z = (v > 1).to(v.dtype)
        v -= z
        held = v.clamp(self.low, self.high)
        return Membrane(held, state.added + (held - v)), z

    def rate(self, u: Tensor) -> Tensor:
        """σ(u)."""
        return sigma(u)


@dataclass(frozen=True)
class LeakyIntegrateAndFire(Neuron):
    """Leaky integrate-and-fire with a refractory period.

        v ← λ v + u/2 unless refractory,   λ = exp(−1/τ)
        z = 1[v > θ],   v ← v − θz (soft reset) or v ← (1 − z) v (hard reset),   θ = 1,   v ≥ low

    After a spike the neuron ignores its input and holds v for ``refractory`` steps. A constant input I = u/2 ≤ 1 − λ
    leaves it silent; else its rate is ρ/(1 + refractory · ρ), ρ that of the steps in which it listens:

        hard reset   1/k, k the least number with I (1 − λᵏ)/(1 − λ) > 1
        soft reset   the largest ρ with (1 − λ)² Σ_{j ≥ 1} λ^{j−1} ⌈jρ⌉ < I, a devil's staircase

    Both are σ(u) as τ → ∞ (hard: at rates that are reciprocals of integers). Soft reset is a contracted rotation, whose
    spikes are spread as evenly as can be: those of the last j steps are ⌈jρ⌉ where v is smallest after one, and v > 0.
    Sources: Gerstner & Kistler (2002), ch. 4, exact for input held over a step; snnTorch's ``Leaky`` with beta λ;
    Bugeaud & Conze (1999) for the rotation number.
    """

    name: ClassVar[str] = "lif"
    membrane_tau: Annotated[float, Field(ge=1)] = 50.0
    """Time constant of the membrane, in steps."""
    refractory: Annotated[int, Field(ge=0)] = 0
    """Number of steps after a spike in which the neuron ignores its input."""
    reset: Literal["soft", "hard"] = "soft"
    """After a spike, subtract the threshold (soft) or set the membrane to 0 (hard)."""
    low: float = -1.0
    start: float = 0.5

    def rest(self, like: Tensor) -> Membrane:
        """v at ``start``, not refractory."""
        return Membrane(torch.full_like(like, self.start), torch.zeros_like(like), torch.zeros_like(like))

    def step(self, state: Membrane, u: Tensor, uniform: Tensor | None = None) -> tuple[Membrane, Tensor]:
        """One step of the equations above."""
        assert state.wait is not None
        v = math.exp(-1 / self.membrane_tau) * state.v + 0.5 * u
        if self.refractory:
            v = torch.where(state.wait > 0, state.v, v)
        z = (v > 1).to(v.dtype)
        if self.refractory:
            z = torch.where(state.wait > 0, torch.zeros_like(z), z)
        v = v - z if self.reset == "soft" else v * (1 - z)
        held = v.clamp(min=self.low)
        wait = (state.wait - 1).clamp_(min=0) + self.refractory * z if self.refractory else state.wait
        return Membrane(held, state.added + (held - v), wait), z

    def rate(self, u: Tensor) -> Tensor:
        """ρ/(1 + refractory · ρ); soft reset to within 4·10⁻⁵, that of sums over ``STAIRS`` steps."""
        current, leak = 0.5 * u, -math.expm1(-1 / self.membrane_tau)
        if self.reset == "hard":
            beyond = torch.log1p(-(leak / current).clamp(max=1)) * -self.membrane_tau  # λᵏ < 1 − (1 − λ)/I
            listening = 1 / (beyond.floor() + 1)
        else:
            j = torch.arange(1, STAIRS + 1, dtype=u.dtype, device=u.device)
            weights = leak**2 * torch.exp(-(j - 1) / self.membrane_tau)
            listening, above = torch.zeros_like(current), torch.ones_like(current)
            for _ in range(50):
                middle = (listening + above) / 2
                stairs = j * middle.unsqueeze(-1)
                below = middle + (stairs.ceil() - stairs) @ weights < current  # Σ (1 − λ)² λ^{j−1} j = 1
                listening, above = torch.where(below, middle, listening), torch.where(below, above, middle)
        listening = torch.where(current > leak, listening, torch.zeros_like(listening))
        return listening / (1 + self.refractory * listening)


@dataclass(frozen=True)
class Bernoulli(Neuron):
    """A stochastic neuron: z = 1[U < σ(u)], U ~ U[0, 1) anew each step, so that E z = σ(u).

    v ← v + σ(u) − z is the spikes it owes; it has no part in when the neuron fires.
    Source: the stochastic quantiser of O'Connor, Gavves & Welling (AISTATS 2019).
    """

    name: ClassVar[str] = "bernoulli"
    stochastic: ClassVar[bool] = True
    common_noise: bool = True
    """Use the same random numbers in both nudges, as a digital circuit can by reseeding."""

    def rest(self, like: Tensor) -> Membrane:
        """Nothing owed."""
        return Membrane(torch.zeros_like(like), torch.zeros_like(like))

    def step(self, state: Membrane, u: Tensor, uniform: Tensor | None = None) -> tuple[Membrane, Tensor]:
        """One step of the equation above."""
        assert uniform is not None
        rate = sigma(u)
        z = (uniform < rate).to(rate.dtype)
        return Membrane(state.v + rate - z, state.added), z

    def rate(self, u: Tensor) -> Tensor:
        """σ(u)."""
        return sigma(u)


@dataclass(frozen=True)
class Losing(Neuron):
    """``neuron`` of whose spikes a share p, ``lost``, never arrives: z ← z 1[U ≥ p], U ~ U[0, 1) anew each step.

    It resets as if they had. ``added`` holds them with the opposite sign, so that what the membrane says of a neuron's
    own activation stays true.
    """

    stochastic: ClassVar[bool] = True
    neuron: Neuron
    lost: float
    chip: int = 0

    @property
    def common_noise(self) -> bool:
        """Nothing makes the same spikes get lost in both nudges."""
        return False

    def rest(self, like: Tensor) -> Membrane:
        """That of the neuron."""
        return self.neuron.rest(like)

    def step(self, state: Membrane, u: Tensor, uniform: Tensor | None = None) -> tuple[Membrane, Tensor]:
        """One step; of a random number the neuron sees all digits, spikes on their way the later ones, from a place
        that differs from chip to chip."""
        assert uniform is not None
        after, fired = self.neuron.step(state, u, uniform)
        heard = fired * ((LATER * uniform + self.chip * GOLDEN) % 1 >= self.lost)
        return replace(after, added=after.added - (fired - heard)), heard

    def rate(self, u: Tensor) -> Tensor:
        """Of spikes that arrive."""
        return (1 - self.lost) * self.neuron.rate(u)


class Loss:
    """What becomes of signed unit spikes on their way: each is lost with the probability p, ``share``."""

    def __init__(self, share: float, seed: int) -> None:
        self.share, self.generator = share, torch.Generator().manual_seed(seed)

    def of(self, sent: Tensor) -> Tensor:
        """How many of those ``sent`` are lost, with their sign."""
        count = sent.abs().cpu()
        lost = torch.binomial(count, torch.full_like(count, self.share), generator=self.generator)
        return lost.to(sent) * sent.sign()


@dataclass(frozen=True)
class SigmaDelta(Section):
    """A neuron that sends what has changed: ``send_on_change`` in the free phase, ``send_dithered`` in the nudges.

    Its thresholds differ by layer and phase, so ``change_code`` has them. Of its unit spikes a share ``lost`` never
    arrives, on each ``chip`` others.
    """

    name: ClassVar[str] = "sigma-delta"
    lost: float = 0.0
    chip: int = 0


def send_on_change(sent: Tensor, activation: Tensor, threshold: float, deadband: float = 0.5) -> Tensor:
    """Sigma-delta neuron: signed unit spikes of this step, integers of the shape of ``sent``.

        e = a/θ − sent,   n = sign(e) ⌊|e| + 1 − deadband⌋

    ``sent`` is the sum of the units sent before, a the activation, both from one origin. The neuron is silent while a
    is within ``deadband`` thresholds of what it has transmitted, θ·sent; ½ rounds to the nearest.
    Source: sigma-delta coding, O'Connor & Welling (2016); Yousefzadeh et al. (2019).
    """
    error = activation.mul(1 / threshold).sub_(sent)
    return error.abs().add_(1 - deadband).floor_().mul_(error.sign_())


def send_dithered(sent: Tensor, activation: Tensor, threshold: float, xi: Tensor) -> Tensor:
    """The same with a dither ξ that is drawn from U[0, 1) once and kept: n = ⌊a/θ + ξ⌋ − sent.

    What has been transmitted, θ(sent + n), is an unbiased estimate of a, however small a is.
    Source: Schuchman (1964), dithered quantisation; fixed dither for changes is ours.
    """
    return torch.add(xi, activation, alpha=1 / threshold).floor_() - sent
