"""Every setting of a run: the command line's flags, a TOML file's keys and what a run folder saves."""

import difflib
import os.path
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
import tyro
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from eqspike_seq.config.messages import explain
from eqspike_seq.data.registry import DATASETS, pixels_of
from eqspike_seq.errors import ConfigError

FORMAT = 1
BackendName = Literal["dense", "spiking", "brian2"]
NeuronName = Literal["if", "lif", "bernoulli", "sigma-delta"]
CircuitName = Literal["clocked", "wta"]
RuleName = Literal["count", "trace", "eqspike", "membrane"]
TokeniserName = Literal["unicode", "ascii"]
BACKENDS, NEURONS, CIRCUITS, RULES = map(get_args, (BackendName, NeuronName, CircuitName, RuleName))
EMBEDDINGS = ("word2vec", "random", "google-news")  # else a file
FINEST = 1e-6  # threshold: as many units as that makes of 1 can just be counted one by one in float32
OWN = "own"  # the preset of texts of one's own
SIDES = "ab"  # the first and the second text of a pair
WHERE = {"out", "resume", "data_dir", "device", "tensorboard"}  # say how and where a run happens, not what it computes


SOURCES = (
    "".join(f"{name}: {known.about}. " for name, known in DATASETS.items())
    + "A file of texts and labels (.csv, .tsv, .jsonl or .parquet), or a folder with train and test files: your own."
)


