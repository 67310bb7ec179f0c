"""What the files of a run folder hold. Whoever writes one makes these; whoever reads one validates with them.

A file may hold more. What has a default may be missing: files of an earlier eqspike have less.
"""

from dataclasses import fields
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from eqspike_seq.ledger import Ledger, Natural

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Positive = Annotated[int, Field(ge=1, le=2**62)]


class Schema(BaseModel):
    """A file, or an object in one."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, use_attribute_docstrings=True)

    @classmethod
    def read(cls, found: dict[str, Any]) -> Self:
        """What a file holds. Raises ValueError that names the first place where it is not of this schema."""
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "".join(f"{step}." for step in first["loc"]).removesuffix(".")
            said = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{where}: {said}" if where else said) from error

    def content(self) -> dict[str, Any]:
        """As it is written: all that it was made with."""
        return self.model_dump(exclude_unset=True)

    def check_lengths(self, *names: str) -> Self:
        """The object itself. Raises ValueError unless its lists of these names are of one length, which is not 0."""
        lengths = {name: len(getattr(self, name)) for name in names}
        if len(set(lengths.values())) > 1 or 0 in lengths.values():
            raise ValueError(f"got {', '.join(f'{n} {name}' for name, n in lengths.items())}, expected as many of each")
        return self


class MeasuredJoules(Schema):
    """What meters read, in joules; None where there was none."""

    training: Amount | None
    testing: Amount | None


class Baseline(Schema):
    """What ``learning.baseline`` reached on the same split, as shares of the texts."""

    validation_accuracy: Share
    test_accuracy: Share
    c: Amount
    seconds: Amount


class Beside(Schema):
    """An accuracy beside that of always answering the largest class of the training texts."""

    accuracy: Share
    largest_class: Share
    low: Share
    high: Share
    """The interval of the accuracy."""


class Chance(Schema):
    """Whether a run has learnt anything: see ``learning.chance``."""

    validation: Beside
    test: Beside
    epochs: Positive
    """From which the best on validation was taken."""
    note: str | None
    """What to make of it where there is no sign of learning."""


class Result(Schema):
    """result.json: the figures of a run. Those of spikes are None for dense ones."""

    dataset: str
    classes: list[str] = []
    synthetic: bool = False
    backend: str
    neuron: str | None
    circuit: str | None
    rule: str | None
    attention: bool
    preset: str = ""
    seed: Natural
    limit: Positive | None = None
    n_train: Natural = 0
    n_validation: Natural = 0
    n_test: Positive
    test_accuracy: Share
    validation_accuracy: Share
    train_seconds: Amount
    test_seconds: Amount
    peak_memory_bytes: Natural
    measured_joules: MeasuredJoules | None = None
    chance: Chance | None = None
    baseline: Baseline | None = None
    """None with --no-baseline, and of images."""
    free_steps: Amount | None = None
    """Steps or sweeps of the free phase, mean over the test texts."""
    test_converged: Share | None = None
    spikes: dict[str, dict[str, Natural]] | None = None
    """Unit spikes of training, by layer and phase."""
    spikes_per_inference: Amount | None = None
    graded_events_per_inference: Amount | None = None
    spikes_per_synapse_per_inference: Amount | None
    spikes_per_synapse_per_training_sample: Amount | None
    complete: bool


class Metrics(Schema):
    """A line of metrics.jsonl: means since the line before, by phase (``sweeps``, ``residual``, ``converged``) or by
    layer (``rates``, ``silent``, ``saturated``)."""

    step: Natural = 0
    epoch: Amount
    train_accuracy: Share
    loss: Number = 0.0
    sweeps: dict[str, Number] = {}
    residual: dict[str, Number] = {}
    converged: dict[str, Number] = {}
    rates: dict[str, Number]
    silent: dict[str, Number] = {}
    saturated: dict[str, Number] = {}
    loop: dict[Literal["gain", "apart"], Amount] = {}
    """After whole epochs of a network with pooling queries: see ``LoopCheck``."""
    validation_accuracy: Share | None = None
    """After whole epochs only; absent from other lines."""
    seconds: Amount

    @field_validator("validation_accuracy", mode="before")
    @classmethod
    def _not_null(cls, found: Any) -> Any:
        if found is None:
            raise ValueError("expected a number, or no such field")
        return found


def _whole(found: Any, validate: ValidatorFunctionWrapHandler) -> Ledger:
    """A ledger; one of a file has every field and every kind of event."""
    ledger: Ledger = validate(found)
    if isinstance(found, dict):
        if missing := [field.name for field in fields(Ledger) if field.name not in found]:
            raise ValueError(f"{missing[0]}: Field required")
        if not ledger.samples.get("free") or not ledger.has_all_kinds():
            raise ValueError("it lacks kinds of events or texts")
    return ledger


WholeLedger = Annotated[Ledger, WrapValidator(_whole), PlainSerializer(vars)]


class Ledgers(Schema):
    """Events of inference and of training."""

    inference: WholeLedger
    training: WholeLedger

    def of(self, part: str) -> Ledger:
        """inference or training."""
        return self.training if part == "training" else self.inference


class DenseLedgers(Ledgers):
    """What the dense backend takes for the same weights, over so many training texts."""

    training_texts: Natural = 0


class LedgerFile(Ledgers):
    """ledger.json; ``dense`` of a spiking run only."""

    test_texts: Natural = 0
    training_samples: Natural = 0
    dense: DenseLedgers | None = None


class Curves(Schema):
    """curves.json: test accuracy and events after each reading of the free phase."""

    steps: list[Positive]
    accuracy: list[Share]
    events_per_text: list[Amount]

    @model_validator(mode="after")
    def _alike(self) -> Self:
        return self.check_lengths("steps", "accuracy", "events_per_text")


class Trial(Schema):
    """One setting of sweep.json; ``failed`` says why it has no accuracy."""

    number: Positive
    settings: Annotated[dict[str, str], Field(min_length=1)]
    state: str
    validation_accuracy: Share | None = None
    runs: Annotated[list[str], Field(min_length=1)]
    failed: str | None


class Sweep(Schema):
    """sweep.json: ``settings`` are those that all trials share."""

    settings: dict[str, Any] = {}
    seeds: list[Natural]
    trials: Annotated[list[Trial], Field(min_length=1)]

    @model_validator(mode="after")
    def _alike(self) -> Self:
        if len({tuple(trial.settings) for trial in self.trials}) > 1:
            raise ValueError("trials of different settings")
        return self
