"""A token layer of change-coded neurons: s^c, and below it s¹ = x∘r of what HopAttn retrieves.

    s^c sends to its query by w_aᵀ/τ, times x        HopAttn retrieves r        s¹ = x∘r sends its change to s^c by w_a

Units of s¹ and of s^c are sigma-delta neurons (see ``change_code``): only spikes cross w_a and w₂. A row of HopAttn is
computed again where its query has moved, by the circuit that other projections have. In the nudges both send finely and
dithered, and s^c moves by

    δs^c = σ(u* + w_a δs¹ + F⁻¹(w₂ᵀ δs²)/(τ√n)) − σ(u*),   u* as the free phase's spikes have left it
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.model.attention import chosen
from eqspike_seq.model.network import State, sigma
from eqspike_seq.model.synapses import Recall
from eqspike_seq.model.token_layer import TokenLayer, clipped
from neuromorphic.activity import ProjectionActivity
from neuromorphic.attention.gated import Circuit, Dither, FreeProjection, GatedNudges, GatedProjection, Nudges, Texts
from neuromorphic.neurons import send_dithered, send_on_change


class TokenProjection(FreeProjection):
    """s^c in the free phase; ``units1`` (B, P, N, D) are the signed units that s¹ has sent, in steps of ``theta``, and
    ``within`` (2, B) how many in this step, and by how many neurons where that is asked for."""

    def __init__(self, hopattn: FreeProjection, thetas: tuple[float, float], deadband: float, graded: bool) -> None:
        """``thetas`` of s¹: θ and, in the nudges, θ'. ``graded``: whether it is counted how many neurons send."""
        super().__init__(hopattn.layer, hopattn.batch)
        self.hopattn, (self.theta, self.theta_nudged) = cast(GatedProjection, hopattn), thetas
        self.deadband, self.graded = deadband, graded
        self.units1 = torch.zeros_like(self.own)
        self.within = self.own.new_zeros(2, len(self.own))

    def free(self, s2: Tensor, texts: Texts, sent: Tensor) -> Tensor:
        """Activations of s^c (b, P, N, H_c), of which ``sent`` has been transmitted so far."""
        layer = cast(TokenLayer, self.layer.take(texts))
        query = layer.inputs.drive + layer.turned(sent.to(layer.w2.dtype))
        before = chosen(self.units1, texts)
        own = layer.s1_of(self.hopattn.retrieved(query, layer, texts))
        moved = send_on_change(before, own, self.theta, self.deadband)
        units = self.units1[texts] = before + moved
        self.within[:, texts] = counted(moved, 1, self.graded)
        return sigma(self._heard(layer, s2, units))

    def _heard(self, layer: TokenLayer, s2: Tensor, units: Tensor) -> Tensor:
        """u of s^c by the ``units`` that s¹ has sent, and by ``s2``, in the precision of the weights."""
        return layer.heard((self.theta * units).to(layer.w2.dtype), s2).to(layer.full)

    def anchor(self, circuit: Circuit, base: State, groups: int, dither: Dither) -> "TokenNudges":
        """For nudges by ``circuit``; ``base`` is what had been transmitted when the free phase ended."""
        u = self._heard(cast(TokenLayer, self.layer), base.layers[0], self.units1)
        return TokenNudges(self, circuit.nudges(self.hopattn, groups, dither), u, groups, dither)

    def sent_within(self) -> list[Tensor]:
        """What s¹ has sent since this was last asked: (units, neurons) (2, B)."""
        within, self.within = self.within, torch.zeros_like(self.within)
        return [within]

    def activity(self, group: int = 0) -> ProjectionActivity:
        """What HopAttn took; there is one group."""
        return self.hopattn.activity()


class TokenNudges(Nudges):
    """The change of s^c since the free phase ended, (B, G, P, N, H_c); ``within`` (2, B, G). w₁ learns from the change
    of r as the core puts it out, ``retrieved`` (B, G, P, N, D), not from what s¹ sends."""

    def __init__(self, free: TokenProjection, hopattn: GatedNudges, u: Tensor, groups: int, dither: Dither) -> None:
        """``u`` is that of s^c when the free phase ended."""
        self.hopattn, self.theta, self.layer = hopattn, free.theta_nudged, cast(TokenLayer, free.layer)
        self.graded = free.graded
        self.start = free.theta * free.units1
        self.inside, self.xi1 = clipped(u), dither(free.units1)
        self.units1 = free.own.new_zeros(len(free.own), groups, *free.units1.shape[1:])
        self.retrieved = torch.zeros_like(self.units1)
        self.within = free.own.new_zeros(2, len(free.own), groups)

    def change(self, s2: Tensor, texts: Texts, sent: Tensor) -> Tensor:
        """That of the texts named, of which ``sent`` has been transmitted so far."""
        layer = cast(TokenLayer, self.layer.take(texts))
        retrieved = self.hopattn.retrieved(layer.turned(sent.to(layer.w2.dtype)), texts)
        own, before = layer.s1_of(retrieved).to(self.units1.dtype), chosen(self.units1, texts)
        self.retrieved[texts] = retrieved.to(self.units1.dtype)
        moved = send_dithered(before, own, self.theta, chosen(self.xi1, texts))
        units = self.units1[texts] = before + moved
        self.within[:, texts] = counted(moved, 2, self.graded)
        u = F.linear((self.theta * units).to(layer.w2.dtype), layer.w_a)
        u += layer.back(s2)
        offset, low, high = (chosen(part, texts) for part in self.inside)
        return torch.clamp(u.to(offset.dtype).div_(2).add_(offset), low, high)

    def recall(self, s2: Tensor, group: int, sent: Tensor) -> tuple[Recall, Recall]:
        """(change, mean over it) of what the patterns, w₁ and w_a see in one nudge: p, q̂/τ, r, s¹."""
        change, mean = self.hopattn.recalled(self.layer.turned(sent.to(self.layer.w2.dtype)), group)
        moved, found = self.theta * self.units1[:, group], self.retrieved[:, group]
        level = self.hopattn.free.own + 0.5 * found
        return (*change, found, moved), (*mean, level, self.start + 0.5 * moved)

    def sent_within(self) -> list[Tensor]:
        """What s¹ has sent since this was last asked: (units, neurons) (2, B, G)."""
        within, self.within = self.within, torch.zeros_like(self.within)
        return [within]

    def activity(self, group: int = 0) -> ProjectionActivity:
        """What HopAttn took in one nudge so far."""
        return self.hopattn.activity(group)


def counted(moved: Tensor, axes: int, graded: bool) -> Tensor:
    """(units, neurons) sent of each text, or of each text and nudge, (2, …); of the neurons 0 unless ``graded``."""
    units = moved.abs().flatten(axes).sum(axes)
    return torch.stack([units, (moved != 0).flatten(axes).sum(axes) if graded else torch.zeros_like(units)])
