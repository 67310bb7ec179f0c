"""What synapses hold at the end of a phase, ∂φ/∂θ, and what they learn from its contrast of two phases.

The contrast of r_post r_pre is exact as a⁺b⁺ − a⁻b⁻ = (a⁺ − a⁻) b̄ + ā (b⁺ − b⁻), which keeps its precision (Eq. 18).
Gradients are kept as products that are not multiplied out yet, as long as they can be.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, State, gathered
from eqspike_seq.model.packing import Packed, summed

ROWS = 64  # of a large gradient that are made or added at once


@dataclass(frozen=True)
class Product:
    """What synapses hold, or a gradient, not multiplied out yet: Σ postᵀ pre over pairs of (M, Hᵢ) and (M, Hᵢ₋₁)."""

    terms: tuple[tuple[Tensor, Tensor], ...]

    def __rmul__(self, factor: float) -> "Product":
        return Product(tuple((factor * post, pre) for post, pre in self.terms))

    def __sub__(self, other: "Product") -> "Product":
        return Product(self.terms + (-1 * other).terms)

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """A few rows after the other. Each pair by itself: equal ones of opposite sign leave exactly 0."""
        for start in range(0, self.terms[0][0].shape[1], ROWS):
            rows = slice(start, start + ROWS)
            piece, *others = (post[:, rows].T @ pre for post, pre in self.terms)
            for other in others:
                piece = piece + other
            yield rows, piece

    def whole(self) -> Tensor:
        """Multiplied out, (Hᵢ, Hᵢ₋₁)."""
        return torch.cat([piece for _, piece in self.pieces()])


@dataclass(frozen=True)
class RowProduct:
    """A gradient of the patterns X: ``values`` (M, D) of the rows ``ids`` (M,) of their table, which may come again."""

    ids: Tensor
    values: Tensor

    @classmethod
    def of(cls, ids: Tensor, values: Tensor) -> "RowProduct":
        """Without row 0, which is padding."""
        real = ids > 0
        return cls(ids[real], values[real])

    @classmethod
    def joined(cls, parts: list["RowProduct"]) -> "RowProduct":
        """The rows of all ``parts``."""
        return cls(torch.cat([part.ids for part in parts]), torch.cat([part.values for part in parts]))

    def __rmul__(self, factor: float) -> "RowProduct":
        return RowProduct(self.ids, factor * self.values)

    def __sub__(self, other: "RowProduct") -> "RowProduct":
        return RowProduct.joined([self, -1 * other])

    def whole(self, patterns: int | None = None) -> Tensor:
        """Added up by row, sparse, (``patterns``, D); None: as many as the last one that occurs asks for."""
        rows = (int(self.ids.max()) + 1 if len(self.ids) else 1) if patterns is None else patterns
        size = (rows, self.values.shape[1])
        return torch.sparse_coo_tensor(self.ids.unsqueeze(0), self.values, size, check_invariants=False).coalesce()


Gradients = dict[str, Tensor]
Products = dict[str, Tensor | Product | RowProduct]  # by parameter name
Recall = tuple[Tensor, ...]  # p (B, P, R, N) and q̂/τ (B, P, R, D), or a change of both; () where X is not learnt


def static_products(network: Network, batch: Batch, s1: Tensor) -> dict[str, Tensor]:
    """What the synapses of static inputs hold, summed over the batch: x ⊗ s¹ for w₁ (P, D, D), or s¹ for q (P, Q, D),
    times τ; {} where s¹ is clamped, and for a token layer, see ``token_products``."""
    shape = network.shape
    if shape.clamped or shape.compared:
        return {}
    if shape.pooling:
        return {"q": shape.temperature * s1.view(-1, *network.asking.shape).sum(0)}
    queries = gathered(batch.x, shape.queries).to(s1.dtype)
    return {"w1": shape.temperature * torch.einsum("bpnd,bpne->pde", queries, s1.view(queries.shape))}


def read_below(network: Network, batch: Batch, projection: Tensor) -> Tensor:
    """What w₂ reads of s¹, (B, P·R·D), or of s^c, (B, P·H_c)."""
    shape = network.shape
    if not shape.compared:
        return projection.flatten(1)
    return summed(projection, Packed.of(shape, batch).sums).flatten(1)


def pattern_products(network: Network, batch: Batch, difference: Recall, mean: Recall) -> dict[str, RowProduct]:
    """The contrast of p ⊗ q̂ of every pattern, δp q̄ + p̄ δq, τ times that of q̂/τ; {} where X is not learnt.

    Where patterns are stored twice, that of the keys and after it that of the values: under the plain rule both get the
    sum, else the keys δp q̄, the change at their target times what they hear, and the values p̄ δq.
    """
    shape = network.shape
    if not shape.learnt or batch.ids is None:
        return {}
    ids = Packed.of(shape, batch).stored.ids if shape.compared else batch.ids[:, shape.keys]
    assert ids is not None
    if not difference:  # nothing has changed
        return {"X": RowProduct.of(batch.ids[:0].flatten(), batch.stored[:0].flatten(0, -2))}
    low = difference[0].dtype
    (moved, turned), (shares, queries) = ([part.to(low) for part in each[:2]] for each in (difference, mean))
    heard, sent = moved.mT @ queries, shares.mT @ turned  # (B, P, N, D)
    values = torch.cat([heard, sent], -1) if shape.one_sided else heard + sent
    if shape.feedback == "plain":
        values = torch.cat([values, values], -1)
    values = shape.temperature * values.flatten(0, 2).to(network.dtype)
    return {"X": RowProduct.of(ids.flatten(), values)}


def contrasts(network: Network, batch: Batch, difference: State, mean: State) -> Products:
    """What the patterns X learn from the contrast of two states, if they are learnt, and all of a token layer."""
    if network.shape.compared:
        return token_products(network, batch, difference, mean)
    return {**pattern_products(network, batch, difference.recall, mean.recall)}


def token_products(network: Network, batch: Batch, difference: State, mean: State) -> Products:
    """What a token layer learns from the contrast of two states.

    τ times, for w₁: τ x ⊗ δr; w_x: δs^c ⊗ x; b_x: δs^c; w_a: δs^c ⊗ s̄¹ + s̄^c ⊗ δs¹; X, where it is learnt, besides
    p ⊗ q̂ of the patterns, where it asks: τ w₁ δr + w_xᵀ δs^c + δ(r∘w_aᵀ s^c). Where s^c sends to the queries by
    synapses v_a of its own, they learn as v₂ does (``local_products``), and the key is what asks.
    """
    shape, asking = network.shape, Packed.of(network.shape, batch).asking
    low, tau = difference.projection.dtype, shape.temperature
    moved, level = (state.projection.flatten(0, 2) for state in (difference, mean))
    none = moved.new_zeros(len(moved), shape.dim)  # nothing has changed
    (moved_r, moved1), (level_r, level1) = (
        [part.to(low).flatten(0, 2) for part in state.recall[2:]] if state.recall else [none, none]
        for state in (difference, mean)
    )
    asked = asking.x.to(low).flatten(0, 1)
    found: Products = {
        "w1": (tau * (asked.T @ moved_r)).unsqueeze(0),
        "wx": Product(((moved, asked),)),
        "bx": moved.sum(0),
    }
    up, down = (moved, level1), (level, moved1)
    found["wa"] = Product((up,) if shape.one_sided else (up, down))
    if shape.feedback:
        found["va"] = Product((down,) if shape.one_sided else (up, down))
    if shape.learnt and asking.ids is not None:
        seen = pattern_products(network, batch, difference.recall, mean.recall)["X"]
        w_x, _, w_a, *_ = (part.to(low) for part in network.tokens)
        v_a = network.tokens[-1].to(low)
        asks = tau * (moved_r @ network.asking[0].T.to(low)) + moved @ w_x
        asks += moved_r * (level @ v_a) + level_r * (moved @ (w_a if shape.feedback == "exact" else v_a))
        if shape.feedback:
            asks = torch.cat([asks, torch.zeros_like(asks) if shape.one_sided else asks], -1)
        found["X"] = RowProduct.joined([seen, RowProduct.of(asking.ids.flatten(), asks.to(network.dtype))])
    return {name: tau * value for name, value in found.items()}


@dataclass(frozen=True)
class Rates:
    """Synapses that learn from rates: each holds r_post r_pre of ``state``. At the end of a nudge that knows its
    ``change`` since it began better than the two states tell, that is given too."""

    state: State
    change: State | None = None

    def contrast(self, before: "Rates") -> tuple[State, State]:
        """(difference, mean) of two phases, or of a nudge and what it began with."""
        if self.change is None:
            return self.state - before.state, 0.5 * (self.state + before.state)
        if before.change is None:
            return self.change, self.state - 0.5 * self.change
        return self.change - before.change, 0.5 * (self.state + before.state)


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
    return {name: factor * (value - start[name]) for name, value in end.items()}  # type: ignore[operator]


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
    held: Products = {**static, **contrasts(network, batch, difference, mean)}
    gradients: Products = {name: factor * value for name, value in held.items()}
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
            one_sided = network.shape.one_sided
            gradients[f"v{index}"] = Product((down,)) if one_sided else gradients[f"w{index}"]
            gradients[f"w{index}"] = Product((up,)) if one_sided else gradients[f"w{index}"]
        gradients[f"b{index}"] = factor * d.sum(0)
        below_d, below_m = d, m
    return gradients
