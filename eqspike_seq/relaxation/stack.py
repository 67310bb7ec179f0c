"""The layers above s¹, s² … sⁿ: a chain, so that even and odd ones are updated in turn.

With the *softmax readout* sⁿ = softmax(wₙ s^{n−1} + bₙ) is no state of the network but read from it: nothing comes back
from it, and the nudge pulls s^{n−1} down the gradient of the cross-entropy, by β wₙᵀ(y − sⁿ) (Laborieux et al. 2021).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqspike_seq.model.attention import OfTexts
from eqspike_seq.model.network import Network, sigma

ROUNDS = 3  # of the layers above s¹ in an alternating sweep


def in_turn(layers: int) -> list[int]:
    """Positions of s², s³, … in the order of their updates: those that w₂ does not reach first."""
    return [*range(1, layers, 2), *range(0, layers, 2)]


def above(network: Network, layers: tuple[Tensor, ...], index: int) -> Tensor:
    """w_{i+1}ᵀ s^{i+1} + b_i, or v_{i+1}ᵀ s^{i+1} + b_i: what layer ``index`` gets apart from the layer below it."""
    if index + 1 + network.shape.softmax >= len(layers):
        return network.biases[index]
    return layers[index + 1] @ network.downward[index + 1] + network.biases[index]


@dataclass(frozen=True)
class Pull:
    """β (y − sⁿ) into the output, or through wₙᵀ into the layer below a softmax; ``target`` y (B, C)."""

    target: Tensor
    beta: float = 0.0


def updated(network: Network, current: Tensor, source: tuple[Tensor, ...], index: int, pull: Pull) -> Tensor:
    """Layer ``index`` of the stack from its neighbours in ``source``, s² from ``current`` = w₂ F(s¹)."""
    u = current if index == 0 else source[index - 1] @ network.weights[index].T
    u, last = u + above(network, source, index), len(source) - 1
    if network.shape.softmax and index == last:
        return torch.softmax(u, -1)
    if pull.beta and index == last - network.shape.softmax:
        error = pull.beta * (pull.target - source[last])
        u = u + (error @ network.weights[last] if network.shape.softmax else error)
    return sigma(u)


def settled(network: Network, current: Tensor, layers: tuple[Tensor, ...], pull: Pull) -> tuple[Tensor, ...]:
    """The layers above s¹ after ``ROUNDS`` rounds, s¹ held."""
    new = list(layers)
    for index in ROUNDS * in_turn(len(new)):
        new[index] = updated(network, current, tuple(new), index, pull)
    return tuple(new)


def largest_change(new: tuple[Tensor, ...], old: tuple[Tensor, ...], axes: int = 1) -> Tensor:
    """The largest change of any unit for each text, (B,), or with two ``axes`` for each text and nudge, (B, G)."""
    return torch.stack([(a - b).abs().flatten(axes).amax(axes) for a, b in zip(new, old, strict=True)]).amax(0)


@dataclass(frozen=True)
class StackAnchor(OfTexts):
    """What the change of each layer is taken from: inputs u* (B, 1, Hᵢ), and ``error`` y − s*ⁿ (B, 1, C)."""

    u: tuple[Tensor, ...]
    error: Tensor

    @classmethod
    def of(cls, network: Network, layers: tuple[Tensor, ...], current: Tensor, target: Tensor) -> "StackAnchor":
        """Of s*, in the precision of the weights; ``current`` is w₂ F(s¹*)."""
        currents = [current, *(low @ w.T for low, w in zip(layers, network.weights[1:], strict=False))]
        u = tuple((u + above(network, layers, i)).unsqueeze(1) for i, u in enumerate(currents))
        return cls(u, (target - layers[-1]).unsqueeze(1))

    def changed(
        self, network: Network, current: Tensor, source: tuple[Tensor, ...], index: int, beta: Tensor
    ) -> Tensor:
        """The change of layer ``index`` under nudges ``beta`` (1, G, 1), by those of its neighbours in ``source``, each
        (B, G, Hᵢ), s² by ``current`` = w₂ F(δs¹): δs = σ(u* + δu) − σ(u*)."""
        u, last, softmax = current, len(source) - 1, network.shape.softmax
        if index:
            u = source[index - 1] @ network.weights[index].T
        if softmax and index == last:
            return softmax_change(self.u[index], u)
        if index + softmax < last:
            u = u + source[index + 1] @ network.downward[index + 1]
        else:
            pull = beta * (self.error - source[last])
            u = u + (pull @ network.weights[last] if softmax else pull)
        return sigma(self.u[index] + u) - sigma(self.u[index])


def softmax_change(start: Tensor, change: Tensor) -> Tensor:
    """softmax(z + δz) − softmax(z), to the relative precision of δz however small: with E = Σ p (e^δz − 1),

    δp = p (e^δz − 1 − E)/(1 + E)
    """
    change = change - change.amax(-1, keepdim=True)  # no e^δz overflows
    p, grown = torch.softmax(start, -1), change.expm1()
    excess = (p * grown).sum(-1, keepdim=True)
    return p * (grown - excess) / (1 + excess)
