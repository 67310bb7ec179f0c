"""The convergent network: its shape, its parameters and its scalar potential φ.

Bal & Sengupta (IJCAI 2023), Eq. 12, with biases, a list of projections in place of one (Eq. 19):

    φ(x, s, θ) = Σ_p s¹_p • (x_p w₁_p) + s²ᵀ w₂ F(s¹) + Σ_{i≥2} s^{i+1}ᵀ w_{i+1} sⁱ + Σ_{i≥2} bᵢᵀ sⁱ

*Token queries* are the paper's: the N tokens of a text ask by x w₁. *Pooling queries* are a few learnt ones in their
place, q (the form is HopfieldPooling of Ramsauer et al. 2021): s¹ • q. HopAttn has a temperature τ there.

A *token layer* s^c compares each of the n tokens of a text with what it has retrieved from the other one, r, by their
product component by component; w₂ reads its sum over the tokens (what the decomposable attention model of Parikh et al.
2016 does, as a φ). All tokens share its weights, and so do all projections; see ``token_layer``:

    φ ∋ τ Σ_p Σ_j [ r_j • (w₁ x_j) + s^c_jᵀ (w_x x_j + w_a (x_j∘r_j) + b_x) ] + s²ᵀ w₂ (Σ_j s^c_j/√n)_p

Shapes, used everywhere: B texts, P projections, R rows of s¹ in each (N tokens, or Q pooling queries), N stored
patterns of a text, D embedding dimensions, H_c units of a token layer for each token, Hᵢ units in layer i, C classes.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from eqspike_seq.errors import ConfigError
from eqspike_seq.model.attention import chosen

LARGEST_WEIGHT = 1e9  # beyond it float32 does not hold the scores of HopAttn
SPARSE = 0.5  # where the biases of a token layer start
MOST_WEIGHTS = 2_000_000_000  # of a network; the paper's has 180 million
FeedbackRule = Literal["plain", "vector-field", "exact"]  # see ``synapses.local_products``


@dataclass(frozen=True)
class Shape:
    """What a network is before it has weights.

    ``projections`` names for each projection layer (query input, key input); IMDB has the one (0, 0). Without any the
    input itself is s¹, held fast in all phases (*clamped*: pixels), and there is no w₁.
    ``attention`` False replaces HopAttn by σ; ``masked`` False lets padding take part in the softmax. ``rows`` R is N,
    or with ``pooling`` the number Q of queries; ``temperature`` τ. ``learnt``: the patterns X are learnt too.
    ``uniform``: the shares of patterns are as their counts, whatever the queries. ``softmax``: the output is read by a
    softmax, and is no state. ``compared`` H_c, the units of a token layer; 0 without one. ``feedback``: what is sent
    down from s², …, sⁿ goes through synapses of its own, v₂ … vₙ (v₃ … where s¹ is clamped), and patterns are stored
    twice, as keys and as values; both copies learn by this rule. None: down through w₂ … wₙ, patterns once.
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
    compared: int = 0
    feedback: FeedbackRule | None = None

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
    def read(self) -> tuple[int, int, int]:
        """What w₂ reads: (P, R, D), P = 1 where s¹ is clamped; of a token layer its sums, (P, 1, H_c)."""
        projections = max(1, len(self.projections))
        return (projections, 1, self.compared) if self.compared else (projections, self.rows, self.dim)

    @property
    def flat(self) -> int:
        """How many numbers w₂ reads."""
        return math.prod(self.read)

    @property
    def sizes(self) -> tuple[int, ...]:
        """(P·R·D, H₂, …, C): the layers from what w₂ reads to the output."""
        return (self.flat, *self.hidden, self.classes)

    @property
    def layers(self) -> list[str]:
        """The names of its layers of units: s1, of a token layer sc, s2, s3, …"""
        return ["s1", *(["sc"] if self.compared else []), *(f"s{index}" for index in range(2, len(self.sizes) + 1))]

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, in the order of ``Network.named``."""
        found: dict[str, tuple[int, ...]] = {}
        if self.compared:
            units = self.compared
            found = {"w1": (1, self.dim, self.dim)}
            found |= {name: (units,) if name == "bx" else (units, self.dim) for name in self.of_tokens}
        elif not self.clamped:
            found[self.asks] = (len(self.projections), self.rows if self.pooling else self.dim, self.dim)
        for index, (post, pre) in enumerate(zip(self.sizes[1:], self.sizes[:-1], strict=True), start=2):
            found |= {f"w{index}": (post, pre), f"b{index}": (post,)}
        return found | {f"v{name[1:]}": found[name] for name in self.sent_back}

    @property
    def one_sided(self) -> bool:
        """Whether both copies of a weight, or pattern, learn one of the two terms of EP's update each."""
        return self.feedback not in (None, "plain")

    @property
    def of_tokens(self) -> list[str]:
        """The parameters of a token layer besides w1; where feedback has copies, va is that of wa."""
        return ["wx", "bx", "wa", *(["va"] if self.feedback else [])]

    @property
    def sent_back(self) -> list[str]:
        """The weights above s¹ that have copies for what is sent down: w2 (unless s¹ is clamped), w3, …, or none."""
        return [f"w{index}" for index in range(2 + self.clamped, len(self.sizes) + 1)] if self.feedback else []


