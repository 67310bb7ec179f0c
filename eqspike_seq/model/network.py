"""The convergent network: its shape, its parameters and its scalar potential φ.

Bal & Sengupta (IJCAI 2023), Eq. 12, with biases, a list of projections in place of one (Eq. 19):

    φ(x, s, θ) = Σ_p s¹_p • (x_p w₁_p) + s²ᵀ w₂ F(s¹) + Σ_{i≥2} s^{i+1}ᵀ w_{i+1} sⁱ + Σ_{i≥2} bᵢᵀ sⁱ

*Token queries* are the paper's: the N tokens of a text ask by x w₁. *Pooling queries* are a few learnt ones in their
place, q (the form is HopfieldPooling of Ramsauer et al. 2021): s¹ • q. HopAttn has a temperature τ there.

Shapes, used everywhere: B texts, P projections, R rows of s¹ in each (N tokens, or Q pooling queries), N stored
patterns of a text, D embedding dimensions, Hᵢ units in layer i, C classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eqspike_seq.errors import ConfigError

LARGEST_WEIGHT = 1e9  # beyond it float32 does not hold the scores of HopAttn
ROWS = 64  # of a large gradient that are made or added at once
MOST_WEIGHTS = 2_000_000_000  # of a network; the paper's has 180 million


@dataclass(frozen=True)
class Shape:
    """What a network is before it has weights.

    ``projections`` names for each projection layer (query input, key input); IMDB has the one (0, 0). Without any the
    input itself is s¹, held fast in all phases (*clamped*: pixels), and there is no w₁.
    ``attention`` False replaces HopAttn by σ; ``masked`` False lets padding take part in the softmax. ``rows`` R is N,
    or with ``pooling`` the number Q of queries; ``temperature`` τ. ``learnt``: the patterns X are learnt too.
    ``uniform``: the shares of patterns are as their counts, whatever the queries. ``softmax``: the output is read by a
    softmax, and is no state.
    """

    rows: int
    dim: int
    hidden: tuple[int, ...]
    classes: int
    projections: tuple[tuple[int, int], ...] = ((0, 0),)
    attention: bool = True
    masked: bool = True
    pooling: bool = False
    temperature: float = 1.0
    learnt: bool = False
    uniform: bool = False
    softmax: bool = False

    @property
    def clamped(self) -> bool:
        """Whether s¹ is the input itself."""
        return not self.projections

    @property
    def asks(self) -> str:
        """The name of what queries are made by: w1 of tokens, or the pooling queries q themselves."""
        return "q" if self.pooling else "w1"

    @property
    def queries(self) -> list[int]:
        """The input that asks in each projection layer."""
        return [query for query, _ in self.projections]

    @property
    def keys(self) -> list[int]:
        """The input that each projection layer looks at."""
        return [key for _, key in self.projections]

    @property
    def flat(self) -> int:
        """Units of s¹, those of all projection layers together, P·R·D (clamped: N·D): what w₂ reads."""
        return max(1, len(self.projections)) * self.rows * self.dim

    @property
    def sizes(self) -> tuple[int, ...]:
        """(P·R·D, H₂, …, C): the layers from s¹ to the output."""
        return (self.flat, *self.hidden, self.classes)

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, in the order of ``Network.named``."""
        found: dict[str, tuple[int, ...]] = {}
        if not self.clamped:
            found[self.asks] = (len(self.projections), self.rows if self.pooling else self.dim, self.dim)
        for index, (post, pre) in enumerate(zip(self.sizes[1:], self.sizes[:-1], strict=True), start=2):
            found |= {f"w{index}": (post, pre), f"b{index}": (post,)}
        return found


@dataclass(frozen=True)
class State:
    """Activations: ``projection`` s¹ (B, P, R, D), P = 1 where clamped; ``layers`` s² … sⁿ, each (B, Hᵢ).

    At the end of a phase from which patterns learn, ``recall`` is what these need: their shares p (B, P, R, N), and the
    queries q̂/τ (B, P, R, D).
    """

    projection: Tensor
    layers: tuple[Tensor, ...]
    recall: tuple[Tensor, ...] = ()

    @property
    def output(self) -> Tensor:
        """sⁿ, (B, C)."""
        return self.layers[-1]

    def take(self, rows: Tensor | slice) -> "State":
        """The texts named, in the order named."""
        return State(self.projection[rows], tuple(layer[rows] for layer in self.layers))

    def __add__(self, other: "State") -> "State":
        layers, recall = (
            tuple(a + b for a, b in zip(mine, others, strict=True))
            for mine, others in ((self.layers, other.layers), (self.recall, other.recall))
        )
        return State(self.projection + other.projection, layers, recall)

    def scaled(self, factor: float) -> "State":
        """Every activation times ``factor``."""
        layers, recall = (tuple(factor * part for part in parts) for parts in (self.layers, self.recall))
        return State(factor * self.projection, layers, recall)


