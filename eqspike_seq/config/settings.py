"""What the settings of a run are made of: where it happens, its data, its network, how that learns, its backend."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, Field, SkipValidation
from pydantic_core import to_jsonable_python

from eqspike_seq.config.examples import ONLY_TEXTS, Images, Texts
from eqspike_seq.config.networks import Layers, PoolingNetwork, TokenLayerNetwork
from eqspike_seq.config.section import Needs, PerLayer, Positive, Section, as_flag, flat, names_in, settings_of
from eqspike_seq.devices.device_model import IDEAL, DeviceModel, profiles, read_device
from eqspike_seq.errors import ConfigError
from eqspike_seq.learning.optimisers import OptimizerName
from eqspike_seq.model.network import FeedbackRule, Shape
from eqspike_seq.relaxation.equilibrium import Backend
from eqspike_seq.runs.archive import models

FORMAT = 2  # of every file of a run folder
OWN = "own"  # the preset of texts of one's own
LEARNT_PATTERNS = Needs(
    "--network pooling or token-layer, without --fixed-embeddings",
    lambda settings: settings.get("fixed_embeddings") is False,
)
ON_A_DEVICE = Needs("--device-model", lambda settings: settings.get("device_model") is not None)
IMPERFECT_SYNAPSES = Needs(
    "EP and a --device-model of synapses",
    lambda settings: (
        settings.get("estimator") != "bptt" and read_device(settings.get("device_model") or IDEAL).synaptic
    ),
)
# These say how and where a run happens, not what it computes.
WHERE = {"out", "resume", "data_dir", "device", "tensorboard", "baseline"}


def _device_model(name: str | None) -> str | None:
    """A device model that can be read, a file of one's own as it is named from every folder; None: ideal."""
    if name is None or not read_device(name).imperfections:
        return None
    return name if name in profiles() else str(Path(name).absolute())


def _located(run: Path | None) -> Path | None:
    """As it is named from every folder."""
    return run if run is None or (str(run) in models() and not run.exists()) else run.absolute()


@dataclass(frozen=True)
class Run(Section):
    """Where and how the run is carried out."""

    preset: str = ""
    """Named settings to start from: imdb, imdb-small, paper-small, paper, mini, mnist, digits, snli, snli-cpu,
    snli-paper or own. Default: the data set's own preset (paper-small for imdb and snli-cpu for snli with --network
    tokens); own for your own texts, with sizes chosen from them."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Random seed for the initial weights and the order of the texts."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to compute."""
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Needs("--backend dense or spiking", lambda settings: settings.get("backend") != "brian2"),
    ] = "auto"
    """Number format of the large matrix products. auto: bfloat16 if the hardware has it and a short timing finds it
    faster, else float32. config.toml stores the choice."""
    out: Path | None = None
    """Run folder. Default: a new folder in runs/."""
    resume: str | None = None
    """auto: continue the run in --out, or the newest unfinished run with these settings. Or the path of a run folder to
    continue."""
    checkpoint_every: Positive = 50
    """Number of batches between two checkpoints."""
    tensorboard: bool = False
    """Also write TensorBoard logs to RUN/tensorboard (needs the package tensorboard)."""
    baseline: Annotated[bool, ONLY_TEXTS] = True
    """At the end, also report the accuracy of logistic regression on TF-IDF of words and word pairs on the same
    split."""


