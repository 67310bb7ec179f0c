"""What the files of ``eqspike check`` and ``eqspike robustness`` hold."""

from itertools import chain
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from eqspike_seq.ledger import Ledger, Natural
from eqspike_seq.phases import Phase
from eqspike_seq.runs.schema import Amount, Number, Positive, Schema, Share

StageName = Literal["initial", "halfway", "end"]  # of training
PhaseName = Annotated[Phase, Field(strict=False)]
MOST_WEIGHTS = 7  # of a parameter in one picture: as many as there are colours


class Agreement(Schema):
    """How well a gradient agrees with its reference; None where that is zero."""

    parameter: str
    cosine: Number | None
    relative_rmse: Amount | None = None


class GradientRecord(Agreement):
    """A record of checks/gradients.json: one parameter at one stage of training."""

    reference: str
    window: Natural | None
    free_steps: Natural | None = None
    nudge_steps: Natural | None = None
    beta: Amount
    neuron: str | None
    circuit: str | None
    rule: str | None
    stage: str


class GradientCurves(Schema):
    """EP and BPTT over time for single weights of one parameter, (steps, weights)."""

    cosine: list[Number | None]
    relative_rmse: list[Amount | None] = []
    followed: list[Natural] = []
    """Places of these weights in the parameter, flattened."""
    ep: list[Annotated[list[Number], Field(min_length=1, max_length=MOST_WEIGHTS)]]
    bptt: list[list[Number]]

    @model_validator(mode="after")
    def _alike(self) -> Self:
        if len({len(row) for row in chain(self.ep, self.bptt)}) > 1:
            raise ValueError("ep and bptt are not of one width")
        return self.check_lengths("ep", "bptt", "cosine")


class StageTexts(Schema):
    """The texts that a stage was examined with: how many, the share classified correctly, how many still teach."""

    texts: Natural
    right: Share
    teaching: Natural
    note: str | None


class NudgeSizes(Schema):
    """EP against BPTT over β, both converged: for each parameter a value for each of ``betas``.

    ``crossing`` is the share of texts in which a unit crosses a corner of σ between the two nudges; those of the
    largest β are left out of the comparison, which has ``texts``.
    """

    betas: list[Amount]
    crossing: list[Share]
    texts: Natural
    cosine: dict[str, list[Number | None]]
    relative_rmse: dict[str, list[Amount | None]]

    @model_validator(mode="after")
    def _alike(self) -> Self:
        for name, values in chain(self.cosine.items(), self.relative_rmse.items()):
            if len(values) != len(self.betas):
                raise ValueError(f"{name}: expected {len(self.betas)} values, one for each of betas")
        return self.check_lengths("betas", "crossing")


class GradientCheck(Schema):
    """checks/gradients.json."""

    settings: dict[str, Any] = {}
    records: list[GradientRecord]
    curves: dict[StageName, Annotated[dict[str, GradientCurves], Field(min_length=1)]] = {}
    texts: Natural = 0
    curve_texts: Natural = 0
    stages: dict[StageName, StageTexts] = {}
    over_beta: dict[StageName, NudgeSizes] = {}


class Course(Schema):
    """φ and the residual over one phase, a value every ``steps_between`` steps."""

    steps_between: Positive = 1
    phi: list[Number]
    residual: list[Amount]

    @model_validator(mode="after")
    def _alike(self) -> Self:
        return self.check_lengths("phi", "residual")


Courses = Annotated[dict[PhaseName, Course], Field(min_length=3)]


class HopAttnTwice(Schema):
    """Distances between a query, its HopAttn and the HopAttn of that, relative to the norm of what is left."""

    second_less_first_mean: Amount
    second_less_first_max: Amount
    first_less_query_mean: Amount


class LoopCheck(Schema):
    """The loop through HopAttn, over so many ``texts``: its gain, and the share that ends ``apart`` from two starts."""

    texts: Natural
    gain_mean: Amount
    gain: Amount
    """The largest of a text."""
    apart: Share


class ConvergenceStage(Schema):
    """The three phases of a network, dense with and without HopAttn, and as the run's own backend relaxes it; with
    pooling queries the loop."""

    hopattn: Courses
    no_hopattn: Courses | None = None
    spiking: Courses | None = None
    hopattn_twice: HopAttnTwice | None = None
    loop: LoopCheck | None = None


class TemperatureSweep(Schema):
    """What became of stored patterns, by inverse temperature relative to HopAttn's."""

    relative_inverse_temperature: list[Annotated[float, Field(gt=0, le=1e15)]]
    patterns: Natural = 0
    effective_patterns: list[Amount]
    retrieved: list[Share]
    second_less_first: list[Amount]
    largest_rise_of_energy: list[Number] = []

    @model_validator(mode="after")
    def _alike(self) -> Self:
        return self.check_lengths(
            "relative_inverse_temperature", "effective_patterns", "retrieved", "second_less_first"
        )


class ConvergenceCheck(Schema):
    """checks/convergence.json."""

    settings: dict[str, Any] = {}
    texts: Natural = 0
    beta: Amount = 0.0
    stages: Annotated[dict[StageName, ConvergenceStage], Field(min_length=1)]
    hopfield: TemperatureSweep


Way = Literal["deployed", "tuned", "biases", "trained", "injected"]  # how a network comes to a chip


class OnChip(Schema):
    """One network on one chip, its ``accuracy`` on test; ``rule`` by which copies learnt there, None where they did
    not. ``noise``: the strength of the injected gains in training."""

    way: Way
    rule: str | None
    strength: Amount
    device: Natural
    seed: Natural
    accuracy: Share
    validation: Share
    noise: Amount | None = None


class Robustness(Schema):
    """robustness.json: accuracies on chips with an ``imperfection``, and ``ideal`` ones by seed without, on test and on
    ``ideal_validation``.

    ``epochs`` are those of a training, ``tuning_epochs`` of what follows on a deployed network, and ``tuning`` counts
    what one such tuning took. ``missing``: runs that have diverged, or not ended.
    """

    settings: dict[str, Any]
    imperfection: str
    epochs: Amount
    tuning_epochs: Amount
    tuning: Ledger | None = None
    ideal: Annotated[dict[str, Share], Field(min_length=1)]
    ideal_validation: Annotated[dict[str, Share], Field(min_length=1)]
    points: Annotated[list[OnChip], Field(min_length=1)]
    missing: Natural = 0