class RunConfig(BaseModel):
    """Every setting of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    dataset: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="{" + ",".join(DATASETS) + "}|FILE|FOLDER", help=SOURCES)
    ] = Field(description=SOURCES)
    backend: BackendName = "dense"
    """dense: rates relaxed to the fixed point. spiking: the neurons of --neuron. brian2: the same in Brian2, slowly."""
    preset: str = ""
    """Named settings to start from: mini, mnist, digits, cpu, paper, snli-cpu, snli-paper or own. Default: cpu for
    imdb, snli-cpu for snli, own for texts of your own (its sizes chosen from them), else the data set's."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the initial weights and of the order of the texts."""
    epochs: int = Field(default=4, ge=1)
    """Passes over the training texts."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where tensors live."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the large products. auto: bfloat16 where the hardware has it and it is faster, by a short timing; else
    float32. A run keeps what was chosen, and its config.toml says so."""
    out: Path | None = None
    """The run folder. Default: a new one under runs/."""
    resume: str | None = None
    """auto: continue the run in --out (or the newest unfinished one of these settings); or the PATH of a run folder."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Batches between two checkpoints."""
    tensorboard: bool = False
    """Log to RUN/tensorboard too (needs the package tensorboard)."""

    data_dir: Path | None = None
    """Where the data lies. Default: EQSPIKE_DATA, then the cache, then a download."""
    text_column: tuple[str, ...] = ()
    """Texts of your own: the column with them, or two for pairs. Default: text, or the only one beside the labels."""
    label_column: str = "label"
    """Texts of your own: the column with their classes."""
    strict: bool = False
    """Texts of your own: refuse rows with a blank text or label. Default: they are left out, counted and named."""
    class_names: tuple[str, ...] = ()
    """Texts of your own: names for the classes, in the order of their labels: whole numbers by value, others sorted."""
    limit: int | None = Field(default=None, ge=2)
    """Use this many texts of each split only: for quick trials, not for results."""
    tokens: int = Field(default=256, ge=1, le=100_000)
    """N, the tokens of a text that the network sees."""
    tokeniser: TokeniserName = "unicode"
    """What a word is. unicode: of letters of any script; of scripts without spaces each letter; each emoji. ascii: of a
    to z and digits, as in the recorded runs. Default: ascii for imdb, snli and mini, else unicode."""
    keep: Literal["ends", "head", "tail"] = "ends"
    """Which tokens of a longer text: its first and last half of N, its first N or its last N."""
    shuffle_words: bool = False
    """Put the words of every text in random order (a control: what is left without word order)."""
    embeddings: str = "word2vec"
    """word2vec (trained on the training texts), random, google-news, or a FILE of vectors."""
    trust_pickle: bool = False
    """Read gensim KeyedVectors (.kv) given with --embeddings; such a file can run any code, so only your own."""
    dim: int = Field(default=100, ge=1, le=10_000)
    """D, the components of a word vector where vectors are made here; a file's own D otherwise."""
    min_count: int = Field(default=5, ge=1)
    """Words rarer than this in the training texts get no vector."""
    workers: int = Field(default=1, ge=1)
    """Threads that train word vectors: one repeats itself, more are faster and give others each time."""

    hidden: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = (256, 40)
    """Units of the hidden layers, from the projection to the output."""
    attention: bool = True
    """HopAttn in the projection layer; without it, σ (the paper's baseline)."""
    projections: tuple[Literal["aa", "ab", "ba", "bb"], ...] = ("aa", "ab", "ba", "bb")
    """Pairs of texts: the projection layers, each by the text that asks and the one that is looked at; a: the first."""
    bias: tuple[float, ...] = (1.0,)
    """Where the biases of hidden layers start: all, or each. 1 is the middle of σ; less makes a sparser code."""
    gain: float = Field(default=1.0, gt=0)
    """w2 starts uniform in ±gain/√fan-in: above 1 where most of the input is near zero, as pixels are."""
    recall: float = Field(default=0.0, ge=0)
    """w1 starts as this times the identity, plus what is random: each word then recalls those that are like it."""
    masked: bool = True
    """Padding takes no part in attention; otherwise zero rows are patterns like any other (the paper's code)."""

    estimator: Literal["three-phase", "two-phase", "bptt"] = "three-phase"
    """EP with nudges ±β (Eq. 18), EP with +β only (Eq. 4), or backpropagation through time (dense only)."""
    beta: float = Field(default=0.1, gt=0, le=10)
    """β, the influence factor of the nudges."""
    bptt_steps: int = Field(default=15, ge=1)
    """Sweeps that bptt unrolls from the fixed point."""
    batch: int = Field(default=128, ge=1)
    """Texts in a batch."""
    word_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which a word of a training text is left out (the rest closes up), or a pixel goes dark."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam, or sgd without momentum: no state at the synapse but its weight."""
    learning_rate: tuple[Annotated[float, Field(gt=0)], ...] = (3e-4,)
    """The optimiser's step size: one for all layers, or one for each of w1, w2, … (biases go with their layer)."""

    free_steps: int = Field(default=50, ge=1)
    """T, the most sweeps (dense) or the time steps (spiking) of the free phase."""
    nudge_steps: int = Field(default=25, ge=1)
    """K, the same for each nudge."""
    tolerance: float = Field(default=1e-2, ge=0)
    """Largest change of a unit at which a phase counts as converged (dense: and stops)."""
    order: Literal["alternating", "synchronous"] = "alternating"
    """Order of updates in a dense sweep."""

    neuron: NeuronName = "if"
    """Spiking: integrate-and-fire, leaky integrate-and-fire, stochastic, or spikes that say what has changed."""
    circuit: CircuitName = "clocked"
    """Spiking: what computes HopAttn. clocked: a digital softmax. wta: a soft winner-take-all of spiking units."""
    sampler: Literal["systematic", "iid", "sigma-delta"] = "systematic"
    """wta: how winners are drawn: evenly over the cumulative probabilities, independently, or by what is owed."""
    winners: int = Field(default=32, ge=1, le=256)
    """wta with sigma-delta: spikes of a token row each time it is computed (else one a step)."""
    query_threshold: float = Field(default=0.0, ge=0)
    """sigma-delta: change of the query that one spike to the stored patterns stands for; 0: it is read as it is."""
    query_nudge_threshold: float = Field(default=2e-3, ge=FINEST)
    """sigma-delta: the same in the nudges."""
    pattern_nudge_threshold: float = Field(default=2e-4, ge=FINEST)
    """wta with sigma-delta: change of a pattern's probability that one of its spikes stands for in the nudges."""
    attention_threshold: float = Field(default=0.0, ge=0)
    """sigma-delta: a token row is computed anew when its query has moved by more than this (root mean square)."""
    top_patterns: int = Field(default=0, ge=0)
    """sigma-delta, clocked: mix only this many patterns with the highest scores of a row; 0: all."""
    rule: RuleName = "count"
    """Spiking: what a synapse learns from: spike counts, slow traces, spike times against traces, or membranes."""
    window: int = Field(default=140, ge=2)
    """Spiking: last steps of a phase over which spikes are counted."""
    tick_steps: int = Field(default=20, ge=1)
    """Spiking: M, time steps between two readings of the attention core."""
    feedback_tau: float = Field(default=40.0, gt=0)
    """Spiking: time constant, in steps, of the low-pass before the core's query."""
    output_tau: float = Field(default=20.0, ge=1)
    """Spiking: time constant, in steps, of the output rate that the nudge reads."""
    trace_tau: float = Field(default=200.0, ge=1)
    """Rules trace and eqspike: time constant, in steps, of the slow trace."""
    membrane_tau: float = Field(default=50.0, ge=1)
    """lif: time constant, in steps, of the membrane."""
    refractory: int = Field(default=0, ge=0)
    """lif: steps after a spike in which input is ignored."""
    reset: Literal["soft", "hard"] = "soft"
    """lif: after a spike the threshold is subtracted (soft), or the membrane is set to 0 (hard)."""
    common_noise: bool = True
    """bernoulli: the same random numbers in both nudges, as a digital circuit can by reseeding."""
    threshold: tuple[Annotated[float, Field(ge=FINEST)], ...] = (0.5,)
    """sigma-delta: change of activation that one spike of the free phase stands for: for all hidden layers, or each."""
    projection_threshold: float = Field(default=0.5, ge=FINEST)
    """sigma-delta: the same at s1."""
    baseline: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.5,)
    """sigma-delta: what neurons are taken to have transmitted at first: for all hidden layers, or each."""
    deadband: float = Field(default=0.5, ge=0.5, le=1)
    """sigma-delta: how far, in thresholds, s1 or a hidden neuron may be off what it has sent before it sends."""
    output_threshold: float = Field(default=0.05, ge=FINEST)
    """sigma-delta: the same at the output."""
    nudge_threshold: float = Field(default=0.01, ge=FINEST)
    """sigma-delta: the same above s1 in the nudges."""
    projection_nudge_threshold: float = Field(default=0.02, ge=FINEST)
    """sigma-delta: the same at s1 in the nudges."""
    events: Literal["unit", "graded"] = "unit"
    """sigma-delta: count what a neuron sends at once as unit spikes, or as one event with a payload."""

    def __init__(self, /, **settings: Any) -> None:
        """Raises ConfigError, which names each flag at fault."""
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(explain(error)) from error

    @field_validator("dataset")
    @classmethod
    def _named_or_there(cls, dataset: str) -> str:
        """A name, or a path that holds from every folder: a relative one must be there."""
        if dataset in DATASETS or os.path.isabs(dataset):
            return dataset
        if not dataset or not os.path.exists(dataset):
            close = difflib.get_close_matches(dataset.lower(), DATASETS, n=1, cutoff=0.7)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(
                f"the dataset: got {dataset!r}{hint}, expected one of {', '.join(DATASETS)}, or a file of texts "
                f"(.csv, .tsv, .jsonl or .parquet) or a folder with train and test files; there is none so named in "
                f"{os.getcwd()}"
            )
        return os.path.abspath(dataset)

    @field_validator("embeddings")
    @classmethod
    def _named_or_file(cls, embeddings: str) -> str:
        """A name, or a path that holds from every folder."""
        return embeddings if embeddings in EMBEDDINGS else os.path.abspath(embeddings)

    @field_validator("data_dir")
    @classmethod
    def _from_every_folder(cls, data_dir: Path | None) -> Path | None:
        return None if data_dir is None else data_dir.absolute()

    @model_validator(mode="after")
    def _fit_together(self) -> "RunConfig":
        if len(self.text_column) > 2 or len(set(self.text_column)) < len(self.text_column):
            raise ValueError(
                f"--text-column: got {' '.join(self.text_column)}, expected one column, or two different ones for pairs"
            )
        if not self.projections or len(set(self.projections)) < len(self.projections):
            raise ValueError(f"--projections: got {' '.join(self.projections) or 'none'}, expected some, each once")
        if self.inputs() == 1 and self.projections != RunConfig.model_fields["projections"].default:
            raise ValueError(
                f"--projections: got some for {self.dataset_name()}, expected them for pairs of texts only"
            )
        if self.dataset in DATASETS and (self.text_column or self.label_column != "label"):
            raise ValueError(
                f"--text-column and --label-column: got one with {self.dataset}, expected them with a file of your own"
            )
        if self.dataset in DATASETS and (self.strict or self.class_names):
            raise ValueError(
                f"--strict and --class-names: got one with {self.dataset}, expected them with a file of your own"
            )
        for name in self.class_names:
            if not name.strip() or not name.isprintable() or self.class_names.count(name) > 1:
                raise ValueError(
                    f"--class-names: got {', '.join(map(repr, self.class_names))}, expected different names, none blank"
                )
        pixels, layers = pixels_of(self.dataset), self.weight_matrices()
        if len(self.learning_rate) not in (1, layers):
            raise ValueError(
                f"--learning-rate: got {len(self.learning_rate)} values, expected 1 or {layers} "
                f"({'' if pixels else 'w1 and '}one for each layer above the first, with --hidden {self.hidden})"
            )
        if pixels:
            for flag, got, expected in (
                ("--tokens", self.tokens, pixels),
                ("--attention", self.attention, False),
            ):
                if got != expected:
                    raise ValueError(
                        f"{flag}: got {got}, {self.dataset} needs {expected}. "
                        f"Leave it, or take --preset {self.dataset}."
                    )
        for flag, values in (("--bias", self.bias), ("--threshold", self.threshold), ("--baseline", self.baseline)):
            if len(values) not in (1, len(self.hidden)):
                raise ValueError(
                    f"{flag}: got {len(values)} values, expected 1 or {len(self.hidden)} (one for each of --hidden)"
                )
        if self.top_patterns and self.circuit == "wta":
            raise ValueError("--top-patterns: got it with --circuit wta, whose winners are few as they are. Leave it.")
        if self.backend != "dense":
            if self.estimator == "bptt":
                raise ValueError(
                    "--estimator bptt: there is no backpropagation through spikes here. "
                    "Take three-phase or two-phase, or --backend dense."
                )
            if self.neuron == "sigma-delta":
                if self.rule in ("trace", "eqspike"):
                    raise ValueError(
                        f"--rule {self.rule}: with --neuron sigma-delta the sum of the spikes received is the trace, "
                        "and trace and eqspike compute what count does. Take count or membrane."
                    )
                return self
            for flag, value in (
                ("--window", self.window),
                ("--free-steps", self.free_steps),
                ("--nudge-steps", self.nudge_steps),
            ):
                if value % self.tick_steps:
                    raise ValueError(f"{flag}: got {value}, expected a multiple of --tick-steps {self.tick_steps}")
            if self.window > min(self.free_steps, self.nudge_steps):
                raise ValueError(
                    f"--window: got {self.window}, expected at most --free-steps {self.free_steps} and "
                    f"--nudge-steps {self.nudge_steps}"
                )
        return self

    def dataset_name(self) -> str:
        """What results call the data set."""
        return name_of(self.dataset)

    def inputs(self) -> int:
        """Texts of an example: 2 of a pair."""
        return DATASETS[self.dataset].inputs if self.dataset in DATASETS else max(1, len(self.text_column))

    def layout(self) -> tuple[tuple[int, int], ...]:
        """(query, key) of each projection layer by the place of a text in its example; none of images."""
        if pixels_of(self.dataset):
            return ()
        if self.inputs() == 1:
            return ((0, 0),)
        return tuple((SIDES.index(query), SIDES.index(key)) for query, key in self.projections)

    def weight_matrices(self) -> int:
        """How many there are: w₁ (unless the input is s¹ itself), w₂, …"""
        return len(self.hidden) + (1 if pixels_of(self.dataset) else 2)

    def learning_rates(self) -> tuple[float, ...]:
        """One for each weight matrix."""
        return self.learning_rate * (self.weight_matrices() if len(self.learning_rate) == 1 else 1)

    def computed(self) -> dict[str, Any]:
        """The settings that say what is computed, not where, for the head of a file of figures."""
        return self.model_dump(mode="json", exclude=set(WHERE), exclude_none=True)

    def saved(self) -> dict[str, Any]:
        """What ``config.toml`` holds: every setting that is not None."""
        return {"format": FORMAT, **self.model_dump(mode="json", exclude_none=True)}

    def to_toml(self) -> bytes:
        """``saved`` as TOML."""
        return tomli_w.dumps(self.saved()).encode()


def name_of(dataset: str) -> str:
    """What results call a data set: its name, or that of the file or folder, which is no built-in set's."""
    if dataset in DATASETS:
        return dataset
    stem = Path(dataset).stem
    return f"own-{stem}" if stem in DATASETS else stem