@dataclass(frozen=True)
class Learning(Section):
    """How the network learns."""

    estimator: Literal["three-phase", "two-phase", "bptt"] = "three-phase"
    """How gradients are computed. three-phase: EP with two nudges ±β (Eq. 18). two-phase: EP with one nudge +β (Eq. 4).
    bptt: backpropagation through time (dense only)."""
    beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Strength β of the nudges (the influence factor)."""
    batch: Positive = 128
    """Texts per batch."""
    epochs: Annotated[int | float, Field(gt=0, le=1e6)] = 4
    """Passes over the training texts; with --patience the maximum. 0.1 is a tenth of one."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of leaving a word or n-gram out of a training text, or of darkening a pixel."""
    optimizer: OptimizerName = "adam"
    """adam; or, with nothing stored at a synapse but its weight: sgd without momentum, or normalised-sgd, whose steps
    are in root mean squares of each layer's gradient."""
    learning_rate: tuple[Annotated[float, Field(gt=0)], ...] = (3e-4,)
    """Step size of the optimiser: one value for all layers, or one for each of w1 or q, w2, … Biases use the rate of
    their layer; a token layer uses that of w1."""
    pattern_rate: Annotated[float, Field(gt=0), LEARNT_PATTERNS] = 0.01
    """Step size for the vectors of words and n-grams, in root mean squares of their gradient."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after this many epochs without improvement on validation and keep the best epoch. 0: run all --epochs."""
    learns: Literal["biases"] | None = None
    """biases: train the biases only (a control). Default: train all parameters."""
    start: Annotated[Path | None, AfterValidator(_located)] = None
    """Start from the weights of this run: its folder, a zip of it, or the name of a model (`eqspike models`). A run on
    texts takes over the network, and the vectors of those words and n-grams that both know. Default: random weights."""
    device_model: Annotated[str | None, AfterValidator(_device_model)] = None
    """Model of the synapses that store the weights, during and after training: ideal, loihi-8bit, pcm, rram,
    cmos-mismatch, or a FILE.toml (images, --network pooling or token-layer). Default: ideal."""
    device_seed: Annotated[int, Field(ge=0, lt=2**31), ON_A_DEVICE] = 0
    """Which chip of the device model: the seed of its mismatch, faults and write noise."""
    feedback_rule: Annotated[FeedbackRule, IMPERFECT_SYNAPSES] = "plain"
    """How the forward and the feedback copy of a weight learn. plain: both by the update of EP. vector-field: each by
    the change at its own target. exact: by nudges that travel each synapse backwards."""

    @property
    def unrolled(self) -> int:
        """Sweeps through which errors are propagated back; EP has none."""
        return 0

    @property
    def device(self) -> DeviceModel:
        """The device model. Raises ConfigError where its file can no longer be read."""
        return read_device(self.device_model or IDEAL)


@dataclass(frozen=True)
class Backpropagation(Learning):
    """Backpropagation through time, for comparison."""

    bptt_steps: Positive = 15
    """Number of sweeps from the fixed point that bptt unrolls."""

    @property
    def unrolled(self) -> int:
        """Sweeps through which errors are propagated back."""
        return self.bptt_steps


