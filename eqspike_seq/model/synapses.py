"""What synapses hold at the end of a phase, ∂φ/∂θ, and what they learn from its contrast of two phases.

The contrast of r_post r_pre is exact as a⁺b⁺ − a⁻b⁻ = (a⁺ − a⁻) b̄ + ā (b⁺ − b⁻), which keeps its precision (Eq. 18).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, State
from eqspike_seq.model.products import Product, RowProduct, contrasts, read_below, static_products

Gradients = dict[str, Tensor]
Products = dict[str, Tensor | Product | RowProduct]  # by parameter name


@dataclass(frozen=True)
class Rates:
    """Synapses that learn from rates: each holds r_post r_pre of ``state``."""

    state: State

    def contrast(self, before: "Rates") -> tuple[State, State]:
        """(difference, mean) of two phases."""
        return self.state + before.state.scaled(-1), (self.state + before.state).scaled(0.5)


@dataclass(frozen=True)
class ChangedRates(Rates):
    """The same at the end of a nudge that knows its ``change`` since it began better than the two states tell."""

    change: State

    def contrast(self, before: Rates) -> tuple[State, State]:
        """(difference, mean) of two nudges, or of a nudge and what it began with."""
        if isinstance(before, ChangedRates):
            return self.change + before.change.scaled(-1), (self.state + before.state).scaled(0.5)
        return self.change, self.state + self.change.scaled(-0.5)


@dataclass(frozen=True)
class ByRule:
    """Synapses that hold something else in place of r_post r_pre, summed over the batch; made when asked for."""

    products: Callable[[], Products]


Synapses = Rates | ByRule


def learnt(network: Network, batch: Batch, after: Synapses, before: Synapses, scale: float) -> Products:
    """−Δθ from what synapses hold at the ends of two phases: ``scale`` times the contrast, batch mean."""
    if isinstance(after, Rates) and isinstance(before, Rates):
        return local_products(network, batch, *after.contrast(before), scale)
    if not isinstance(after, ByRule) or not isinstance(before, ByRule):
        raise TypeError("the two phases are of different backends")
    factor, end, start = -scale / len(batch), after.products(), before.products()
    found: Products = {}
    for name, value in end.items():
        other = start[name]
        if isinstance(value, Product) and isinstance(other, Product):
            found[name] = value.scaled(factor) + other.scaled(-factor)
        elif isinstance(value, RowProduct) and isinstance(other, RowProduct):
            found[name] = RowProduct.joined([value.scaled(factor), other.scaled(-factor)])
        elif isinstance(value, Tensor) and isinstance(other, Tensor):
            found[name] = factor * (value - other)
    return found


def multiplied_out(found: Mapping[str, Tensor | Product | RowProduct], patterns: int | None = None) -> Gradients:
    """Gradients as tensors; that of X sparse, of a table of so many ``patterns`` (the last one with a gradient)."""

    def whole(value: Tensor | Product | RowProduct) -> Tensor:
        if isinstance(value, RowProduct):
            return value.whole(patterns)
        return value if isinstance(value, Tensor) else value.whole()

    return {name: whole(value) for name, value in found.items()}


def plain(gradients: Gradients) -> Gradients:
    """That of X as the rows that the texts have."""
    return {name: value.coalesce().values() if value.is_sparse else value for name, value in gradients.items()}


def local_update(network: Network, batch: Batch, difference: State, mean: State, scale: float) -> Gradients:
    """−Δθ from the contrast of two states.

    Δw_{i+1} = scale · (d_post s̄_preᵀ + s̄_post d_preᵀ), Δb = scale · d, Δw₁ = scale · xᵀ d¹ (Eq. 18); batch mean. What
    s¹ takes part in is multiplied, and returned, in its type.
    """
    return multiplied_out(local_products(network, batch, difference, mean, scale))


def local_products(network: Network, batch: Batch, difference: State, mean: State, scale: float) -> Products:
    """``local_update`` with the gradients of weights above s¹ not multiplied out.

    Where feedback has synapses v of its own (``Shape.feedback``), d the difference and s̄ the mean of two phases:

        plain          Δw = Δv = d_post s̄_preᵀ + s̄_post d_preᵀ     both copies get EP's update of one symmetric weight
        vector-field   Δw = d_post s̄_preᵀ, Δv = s̄_post d_preᵀ      each the change at its target (Scellier et al. 2018)
        exact          the same, of nudges in which changes travel every synapse against its direction. These follow the
                       adjoint of the free dynamics, so that it is the gradient at any asymmetry as β → 0 (after arXiv
                       2602.03670). It needs synapses that can be read both ways.
    """
    factor = -scale / len(batch)
    static = static_products(network, batch, difference.projection)
    gradients: Products = {name: factor * value for name, value in static.items()}
    for name, value in contrasts(network, batch, difference, mean).items():
        gradients[name] = factor * value if isinstance(value, Tensor) else value.scaled(factor)
    below_d, below_m = (read_below(network, batch, state.projection) for state in (difference, mean))
    for index, (d, m) in enumerate(zip(difference.layers, mean.layers, strict=True), start=2):
        if network.shape.softmax and index == len(network.weights) + 1:  # (sⁿ − y) s^{n−1}ᵀ, by the state itself
            error = (m - F.one_hot(batch.labels, network.shape.classes)).to(below_m.dtype) / len(batch)
            gradients[f"w{index}"], gradients[f"b{index}"] = Product(((error, below_m),)), error.sum(0)
            break
        # one product for both terms: [d; m]ᵀ [pre mean; pre difference]
        post, pre = (factor * torch.cat([d, m])).to(below_d.dtype), torch.cat([below_m, below_d])
        gradients[f"w{index}"] = Product(((post, pre),))
        if f"w{index}" in network.shape.sent_back:
            up, down = ((post[part], pre[part]) for part in (slice(len(d)), slice(len(d), None)))
            one_sided = network.shape.feedback != "plain"
            gradients[f"v{index}"] = Product((down,)) if one_sided else gradients[f"w{index}"]
            gradients[f"w{index}"] = Product((up,)) if one_sided else gradients[f"w{index}"]
        gradients[f"b{index}"] = factor * d.sum(0)
        below_d, below_m = d, m
    return gradients