@dataclass
class Network:
    """Parameters: ``asking`` w₁ (P, D, D), or q/τ (P, Q, D) of pooling queries; ``weights`` w₂ … wₙ, each (Hᵢ, Hᵢ₋₁);
    ``biases`` b₂ … bₙ, each (Hᵢ,).

    ``large`` is w₂ in the type of the large products, where it has been made already.
    """

    shape: Shape
    asking: Tensor
    weights: list[Tensor]
    biases: list[Tensor]
    large: Tensor | None = None

    @classmethod
    def create(
        cls,
        shape: Shape,
        generator: torch.Generator,
        bias: tuple[float, ...] = (1.0,),
        gain: float = 1.0,
        recall: float = 0.0,
    ) -> "Network":
        """Weights uniform in ±1/√fan-in, those of w₂ ``gain`` times as wide, w₁ plus ``recall`` times the identity,
        pooling queries in ±1/√D; biases of hidden layers at ``bias`` (one for all, or one each), where 1 is the middle
        of σ and less makes a sparser code; those of the output at 2/C, a rate of 1/C. Raises ConfigError for more
        weights than ``MOST_WEIGHTS``."""
        count = sum(map(math.prod, shape.parameters.values()))
        if count > MOST_WEIGHTS:
            raise ConfigError(
                f"--{'queries' if shape.pooling else 'tokens'} {shape.rows}, --dim {shape.dim} and --hidden "
                f"{' '.join(map(str, shape.hidden))} make a network of {count:,} weights, expected at "
                f"most {MOST_WEIGHTS:,}. Lower one of them."
            )

        def uniform(*size: int) -> Tensor:
            return (2 * torch.rand(*size, generator=generator) - 1) / math.sqrt(size[-1])

        asking = 2 * torch.rand(shape.parameters.get(shape.asks, (0, shape.dim, shape.dim)), generator=generator) - 1
        weights = [uniform(post, pre) for post, pre in zip(shape.sizes[1:], shape.sizes[:-1], strict=True)]
        weights[0] *= gain
        starts = (*(bias * len(shape.hidden) if len(bias) == 1 else bias), 2 / shape.classes)
        return cls(
            shape,
            asking / math.sqrt(shape.dim) + (0 if shape.pooling else recall * torch.eye(shape.dim)),
            weights,
            [torch.full((size,), value) for size, value in zip(shape.sizes[1:], starts, strict=True)],
        )

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of every parameter: w1 or q (unless clamped), w2, b2, w3, b3, …"""
        if not self.shape.clamped:
            yield self.shape.asks, self.asking
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), start=2):
            yield f"w{index}", weight
            yield f"b{index}", bias

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.asking.dtype

    def to(self, target: torch.device | torch.dtype) -> "Network":
        """The same network on another device or in another floating-point type."""
        weights, biases = ([tensor.to(target) for tensor in part] for part in (self.weights, self.biases))
        return Network(self.shape, self.asking.to(target), weights, biases)

    def w2(self, dtype: torch.dtype) -> Tensor:
        """w₂ in another type."""
        return self.large if self.large is not None and self.large.dtype == dtype else self.weights[0].to(dtype)

    def first(self, tokens: int) -> "Network":
        """This network for texts of so many tokens: w₂ without what reads later ones; no copy where P is 1."""
        shape = self.shape
        large = None if self.large is None else by_token(shape, self.large)[:, :, :tokens].flatten(1)
        w2 = by_token(shape, self.weights[0])[:, :, :tokens].flatten(1)
        return replace(self, shape=replace(shape, rows=tokens), weights=[w2, *self.weights[1:]], large=large)

    def rest(self, batch: int) -> State:
        """The state every free phase starts from: s¹ = 0, hidden and output units in the middle of σ."""
        shape, like = self.shape, self.asking
        return State(
            like.new_zeros(batch, max(1, len(shape.projections)), shape.rows, shape.dim),
            tuple(like.new_full((batch, size), 0.5) for size in shape.sizes[1:]),
        )


def gathered(x: Tensor, inputs: list[int]) -> Tensor:
    """``x`` (B, inputs, …) of those named, (B, P, …): itself where they are all there are, as they are."""
    return x if inputs == list(range(x.shape[1])) else x[:, inputs]


def by_token(shape: Shape, w2: Tensor) -> Tensor:
    """w₂, or a gradient of it, as (H₂, P, R, D): a view."""
    return w2.unflatten(1, (max(1, len(shape.projections)), shape.rows, shape.dim))


@dataclass(frozen=True)
class Product:
    """What synapses hold, or a gradient, not multiplied out yet: Σ postᵀ pre over pairs of (M, Hᵢ) and (M, Hᵢ₋₁)."""

    terms: tuple[tuple[Tensor, Tensor], ...]

    def scaled(self, factor: float) -> "Product":
        """Times ``factor``."""
        return Product(tuple((factor * post, pre) for post, pre in self.terms))

    def __add__(self, other: "Product") -> "Product":
        return Product(self.terms + other.terms)

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

    def scaled(self, factor: float) -> "RowProduct":
        """Times ``factor``."""
        return RowProduct(self.ids, factor * self.values)

    def whole(self, patterns: int | None = None) -> Tensor:
        """Added up by row, sparse, (``patterns``, D); None: as many as the last one that occurs asks for."""
        rows = (int(self.ids.max()) + 1 if len(self.ids) else 1) if patterns is None else patterns
        size = (rows, self.values.shape[1])
        return torch.sparse_coo_tensor(self.ids.unsqueeze(0), self.values, size, check_invariants=False).coalesce()


def sigma(u: Tensor) -> Tensor:
    """σ(u) = clip(u/2, 0, 1): the f–I curve of an integrate-and-fire neuron (one spike a step at u = 2)."""
    return (u / 2).clamp(0, 1)


def phi(network: Network, drive: Tensor, state: State) -> Tensor:
    """φ(x, s, θ) for each text, (B,); ``drive`` is x w₁, or q/τ, (B, P, R, D)."""
    below, shape = state.projection.flatten(1), network.shape
    value = below.new_zeros(len(below))
    if not shape.clamped:
        value = shape.temperature * (state.projection * drive).flatten(1).sum(1)
    every = list(zip(network.weights, network.biases, state.layers, strict=True))
    for weight, bias, layer in every[: len(every) - shape.softmax]:
        value = value + (layer * (below @ weight.T + bias)).sum(1)
        below = layer
    return value