@dataclass(frozen=True)
class RunConfig(Section):
    """All that a run is made from; ``eqspike.configure`` makes one from flat settings."""

    run: SkipValidation[Run]
    data: SkipValidation[Images | Texts]
    network: SkipValidation[Layers]
    learning: SkipValidation[Learning]
    backend: SkipValidation[Backend]

    def check(self) -> None:
        """Raises ConfigError for settings that do not go together."""
        hidden, layers, rates = self.network.hidden, self.network.weight_matrices, self.learning.learning_rate
        if len(rates) not in (1, layers):
            raise ConfigError(
                f"--learning-rate: got {len(rates)} values, expected 1 or {layers} "
                f"({self.network.first}one for each layer above the first, "
                f"with --hidden {hidden})"
            )
        for part in (self.network, self.backend):
            for name, setting in settings_of(type(part)).items():
                values = getattr(part, name)
                if any(isinstance(mark, PerLayer) for mark in setting.marks) and len(values) not in (1, len(hidden)):
                    raise ConfigError(
                        f"{as_flag(name, ())[0]}: got {len(values)} values, expected 1 or {len(hidden)} "
                        "(one for each of --hidden)"
                    )
        if isinstance(self.network, PoolingNetwork | TokenLayerNetwork):
            self._check_controls(self.network)
        if self.learning.unrolled and self.backend.name != "dense":
            raise ConfigError(
                "--estimator bptt: eqspike has no backpropagation through spikes. "
                "Use three-phase or two-phase, or --backend dense."
            )
        device = self.learning.device
        if device.lost_spikes is not None and self.backend.name != "spiking":
            raise ConfigError(
                f"--device-model: [lost_spikes] acts with --backend spiking only; got --backend {self.backend.name}"
            )
        if device.drift is not None and self.learning.patience and self.learning.start is None:
            raise ConfigError("--device-model: [drift] comes after the last epoch; got --patience, expected 0")
        if device.synaptic:
            self._check_device()

    def _check_device(self) -> None:
        """Raises ConfigError for what no imperfect synapse acts in."""
        network, known, settings = self.network, self.backend.feedback_rules, self.settings()
        if not known or settings.get("circuit") == "wta":
            got = " ".join(
                f"--{name} {settings[name]}" for name in ("backend", "neuron", "circuit") if name in settings
            )
            raise ConfigError(
                f"--device-model: acts with --backend dense, and with --backend spiking --circuit clocked; got {got}"
            )
        if self.learning.feedback_rule not in known:
            raise ConfigError(
                f"--feedback-rule: got {self.learning.feedback_rule}, expected {' or '.join(known)} with --backend "
                "spiking: its synapses learn from one sum of both directions"
            )
        if not isinstance(self.data, Images) and not isinstance(network, PoolingNetwork | TokenLayerNetwork):
            raise ConfigError(
                "--device-model: imperfect synapses act with images and with --network pooling or token-layer; "
                f"got --network {network.name}"
            )
        if isinstance(network, PoolingNetwork) and network.readout == "softmax":
            raise ConfigError("--device-model: needs an output of rates; got --readout softmax")
        if self.learning.device.read_noise is not None and self.learning.unrolled:
            raise ConfigError("--device-model: [read_noise] acts on EP only; got --estimator bptt")

    def _check_controls(self, network: PoolingNetwork | TokenLayerNetwork) -> None:
        """Raises ConfigError for what acts on rates only."""
        softmax = isinstance(network, PoolingNetwork) and network.readout == "softmax"
        for flag, on in (("--readout softmax", softmax), ("--uniform-attention", network.uniform_attention)):
            if on and self.backend.name != "dense":
                raise ConfigError(f"{flag}: acts with --backend dense only; got --backend {self.backend.name}")
        if softmax and not network.hidden:
            raise ConfigError("--readout softmax: got no hidden layer, expected one or more in --hidden")

    def learning_rates(self) -> tuple[float, ...]:
        """One for each weight matrix."""
        rates = self.learning.learning_rate
        return rates * (self.network.weight_matrices if len(rates) == 1 else 1)

    def shape(self, dim: int, classes: int) -> Shape:
        """The network's shape for data of ``dim`` components; on a device feedback has synapses of its own."""
        found = self.network.shape(self.data.rows, dim, classes)
        return replace(found, feedback=self.learning.feedback_rule) if self.learning.device.synaptic else found

    @property
    def twice(self) -> bool:
        """Whether patterns are stored twice, as keys and as values: of texts on a device."""
        return self.learning.device.synaptic and not isinstance(self.data, Images)

    def settings(self) -> dict[str, Any]:
        """All settings that act and are not None, flat, as JSON has them."""
        return {name: to_jsonable_python(value) for name, value in flat(self).items() if value is not None}

    def computed(self) -> dict[str, Any]:
        """Those that say what is computed, not where, for the head of a file of figures."""
        return {name: value for name, value in self.settings().items() if name not in WHERE}

    def to_toml(self) -> bytes:
        """What ``config.toml`` holds: the settings that act, a table for each section."""
        settings, tables = self.settings(), {}
        for field in fields(self):
            part = getattr(self, field.name)
            names = [*([field.name] if part.name else []), *names_in(part)]
            tables[field.name] = {name: settings[name] for name in names if name in settings}
        return tomli_w.dumps({"format": FORMAT, **tables}).encode()
