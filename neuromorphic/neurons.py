"""Spiking neurons as pure step functions."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class IntegrateAndFire:
    """Integrate-and-fire with reset by subtraction, at most one spike a step.

        v ← v + u/2,   z = 1[v > threshold],   v ← clip(v − z · threshold, low, high)

    ``u`` is the input that σ takes in a rate network, so that for a constant u in [0, 2] the mean of z is σ(u) = u/2
    (threshold 1). Outside, v would run away; it is held in [``low``, ``high``], from where it recovers in
    (high − threshold)/(1 − u/2) or (threshold − low)/(u/2) steps. Units: thresholds, one step. The comparison with
    the threshold is strict.
    Source: Gerstner & Kistler, Spiking Neuron Models (2002), ch. 4, without leak; snnTorch's ``Leaky`` with beta 1.
    """

    threshold: float = 1.0
    low: float = -1.0
    high: float = 2.0
    start: float = 0.5

    def step(self, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """(membrane after the step, spikes 0 or 1), both of the shape of ``v``."""
        v = v + 0.5 * u
        z = (v > self.threshold).to(v.dtype)
        return (v - self.threshold * z).clamp_(self.low, self.high), z