@dataclass(frozen=True)
class State:
    """Activations: ``projection`` s¹ (B, P, R, D), P = 1 where clamped; ``layers`` s² … sⁿ, each (B, Hᵢ).

    With a token layer ``projection`` is s^c, (B, 1, R, H_c), of all tokens of an example in one row (``packing``), and
    s¹ a function of it. At the end of a phase from which patterns learn, ``recall`` is what these need: their shares p
    (B, P, R, N), and the queries q̂/τ (B, P, R, D); of a token layer r and s¹ (B, 1, R, D) besides.
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
        return State(chosen(self.projection, rows), tuple(chosen(layer, rows) for layer in self.layers))

    def __add__(self, other: "State") -> "State":
        layers, recall = (
            tuple(a + b for a, b in zip(mine, others, strict=True))
            for mine, others in ((self.layers, other.layers), (self.recall, other.recall))
        )
        return State(self.projection + other.projection, layers, recall)

    def __sub__(self, other: "State") -> "State":
        return self + -1 * other

    def __rmul__(self, factor: float) -> "State":
        layers, recall = (tuple(factor * part for part in parts) for parts in (self.layers, self.recall))
        return State(factor * self.projection, layers, recall)


@dataclass
class Network:
    """Parameters: ``asking`` w₁ (P, D, D), or q/τ (P, Q, D) of pooling queries; ``weights`` w₂ … wₙ, each (Hᵢ, Hᵢ₋₁);
    ``biases`` b₂ … bₙ, each (Hᵢ,). Of a token layer, w₁/τ (1, D, D), and ``tokens``: w_x (H_c, D), b_x (H_c,),
    w_a (H_c, D). Where the shape has ``feedback``, also v_a (H_c, D), and ``copies`` v₂ … vₙ, shaped as w₂ … wₙ; v₃ …
    where s¹ is clamped.

    ``large`` is w₂ in the type of the large products, where it has been made already.
    """

    shape: Shape
    asking: Tensor
    weights: list[Tensor]
    biases: list[Tensor]
    large: Tensor | None = None
    tokens: tuple[Tensor, ...] = ()
    copies: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, shape: Shape, named: Mapping[str, Tensor]) -> "Network":
        """From the tensor of every parameter by its name, as ``named`` gives them."""
        layers = range(2, len(shape.sizes) + 1)
        weights, biases = ([named[f"{kind}{index}"] for index in layers] for kind in "wb")
        asking = weights[0].new_zeros(0, shape.dim, shape.dim) if shape.clamped else named[shape.asks]
        tokens = tuple(named[name] for name in shape.of_tokens) if shape.compared else ()
        copies = tuple(named[f"v{name[1:]}"] for name in shape.sent_back)
        return cls(shape, asking, weights, biases, tokens=tokens, copies=copies)

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
        of σ and less makes a sparser code, as ``SPARSE`` of a token layer does; those of the output at 2/C, a rate of
        1/C; copies for feedback as the weights are. Raises ConfigError for more weights than ``MOST_WEIGHTS``."""
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
        tokens: tuple[Tensor, ...] = ()
        if shape.compared:
            asking = asking / (10 * shape.temperature)
            w_x, w_a = (uniform(shape.compared, shape.dim) for _ in range(2))
            tokens = (w_x, torch.full((shape.compared,), SPARSE), w_a, *([w_a.clone()] if shape.feedback else []))
        return cls(
            shape,
            asking / math.sqrt(shape.dim) + (0 if shape.pooling else recall * torch.eye(shape.dim)),
            weights,
            [torch.full((size,), value) for size, value in zip(shape.sizes[1:], starts, strict=True)],
            tokens=tokens,
            copies=tuple(weight.clone() for weight in weights[shape.clamped :]) if shape.feedback else (),
        )

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of every parameter: w1 or q (unless clamped), a token layer's wx, bx, wa, va, w2, b2, w3, b3,
        …, and v2 or v3, … if there are any."""
        if not self.shape.clamped:
            yield self.shape.asks, self.asking
        if self.tokens:
            yield from zip(self.shape.of_tokens, self.tokens, strict=True)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True), start=2):
            yield f"w{index}", weight
            yield f"b{index}", bias
        yield from zip((f"v{name[1:]}" for name in self.shape.sent_back), self.copies, strict=True)

    @property
    def downward(self) -> list[Tensor]:
        """What sⁱ is sent down by, shaped as ``weights``: these, or their copies."""
        return [*self.weights[: len(self.weights) - len(self.copies)], *self.copies]

    def transposed(self) -> "Network":
        """The network in which changes travel every synapse against its direction: copies send up, weights down."""
        if not self.copies:
            return self
        return replace(self, weights=self.downward, copies=tuple(self.weights[-len(self.copies) :]), large=None)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.asking.dtype

    def to(self, target: torch.device | torch.dtype) -> "Network":
        """The same network on another device or in another floating-point type."""
        weights, biases = ([tensor.to(target) for tensor in part] for part in (self.weights, self.biases))
        tokens, copies = (tuple(tensor.to(target) for tensor in part) for part in (self.tokens, self.copies))
        return Network(self.shape, self.asking.to(target), weights, biases, tokens=tokens, copies=copies)

    def w2(self, dtype: torch.dtype) -> Tensor:
        """w₂ in another type."""
        return self.large if self.large is not None and self.large.dtype == dtype else self.weights[0].to(dtype)

    def v2(self, dtype: torch.dtype) -> Tensor:
        """What s² is sent down by, in another type: w₂, or its copy."""
        return self.w2(dtype) if len(self.copies) < len(self.weights) else self.copies[0].to(dtype)

    def first(self, tokens: int) -> "Network":
        """This network for texts of so many tokens: w₂ without what reads later ones; no copy where P is 1."""
        shape = self.shape
        if shape.compared:
            return replace(self, shape=replace(shape, rows=tokens))
        large = None if self.large is None else by_token(shape, self.large)[:, :, :tokens].flatten(1)
        w2 = by_token(shape, self.weights[0])[:, :, :tokens].flatten(1)
        return replace(self, shape=replace(shape, rows=tokens), weights=[w2, *self.weights[1:]], large=large)

    def rest(self, batch: int) -> State:
        """The state that free phases start from: s¹ = 0, hidden and output units in the middle of σ."""
        shape, like = self.shape, self.asking
        return State(
            like.new_zeros(batch, max(1, len(shape.projections)), shape.rows, shape.dim),
            tuple(like.new_full((batch, size), 0.5) for size in shape.sizes[1:]),
        )


def gathered(x: Tensor, inputs: list[int]) -> Tensor:
    """``x`` (B, inputs, …) of those named, (B, P, …): itself where they are all there are, as they are."""
    return x if inputs == list(range(x.shape[1])) else x[:, inputs]


def by_token(shape: Shape, w2: Tensor) -> Tensor:
    """w₂, or a gradient of it, by what it reads, (H₂, P, R, D): a view."""
    return w2.unflatten(1, shape.read)


def above_s1(shape: Shape, state: State) -> tuple[Tensor, ...]:
    """The units above s¹: s^c, where there is a token layer, s², …, sⁿ."""
    return (state.projection, *state.layers) if shape.compared else state.layers


def sigma(u: Tensor) -> Tensor:
    """σ(u) = clip(u/2, 0, 1): the f–I curve of an integrate-and-fire neuron (one spike a step at u = 2)."""
    return (u / 2).clamp(0, 1)


def phi(network: Network, drive: Tensor, state: State) -> Tensor:
    """φ(x, s, θ) for each text, (B,); ``drive`` is x w₁, or q/τ, (B, P, R, D)."""
    below, shape = state.projection.flatten(1), network.shape
    value = below.new_zeros(len(below))
    if not shape.clamped:
        value = shape.temperature * (state.projection * drive).flatten(1).sum(1)
    return value + phi_above(network, below, state)


def phi_above(network: Network, below: Tensor, state: State) -> Tensor:
    """The terms of φ with s², s³, …; w₂ reads ``below`` (B, P·R·D), or (B, P·H_c)."""
    shape, value = network.shape, below.new_zeros(len(below))
    every = list(zip(network.weights, network.biases, state.layers, strict=True))
    for weight, bias, layer in every[: len(every) - shape.softmax]:
        value = value + (layer * (below @ weight.T + bias)).sum(1)
        below = layer
    return value
