"""The kinds of networks: what a run's network is made from."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field

from eqspike_seq.config.section import Needs, PerLayer, Section
from eqspike_seq.model.network import Network, Shape

SIDES = "ab"  # the first and the second text of a pair
Direction = Literal["aa", "ab", "ba", "bb"]  # the text that asks, the text that is searched
DENSE = Needs("--backend dense", lambda settings: settings.get("backend") == "dense")


def _each_once(projections: tuple[Direction, ...]) -> tuple[Direction, ...]:
    if not projections or len(set(projections)) < len(projections):
        raise ValueError(f"--projections: got {' '.join(projections) or 'none'}, expected one or more, each once")
    return projections


Directions = Annotated[tuple[Direction, ...], AfterValidator(_each_once)]
NONE, ITSELF = tuple[Direction, ...](), tuple[Direction, ...](("aa",))


@dataclass(frozen=True)
class Layers(Section):
    """Fully connected layers above s¹, which is the input itself."""

    hidden: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = (256, 40)
    """Units of the hidden layers, from bottom to top."""
    bias: Annotated[tuple[float, ...], PerLayer()] = (1.0,)
    """Initial bias of the hidden layers: one value for all, or one for each. 1 is the middle of σ; smaller values give
    sparser activity."""
    gain: Annotated[float, Field(gt=0)] = 1.0
    """w2 starts uniform in ±gain/√fan-in. Use more than 1 if most of the input is near zero, as pixels are."""

    first: ClassVar[str] = ""  # what learns below w₂, in a message
    projections = NONE  # no field, unless of pairs

    @property
    def layout(self) -> tuple[tuple[int, int], ...]:
        """(query, key) of each projection layer by the place of a text in its example."""
        return tuple((SIDES.index(name[0]), SIDES.index(name[1])) for name in self.projections)

    @property
    def weight_matrices(self) -> int:
        """How many have a learning rate: w₁, or q (none where the input is s¹ itself), w₂, …"""
        return len(self.hidden) + 1 + bool(self.first)

    def shape(self, rows: int, dim: int, classes: int) -> Shape:
        """The network's shape for ``rows`` pixels, or tokens, of ``dim`` components."""
        return Shape(rows, dim, self.hidden, classes, self.layout, attention=False)

    def create(self, shape: Shape, seed: int) -> Network:
        """The network that training starts from."""
        recall = getattr(self, "recall", 0.0)  # where tokens ask
        return Network.create(shape, torch.Generator().manual_seed(seed), self.bias, self.gain, recall)


@dataclass(frozen=True)
class TextNetwork(Layers):
    """A HopAttn layer to which every token sends a query, below fully connected layers (Bal & Sengupta 2023)."""

    name: ClassVar[str] = "tokens"
    first: ClassVar[str] = "w1 and "
    projections = ITSELF
    attention: bool = True
    """Use HopAttn in the projection layer. Without it the layer applies σ (the baseline of the paper)."""
    recall: Annotated[float, Field(ge=0)] = 0.0
    """w1 starts as this times the identity, plus random values, so that each word first retrieves similar words."""
    masked: bool = True
    """Exclude padding from attention. Otherwise zero rows are patterns like any other, as in the paper's code."""

    def shape(self, rows: int, dim: int, classes: int) -> Shape:
        """The network's shape for texts of ``rows`` words of ``dim`` components."""
        return Shape(rows, dim, self.hidden, classes, self.layout, self.attention, self.masked)


@dataclass(frozen=True)
class PairNetwork(TextNetwork):
    """HopAttn layers in which the texts of a pair send queries to each other, below fully connected layers."""

    projections: Directions = ("aa", "ab", "ba", "bb")
    """Projection layers. The first letter is the text that sends queries, the second the text that is searched; a is
    the first text of a pair."""


@dataclass(frozen=True)
class TokenLayerNetwork(Layers):
    """A HopAttn layer to which every token sends a query, and a small layer that compares each token with what it has
    retrieved, below fully connected layers. The texts of a pair search each other; a single text searches itself."""

    name: ClassVar[str] = "token-layer"
    first: ClassVar[str] = "w1 and "
    projections = ITSELF
    compared: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Hc, the number of units that compare a token with what it has retrieved."""
    recall: Annotated[float, Field(ge=0)] = 1.0
    """w1 starts as this times the identity, plus random values, so that each word first retrieves similar words."""
    temperature: Annotated[float, Field(ge=1, le=1e6)] = 4.0
    """Temperature τ of HopAttn. It scales down the feedback from the token layer to the queries, and nothing else."""
    fixed_embeddings: bool = False
    """Keep the initial vectors of words instead of learning them."""
    uniform_attention: Annotated[bool, DENSE] = False
    """Let each token retrieve the mean of the text that it searches, whatever its query is (a control)."""

    def shape(self, rows: int, dim: int, classes: int) -> Shape:
        """The network's shape for texts of ``rows`` words of ``dim`` components."""
        return Shape(
            rows,
            dim,
            self.hidden,
            classes,
            projections=self.layout,
            temperature=self.temperature,
            learnt=not self.fixed_embeddings,
            uniform=self.uniform_attention,
            compared=self.compared,
        )


@dataclass(frozen=True)
class PairTokenLayerNetwork(TokenLayerNetwork):
    """A HopAttn layer and a token layer that compare the texts of a pair, below fully connected layers."""

    projections: Directions = ("ab", "ba")
    """Which text searches which. The first letter is the text that sends queries, the second the text that is searched;
    a is the first text of a pair."""


@dataclass(frozen=True)
class PoolingNetwork(Layers):
    """A HopAttn layer with a few learnt queries, below fully connected layers."""

    name: ClassVar[str] = "pooling"
    first: ClassVar[str] = "q and "
    queries: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Q, the number of queries that look at a text."""
    temperature: Annotated[float, Field(ge=1, le=1e6)] = 8.0
    """Temperature τ of HopAttn. It scales down the feedback from s2 to the queries, and nothing else."""
    fixed_embeddings: bool = False
    """Keep the initial vectors of words and n-grams instead of learning them."""
    readout: Annotated[Literal["rates", "softmax"], DENSE] = "rates"
    """rates: the output is a layer of rates, trained by squared error. softmax: a softmax readout, trained by
    cross-entropy."""
    uniform_attention: Annotated[bool, DENSE] = False
    """Weight patterns by their counts alone, whatever the queries are (a control)."""

    def shape(self, rows: int, dim: int, classes: int) -> Shape:
        """The network's shape for texts of patterns of ``dim`` components."""
        return Shape(
            self.queries,
            dim,
            self.hidden,
            classes,
            pooling=True,
            temperature=self.temperature,
            learnt=not self.fixed_embeddings,
            uniform=self.uniform_attention,
            softmax=self.readout == "softmax",
        )
