"""Gradient estimators: EP with one nudge or with two, and backpropagation through time as the reference.

    three-phase (Eq. 7, 18)   Δθ = 1/(2β) (∂φ/∂θ at s^{+β} − ∂φ/∂θ at s^{−β})       bias O(β²)
    two-phase   (Eq. 4)       Δθ = 1/β    (∂φ/∂θ at s^{β}  − ∂φ/∂θ at s*)           bias O(β)
    BPTT                      Δθ = −dL/dθ of the network unrolled from its fixed point

Δ is a *descent* direction, averaged over the batch: an optimiser is handed −Δ. Bal & Sengupta (2023); Laborieux et
al. (2021) for the two-sided nudge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.config.settings import Learning, RunConfig
from eqspike_seq.model.batch import Batch, Lookup
from eqspike_seq.model.network import Network, Shape, State, by_token
from eqspike_seq.model.synapses import Gradients, Products, RowProduct, learnt, multiplied_out
from eqspike_seq.model.token_layer import dense_layer
from eqspike_seq.relaxation.buckets import buckets, by_bucket, released
from eqspike_seq.relaxation.dense import Order, sweep
from eqspike_seq.relaxation.equilibrium import Backend, Equilibrium

MakeBackend = Callable[[RunConfig], Backend]  # the backend that settings name


def losses(shape: Shape, output: Tensor, labels: Tensor) -> Tensor:
    """½‖y − sⁿ‖² of each text, (B,); with the softmax readout −ln sⁿ of its class."""
    if shape.softmax:
        return -output.gather(1, labels.unsqueeze(1)).squeeze(1).clamp(min=1e-30).log()
    return 0.5 * (F.one_hot(labels, shape.classes).to(output.dtype) - output).square().sum(1)


@dataclass(frozen=True)
class Estimate:
    """−Δθ by parameter name, and the equilibria it came from: the free one first."""

    found: Products
    equilibria: Sequence[Equilibrium]

    @property
    def gradients(self) -> Gradients:
        """All of them multiplied out."""
        return multiplied_out(self.found)


GradientEstimator = Callable[[Backend, Network, Batch], Estimate]  # the gradients of the mean loss


@dataclass(frozen=True)
class ThreePhase:
    """Centred EP: free, +β, −β (Eq. 7, 18); nudges by ``nudging``, if that is another backend."""

    beta: float
    nudging: Backend | None = None

    def __call__(self, backend: Backend, network: Network, batch: Batch) -> Estimate:
        """The gradients and the three equilibria."""
        free = backend.free(network, batch)
        plus, minus = (self.nudging or backend).nudge(network, batch, free, (self.beta, -self.beta))
        found = learnt(network, batch, plus.synapses, minus.synapses, 1 / (2 * self.beta))
        return Estimate(found, [free, plus, minus])


@dataclass(frozen=True)
class TwoPhase:
    """One-sided EP: free, +β (Eq. 4)."""

    beta: float

    def __call__(self, backend: Backend, network: Network, batch: Batch) -> Estimate:
        """The gradients and the two equilibria."""
        free = backend.free(network, batch)
        (plus,) = backend.nudge(network, batch, free, (self.beta,))
        return Estimate(learnt(network, batch, plus.synapses, free.synapses, 1 / self.beta), [free, plus])


@dataclass(frozen=True)
class BPTT:
    """−dL/dθ by autograd through ``steps`` sweeps unrolled from the free fixed point."""

    steps: int
    order: Order = "synchronous"

    def start(self, network: Network, free: State) -> State:
        """Where the unrolled sweeps begin: the fixed point."""
        return State(free.projection.to(network.dtype), free.layers)

    def __call__(self, backend: Backend, network: Network, batch: Batch) -> Estimate:
        """The gradients and the free equilibrium."""
        free, learnt = backend.free(network, batch), network.shape.learnt and batch.ids is not None
        named = {name: tensor.detach().requires_grad_() for name, tensor in network.named()}
        traced = Network.of(network.shape, named)
        x = batch.stored.detach().requires_grad_(learnt)
        with torch.enable_grad():
            projection = dense_layer(traced, batch.holding(x), network.dtype)
            state = self.start(network, free.rates)
            for _ in range(self.steps):
                state = sweep(projection, state, order=self.order)
            loss = losses(network.shape, state.output, batch.labels).mean()
            tensors = {**named, **({"X": x} if learnt else {})}
            found = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True, materialize_grads=True)
        gradients: Products = dict(zip(tensors, found, strict=True))
        if batch.ids is not None and "X" in tensors:
            gradients["X"] = RowProduct.of(batch.ids.flatten(), found[-1].flatten(0, -2))
        return Estimate(gradients, [free])


@dataclass(frozen=True)
class ByLength:
    """An estimator for buckets as one for whole batches. The equilibria that it returns are ``released``."""

    estimator: GradientEstimator

    def __call__(self, backend: Backend, network: Network, batch: Batch | Lookup) -> Estimate:
        """The gradients of the mean loss of all texts."""
        network = replace(network, large=network.w2(backend.dtype))
        gradients = {name: torch.zeros_like(tensor) for name, tensor in network.named()}
        patterns: list[RowProduct] = []

        def added(narrow: Network, texts: Batch) -> list[Equilibrium]:
            """The equilibria of a bucket whose gradients are added; nothing of the size of s¹ outlives the call."""
            estimate = self.estimator(backend, narrow, texts)
            products, phases = estimate.found, [released(phase, network.shape) for phase in estimate.equilibria]
            del estimate  # before anything is multiplied out
            share = len(texts) / len(batch)
            for name, gradient in products.items():
                if isinstance(gradient, RowProduct):
                    patterns.append(share * gradient)
                    continue
                whole = gradients[name]
                if name == "w2" and not narrow.shape.compared:
                    whole = by_token(network.shape, whole)[:, :, : narrow.shape.rows]
                pieces = ((slice(None), gradient),) if isinstance(gradient, Tensor) else gradient.pieces()
                for some, piece in pieces:
                    whole[some].add_(piece.view_as(whole[some]), alpha=share)
            return phases

        equilibria, found = by_bucket(buckets(backend, network, batch), added), Products(gradients)
        if patterns:
            found["X"] = RowProduct.joined(patterns)
        return Estimate(found, equilibria)


def make_estimator(learning: Learning) -> ByLength:
    """The gradient estimator that ``learning`` names, by length."""
    if learning.unrolled:
        return ByLength(BPTT(learning.unrolled))
    return ByLength(ThreePhase(learning.beta) if learning.estimator == "three-phase" else TwoPhase(learning.beta))
