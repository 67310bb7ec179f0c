"""Gradient estimators: EP with one nudge or with two, and backpropagation through time as the reference.

    three-phase (Eq. 7, 18)   Δθ = 1/(2β) (∂φ/∂θ at s^{+β} − ∂φ/∂θ at s^{−β})       bias O(β²)
    two-phase   (Eq. 4)       Δθ = 1/β    (∂φ/∂θ at s^{β}  − ∂φ/∂θ at s*)           bias O(β)
    BPTT                      Δθ = −dL/dθ of the network unrolled from its fixed point

Δ is a *descent* direction, averaged over the batch: an optimiser is handed −Δ. Bal & Sengupta (2023); Laborieux et
al. (2021) for the two-sided nudge.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.config.settings import Learning, RunConfig
from eqspike_seq.model.network import Batch, Network, Product, State, by_token, gathered
from eqspike_seq.model.projection import prepare
from eqspike_seq.relaxation.buckets import buckets, joined, released
from eqspike_seq.relaxation.dense import Order, sweep
from eqspike_seq.relaxation.equilibrium import Backend, Equilibrium

MakeBackend = Callable[[RunConfig], Backend]  # the backend that settings name
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Estimate:
    """−Δθ by parameter name, and the equilibria it came from: the free one first."""

    found: dict[str, Tensor | Product]
    equilibria: list[Equilibrium]

    @property
    def gradients(self) -> Gradients:
        """All of them multiplied out."""
        return multiplied_out(self.found)


class GradientEstimator(Protocol):
    """Anything that turns a batch into gradients."""

    def __call__(self, backend: Backend, network: Network, batch: Batch) -> Estimate:
        """The gradients of the mean loss ½‖y − sⁿ‖²."""
        ...


def contrast(plus: Equilibrium, minus: Equilibrium) -> tuple[State, State]:
    """(difference, mean) of two equilibria, from their changes since the nudges began where both have them."""
    mean = (plus.rates + minus.rates).scaled(0.5)
    if plus.deviation is not None and minus.deviation is not None:
        return plus.deviation + minus.deviation.scaled(-1), mean
    return plus.rates + minus.rates.scaled(-1), mean


def multiplied_out(found: Mapping[str, Tensor | Product]) -> Gradients:
    """Gradients as tensors."""
    return {name: value if isinstance(value, Tensor) else value.whole() for name, value in found.items()}


def local_update(network: Network, batch: Batch, difference: State, mean: State, scale: float) -> Gradients:
    """−Δθ from the contrast of two states; exact, as a⁺b⁺ − a⁻b⁻ = (a⁺−a⁻) b̄ + ā (b⁺−b⁻).

    Δw_{i+1} = scale · (d_post s̄_preᵀ + s̄_post d_preᵀ), Δb = scale · d, Δw₁ = scale · xᵀ d¹ (Eq. 18); batch mean. What
    s¹ takes part in is multiplied, and returned, in its type.
    """
    return multiplied_out(local_products(network, batch, difference, mean, scale))


def local_products(
    network: Network, batch: Batch, difference: State, mean: State, scale: float
) -> dict[str, Tensor | Product]:
    """``local_update`` with the gradients of weights above s¹ not multiplied out."""
    factor = -scale / len(batch)
    gradients: dict[str, Tensor | Product] = {}
    if not network.shape.clamped:
        queries = gathered(batch.x, network.shape.queries).to(difference.projection.dtype)
        outer = torch.einsum("bpnd,bpne->pde", queries, difference.projection)
        gradients["w1"] = factor * outer
    below_d, below_m = difference.projection.flatten(1), mean.projection.flatten(1)
    for index, (d, m) in enumerate(zip(difference.layers, mean.layers, strict=True), start=2):
        # one product for both terms: [d; m]ᵀ [pre mean; pre difference]
        post, pre = (factor * torch.cat([d, m])).to(below_d.dtype), torch.cat([below_m, below_d])
        gradients[f"w{index}"] = Product(((post, pre),))
        gradients[f"b{index}"] = factor * d.sum(0)
        below_d, below_m = d, m
    return gradients


def local_contrast(plus: Equilibrium, minus: Equilibrium, scale: float) -> dict[str, Tensor | Product] | None:
    """−Δθ from what the synapses hold at the ends of two phases; None where they learn from rates."""
    if plus.local is None or minus.local is None:
        return None
    factor, after, before = -scale / len(plus.residual), plus.local(), minus.local()
    found: dict[str, Tensor | Product] = {}
    for name, value in after.items():
        start = before[name]
        if isinstance(value, Product) and isinstance(start, Product):
            found[name] = value.scaled(factor) + start.scaled(-factor)
        elif isinstance(value, Tensor) and isinstance(start, Tensor):
            found[name] = factor * (value - start)
    return found


@dataclass(frozen=True)
class ThreePhase:
    """Centred EP: free, +β, −β (Eq. 7, 18)."""

    beta: float

    def __call__(self, backend: Backend, network: Network, batch: Batch) -> Estimate:
        """The gradients and the three equilibria."""
        free = backend.free(network, batch)
        plus, minus = backend.nudge(network, batch, free, (self.beta, -self.beta))
        scale = 1 / (2 * self.beta)
        local = local_contrast(plus, minus, scale)
        if local is not None:
            return Estimate(local, [free, plus, minus])
        return Estimate(local_products(network, batch, *contrast(plus, minus), scale), [free, plus, minus])


@dataclass(frozen=True)
class TwoPhase:
    """One-sided EP: free, +β (Eq. 4)."""

    beta: float

    def __call__(self, backend: Backend, network: Network, batch: Batch) -> Estimate:
        """The gradients and the two equilibria."""
        free = backend.free(network, batch)
        (plus,) = backend.nudge(network, batch, free, (self.beta,))
        local = local_contrast(plus, free, 1 / self.beta)
        if local is not None:
            return Estimate(local, [free, plus])
        if plus.deviation is None:
            difference, mean = contrast(plus, free)
        else:
            difference, mean = plus.deviation, plus.rates + plus.deviation.scaled(-0.5)
        return Estimate(local_products(network, batch, difference, mean, 1 / self.beta), [free, plus])


@dataclass(frozen=True)
class BPTT:
    """−dL/dθ by autograd through ``steps`` sweeps unrolled from the free fixed point."""

    steps: int
    order: Order = "synchronous"

    def __call__(self, backend: Backend, network: Network, batch: Batch) -> Estimate:
        """The gradients and the free equilibrium."""
        free = backend.free(network, batch)
        traced = Network(
            network.shape,
            network.w1.detach().requires_grad_(),
            [w.detach().requires_grad_() for w in network.weights],
            [b.detach().requires_grad_() for b in network.biases],
        )
        with torch.enable_grad():
            inputs = prepare(traced, batch, network.w1.dtype)
            state = State(free.rates.projection.to(network.w1.dtype), free.rates.layers)
            for _ in range(self.steps):
                state = sweep(traced, inputs, state, order=self.order)
            target = F.one_hot(batch.labels, network.shape.classes).to(network.w1.dtype)
            loss = 0.5 * (target - state.output).square().sum(1).mean()
            names, tensors = zip(*traced.named(), strict=True)
            found = torch.autograd.grad(loss, tensors, allow_unused=True)
        pairs = zip(names, tensors, found, strict=True)
        return Estimate({n: torch.zeros_like(t) if g is None else g for n, t, g in pairs}, [free])


@dataclass(frozen=True)
class ByLength:
    """An estimator for buckets as one for whole batches. The equilibria that it returns are ``released``."""

    estimator: GradientEstimator

    def __call__(self, backend: Backend, network: Network, batch: Batch) -> Estimate:
        """The gradients of the mean loss of all texts."""
        network = replace(network, large=network.w2(backend.dtype))
        gradients = {name: torch.zeros_like(tensor) for name, tensor in network.named()}

        def added(narrow: Network, texts: Batch) -> list[Equilibrium]:
            """The equilibria of a bucket whose gradients are added; nothing of the size of s¹ outlives the call."""
            estimate = self.estimator(backend, narrow, texts)
            products, phases = estimate.found, [released(phase, network.shape) for phase in estimate.equilibria]
            del estimate  # before anything is multiplied out
            for name, gradient in products.items():
                whole, share = gradients[name], len(texts) / len(batch)
                if name == "w2":
                    whole = by_token(network.shape, whole)[:, :, : narrow.shape.tokens]
                pieces = ((slice(None), gradient),) if isinstance(gradient, Tensor) else gradient.pieces()
                for some, piece in pieces:
                    whole[some].add_(piece.view_as(whole[some]), alpha=share)
            return phases

        order, found = [], []
        for rows, narrow, texts in buckets(backend, network, batch):
            order.append(rows)
            found.append(added(narrow, texts))
        inverse = torch.cat(order).argsort()
        return Estimate({**gradients}, [joined(list(phases), inverse) for phases in zip(*found, strict=True)])


def make_estimator(learning: Learning) -> GradientEstimator:
    """The gradient estimator that ``learning`` names, by length."""
    if learning.unrolled:
        return ByLength(BPTT(learning.unrolled))
    return ByLength(ThreePhase(learning.beta) if learning.estimator == "three-phase" else TwoPhase(learning.beta))
