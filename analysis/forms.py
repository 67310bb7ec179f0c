"""What reports rely on in the files of a run folder: kinds, ranges and lengths; a file may hold more."""

from itertools import chain
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from eqspike_seq.config.settings import BackendName
from eqspike_seq.phases import RELAXED

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Count = Annotated[int, Field(ge=0, le=2**62)]
Positive = Annotated[int, Field(ge=1, le=2**62)]
Stage = Literal["initial", "halfway", "end"]
LINES = 7  # of one picture, as many as there are colours


class Form(BaseModel):
    """An object of a file."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Joules(Form):
    """What meters read, in joules; None where there was none."""

    training: Amount | None
    testing: Amount | None


class Result(Form):
    """result.json."""

    dataset: str
    backend: BackendName
    neuron: str | None
    circuit: str | None
    rule: str | None
    attention: bool
    seed: Count
    n_test: Positive
    test_accuracy: Share
    validation_accuracy: Share
    train_seconds: Amount
    test_seconds: Amount
    peak_memory_bytes: Count
    free_steps: Amount | None = None
    spikes_per_synapse_per_inference: Amount | None
    spikes_per_synapse_per_training_sample: Amount | None
    measured_joules: Joules | None = None
    complete: bool


class Settings(Form):
    """config.toml."""

    dataset: str
    tokens: Positive
    beta: Amount
    learning_rate: list[Amount]
    free_steps: Positive
    nudge_steps: Positive
    batch: Positive
    epochs: Positive
    device: str


class Metrics(Form):
    """A line of metrics.jsonl."""

    epoch: Amount
    seconds: Amount
    train_accuracy: Share
    validation_accuracy: Share = 0.0  # after whole epochs only
    rates: dict[str, Number]


class LedgerFile(Form):
    """One ledger of ledger.json."""

    counts: dict[str, dict[str, dict[str, Count]]]
    samples: dict[str, Count]
    steps: dict[str, Count]
    synapses: dict[str, Count]
    sizes: list[Count]


class Curves(Form):
    """curves.json."""

    steps: list[Positive]
    accuracy: list[Share]
    events_per_text: list[Amount]

    @model_validator(mode="after")
    def _alike(self) -> "Curves":
        return alike(self, "steps", "accuracy", "events_per_text")


class Compared(Form):
    """A record of checks/gradients.json."""

    parameter: str
    reference: str
    stage: str
    cosine: Number | None
    window: Count | None
    beta: Amount
    neuron: str | None
    circuit: str | None
    rule: str | None


class OverTime(Form):
    """EP and BPTT over time, (steps, weights)."""

    ep: list[Annotated[list[Number], Field(min_length=1, max_length=LINES)]]
    bptt: list[list[Number]]
    cosine: list[Number | None]

    @model_validator(mode="after")
    def _alike(self) -> "OverTime":
        if len({len(row) for row in chain(self.ep, self.bptt)}) > 1:
            raise ValueError("ep and bptt are not of one width")
        return alike(self, "ep", "bptt", "cosine")


class Gradients(Form):
    """checks/gradients.json."""

    records: list[Compared]
    curves: dict[Stage, Annotated[dict[str, OverTime], Field(min_length=1)]] = {}


class Course(Form):
    """φ and the residual over one phase."""

    phi: list[Number]
    residual: list[Amount]

    @model_validator(mode="after")
    def _alike(self) -> "Course":
        return alike(self, "phi", "residual")


class Phases(Form):
    """The three phases of a network."""

    free: Course
    plus: Course = Field(alias="nudge+")
    minus: Course = Field(alias="nudge-")


class Settled(Form):
    """A stage of checks/convergence.json."""

    hopattn: Phases
    no_hopattn: Phases


class Temperatures(Form):
    """What became of stored patterns, by inverse temperature."""

    relative_inverse_temperature: list[Annotated[float, Field(gt=0, le=1e15)]]
    effective_patterns: list[Amount]
    retrieved: list[Share]
    second_less_first: list[Amount]

    @model_validator(mode="after")
    def _alike(self) -> "Temperatures":
        return alike(self, *type(self).model_fields)


class Convergence(Form):
    """checks/convergence.json."""

    stages: Annotated[dict[Stage, Settled], Field(min_length=1)]
    hopfield: Temperatures


class Trial(Form):
    """One setting of sweep.json."""

    number: Positive
    settings: Annotated[dict[str, str], Field(min_length=1)]
    state: str
    runs: Annotated[list[str], Field(min_length=1)]
    failed: str | None


class Sweep(Form):
    """sweep.json."""

    seeds: list[Count]
    trials: Annotated[list[Trial], Field(min_length=1)]

    @model_validator(mode="after")
    def _alike(self) -> "Sweep":
        if len({tuple(trial.settings) for trial in self.trials}) > 1:
            raise ValueError("trials of different settings")
        return self


CHECKS: dict[str, type[Form]] = {"gradients": Gradients, "convergence": Convergence}


def alike(form: Any, *names: str) -> Any:
    """The form itself. Raises ValueError unless its lists of these names are of one length, which is not 0."""
    lengths = {name: len(getattr(form, name)) for name in names}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(f"got {', '.join(f'{n} {name}' for name, n in lengths.items())}, expected as many of each")
    return form


def check(found: dict[str, Any], form: type[Form]) -> None:
    """Raises ValueError, naming the first place, unless ``found`` is of this form."""
    try:
        form.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "all of it"
        raise ValueError(f"{where}: {first['msg']}") from error


def check_samples(arrays: dict[str, NDArray[Any]]) -> None:
    """Raises ValueError unless these are the arrays of samples.npz: names, axes, kinds, finite numbers."""
    sizes: dict[str, int] = {}  # of the axes: texts b, tokens n, classes c; of each phase readings r and steps t

    def fit(name: str, axes: str, kinds: str, phase: str = "") -> None:
        array = arrays.get(name)
        if array is None or array.ndim < len(axes) or array.dtype.kind not in kinds:
            got = "nothing" if array is None else f"{array.ndim} axes of {array.dtype}"
            raise ValueError(f"{name}: got {got}, expected axes {axes or 'none'}, numbers of kind {kinds}")
        for axis, size in zip(axes, array.shape, strict=False):
            key = axis + (phase if axis in "rt" else "")
            if size != sizes.setdefault(key, size) or size < 1:
                raise ValueError(f"{name}: got shape {array.shape}, expected axis {axis} to have {sizes[key]}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name}: NaN or infinite values")

    fit("labels", "b", "iu")
    fit("reading_steps", "", "iu")
    if arrays["reading_steps"].shape != () or not 1 <= arrays["reading_steps"] <= 2**31:
        raise ValueError("reading_steps: expected one whole number above 0")
    fit("tokens", "bn", "U")
    fit("mask", "bn", "b")
    "".join(arrays["tokens"].ravel().tolist()).encode()  # no half characters
    if "attention" in arrays:
        fit("attention", "bnn", "f")
    layers = [name.removeprefix("free_") for name in arrays if name.startswith("free_spikes_")]
    for phase in RELAXED:
        fit(f"{phase}_outputs", "rbc", "f", phase)
        for name in ("residual", "phi"):
            fit(f"{phase}_{name}", "rb", "f", phase)
        for name in layers:
            fit(f"{phase}_{name}", "tb", "biuf", phase)
            if arrays[f"{phase}_{name}"].ndim != arrays[f"free_{name}"].ndim:
                raise ValueError(f"{phase}_{name}: not as in the free phase")
