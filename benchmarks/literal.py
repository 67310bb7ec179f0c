"""Equilibrium Propagation as the paper's Algorithm 2 says it, without our speed-ups, to be measured against.

    every layer from the same state (synchronous), a fixed number of steps, the inputs of all by autograd of φ:

    s¹ ← HopAttn(∂φ/∂s¹, X)        sⁱ ← σ(∂φ/∂sⁱ)        sⁿ ← σ(∂φ/∂sⁿ + β(y − sⁿ))        (Eq. 11–16)

φ is a function of x, so x w₁ is formed each time that φ is; all rows of attention are computed in every step; padding
is computed and then set to 0. Nothing stops early, nothing is relaxed as a change, everything is of one type.

Source: Bal & Sengupta, Sequence Learning using Equilibrium Propagation (IJCAI 2023).
Shapes: x (B, inputs, N, D), mask (B, inputs, N), labels (B,), states as ``eqspike_seq.model.network.State``.
"""

import math

import torch
from torch import Tensor

from eqspike_seq.model.network import Network, State, phi, sigma

BLOCKED = -1e9  # score of padding


def free(network: Network, x: Tensor, mask: Tensor, steps: int) -> State:
    """The state after ``steps`` steps from rest with β = 0."""
    state = network.rest(len(x))
    for _ in range(steps):
        state = step(network, x, mask, state)
    return state


def nudge(network: Network, x: Tensor, mask: Tensor, labels: Tensor, state: State, beta: float, steps: int) -> State:
    """The state after ``steps`` steps from ``state``, the output drawn towards the one-hot ``labels`` by β."""
    target = torch.nn.functional.one_hot(labels, network.shape.classes).to(state.output.dtype)
    for _ in range(steps):
        state = step(network, x, mask, state, beta * (target - state.output))
    return state


def step(network: Network, x: Tensor, mask: Tensor, state: State, pull: Tensor | None = None) -> State:
    """Every layer once, all from ``state``; ``pull`` (B, C) is added to the output's input."""
    query, *inputs = gradients(network, x, state)
    if pull is not None:
        inputs[-1] = inputs[-1] + pull
    return State(project(network, x, mask, query), tuple(sigma(u) for u in inputs))


def gradients(network: Network, x: Tensor, state: State) -> list[Tensor]:
    """∂φ/∂s of s¹ (B, P, N, D) and of s², … sⁿ, each (B, Hᵢ), by autograd."""
    with torch.enable_grad():
        units = [layer.detach().requires_grad_() for layer in (state.projection, *state.layers)]
        drive = x[:, network.shape.queries] @ network.asking.detach()
        value = phi(network, drive, State(units[0], tuple(units[1:]))).sum()
        return [gradient.detach() for gradient in torch.autograd.grad(value, units)]


def project(network: Network, x: Tensor, mask: Tensor, query: Tensor) -> Tensor:
    """s¹ = softmax(q Kᵀ/√d) K with the embeddings as keys and values (σ(q) without attention), padding rows 0."""
    shape = network.shape
    if shape.attention:
        keys = x[:, shape.keys]
        scores = query @ keys.mT / math.sqrt(shape.dim)
        if shape.masked:
            stored = mask[:, shape.keys].unsqueeze(-2)
            scores = scores.masked_fill(~stored, BLOCKED)
        new = torch.softmax(scores, dim=-1) @ keys
    else:
        new = sigma(query)
    return new * mask[:, shape.queries].unsqueeze(-1) if shape.masked else new
