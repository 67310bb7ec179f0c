"""From settings to objects: the one place that knows data sets, backends, neurons, rules and circuits by name.

A new neuron, rule, circuit or source of word vectors is one entry in its table.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eqspike import idle
from eqspike_seq.config.examples import Examples, FoundImages, FoundTexts, Images, OwnTexts, Texts
from eqspike_seq.config.networks import (
    Layers,
    PairNetwork,
    PairTokenLayerNetwork,
    PoolingNetwork,
    TextNetwork,
    TokenLayerNetwork,
)
from eqspike_seq.config.presets import preset_settings, run_settings
from eqspike_seq.config.section import Kinds, Section, flat, made, settings_of
from eqspike_seq.config.settings import OWN, Backpropagation, Learning, Run, RunConfig
from eqspike_seq.data.dataset import Dataset, load_dataset
from eqspike_seq.data.own import sizes_for
from eqspike_seq.data.registry import DATASETS
from eqspike_seq.data.sight import CountedPatterns, TokenSequence
from eqspike_seq.data.vectors import EMBEDDINGS, FileVectors, PickledVectors, Vectors
from eqspike_seq.devices.reading import NoisyReads
from eqspike_seq.errors import ConfigError, EqspikeError
from eqspike_seq.learning.parallel import ALONE, Job
from eqspike_seq.learning.precision import product_dtype
from eqspike_seq.model.network import Network
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.equilibrium import Backend
from neuromorphic.attention.clocked import Clocked
from neuromorphic.attention.gated import Circuit as ChangeCircuit
from neuromorphic.attention.gated import Gated
from neuromorphic.attention.winners import GatedWinners, Winners
from neuromorphic.brian import BrianBackend
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.neurons import Bernoulli, IntegrateAndFire, LeakyIntegrateAndFire, Losing, SigmaDelta
from neuromorphic.plasticity import Count, EqSpike, MembraneCount, Rule, Trace
from neuromorphic.rate_code import SpikingBackend

if TYPE_CHECKING:
    from neuromorphic.event_driven import EventDriven

BACKENDS: dict[str, type[Backend]] = {"dense": DenseBackend, "spiking": SpikingBackend, "brian2": BrianBackend}
NEURONS: dict[str, type[Section]] = {
    "if": IntegrateAndFire,
    "lif": LeakyIntegrateAndFire,
    "bernoulli": Bernoulli,
    "sigma-delta": SigmaDelta,
}
NETWORKS: dict[str, type[Layers]] = {  # of texts
    "tokens": TextNetwork,
    "pooling": PoolingNetwork,
    "token-layer": TokenLayerNetwork,
}
PAIR_NETWORKS: dict[str, type[Layers]] = {"tokens": PairNetwork, "token-layer": PairTokenLayerNetwork}
RULES: dict[str, type[Rule]] = {"count": Count, "trace": Trace, "eqspike": EqSpike, "membrane": MembraneCount}
RATE_CIRCUITS: dict[str, type[Section]] = {"clocked": Clocked, "wta": Winners}  # for neurons that send rates
CHANGE_CIRCUITS: dict[str, type[Section]] = {"clocked": Gated, "wta": GatedWinners}  # for those that send changes

Settings = Mapping[str, Any]


def named(flag: str, table: Mapping[str, type], default: str, settings: Settings) -> Any:
    """The entry of a table that flat settings name. Raises ConfigError."""
    name = settings.get(flag, default)
    if not isinstance(name, str) or name not in table:
        raise ConfigError(f"--{flag}: got {name!r}, expected one of {', '.join(table)}")
    return table[name]


def data_kind(settings: Settings) -> type[Images | Texts]:
    """Images or texts; of one's own, or looked for."""
    dataset = settings.get("dataset")
    if not isinstance(dataset, str):
        raise ConfigError(f"the dataset: got {dataset!r}, expected one of {', '.join(DATASETS)}, or a file or folder")
    if dataset not in DATASETS:
        return OwnTexts
    entry = DATASETS[dataset]
    if entry.pixels:
        return Images if entry.embedded else FoundImages
    return Texts if entry.embedded else FoundTexts


def network_kind(settings: Settings) -> type[Layers]:
    """With the HopAttn layer of that name for texts, with several for pairs of them."""
    if issubclass(data_kind(settings), Images):
        return Layers
    table = PAIR_NETWORKS if of_pairs(settings) else NETWORKS
    return named("network", table, "tokens", settings)  # type: ignore[no-any-return]


def of_pairs(settings: Settings) -> bool:
    """Whether an example is two texts."""
    known, columns = DATASETS.get(settings["dataset"]), settings.get("text_column", ())
    return known.inputs == 2 if known else isinstance(columns, (list, tuple)) and len(columns) == 2


def embeddings_kind(settings: Settings) -> type[Vectors]:
    """Where word vectors come from: an entry of the table, or a file."""
    name = str(settings.get("embeddings", "word2vec"))
    return EMBEDDINGS.get(name) or (PickledVectors if name.endswith(".kv") else FileVectors)


def backend_kind(settings: Settings) -> type[Backend]:
    """That of the name; of two spiking ones the neuron decides."""
    kind: type[Backend] = named("backend", BACKENDS, "dense", settings)
    changes = kind is SpikingBackend and named("neuron", NEURONS, "if", settings) is SigmaDelta
    return SigmaDeltaBackend if changes else kind


def circuit_kind(settings: Settings) -> type[Section] | None:
    """What computes HopAttn for spiking neurons; none where there is no HopAttn."""
    network = network_kind(settings)
    if not network.name or (issubclass(network, TextNetwork) and settings.get("attention") is False):
        return None
    table = CHANGE_CIRCUITS if backend_kind(settings) is SigmaDeltaBackend else RATE_CIRCUITS
    return named("circuit", table, "clocked", settings)  # type: ignore[no-any-return]


KINDS: Kinds = {
    "run": lambda _: Run,
    "data": data_kind,
    "sight": lambda settings: CountedPatterns if network_kind(settings) is PoolingNetwork else TokenSequence,
    "embeddings": embeddings_kind,
    "network": network_kind,
    "learning": lambda settings: Backpropagation if settings.get("estimator") == "bptt" else Learning,
    "backend": backend_kind,
    "neuron": lambda settings: named("neuron", NEURONS, "if", settings),
    "rule": lambda settings: named("rule", RULES, "count", settings),
    "circuit": circuit_kind,
}


def every_kind() -> Iterator[tuple[type[Section], str]]:
    """(a kind of section, what brings it about), for all there are."""
    yield from ((Run, ""), (Examples, ""), (Images, "images"), (Texts, "texts"))
    yield OwnTexts, "a file or folder of your own"
    yield from ((kind, "a data set that is looked for") for kind in (FoundTexts, FoundImages))
    yield from ((kind, f"--embeddings {name}") for name, kind in EMBEDDINGS.items())
    yield PickledVectors, "--embeddings FILE.kv"
    yield from ((TokenSequence, "--network tokens or token-layer"), (CountedPatterns, "--network pooling"))
    yield from ((Layers, ""), (TextNetwork, "--network tokens"), (PairNetwork, "pairs of texts"))
    yield PoolingNetwork, "--network pooling"
    yield from ((TokenLayerNetwork, "--network token-layer"), (PairTokenLayerNetwork, "pairs of texts"))
    yield from ((Learning, ""), (Backpropagation, "--estimator bptt"))
    yield from ((DenseBackend, "--backend dense"), (SpikingBackend, "a --neuron other than sigma-delta"))
    yield from ((SigmaDeltaBackend, "--neuron sigma-delta"), (BrianBackend, "--backend brian2"))
    yield from ((kind, f"--neuron {name}") for name, kind in NEURONS.items())
    yield from ((kind, f"--rule {name}") for name, kind in RULES.items())
    yield ChangeCircuit, "--neuron sigma-delta"
    yield from ((kind, f"--circuit {name}") for name, kind in RATE_CIRCUITS.items())
    yield from ((kind, f"--neuron sigma-delta --circuit {name}") for name, kind in CHANGE_CIRCUITS.items())


def refuse_idle(acting: Settings, given: Settings) -> None:
    """Raises ConfigError that names each setting of ``given`` that is not among those ``acting``, and what it needs."""
    idle.refuse(acting, given, list(every_kind()))


def before_sizes(dataset: str, backend: str, preset: str, given: Settings) -> dict[str, Any]:
    """``preset_settings``; of texts with ``start`` also those of that run that say what its network is.

    Without it pairs of one's own have a token layer, except in Brian2, and with token queries one's own texts spike at
    rates. Raises ConfigError.
    """
    settings = preset_settings(dataset, backend, preset, given)
    if given.get("start") is not None and not issubclass(data_kind(settings), Images):
        return {**settings, **of_start({**settings, **given})}
    if settings["preset"] != OWN:
        return settings
    if of_pairs({**settings, **given}):
        settings["network"] = "tokens" if backend == "brian2" else "token-layer"
    if issubclass(network_kind({**settings, **given}), TextNetwork):
        rates_too = preset_settings(dataset, backend, preset, {"neuron": "if", **given})
        settings = {**rates_too, "neuron": "if", "network": settings["network"]}
    return settings


def of_start(settings: Settings) -> dict[str, Any]:
    """What a run takes over from the one that it is to ``start`` from: its network, how that reads texts, and on the
    same backend with the same neuron how it is relaxed. New n-grams start at random. Raises ConfigError."""
    model = config_of(Path(settings["start"]))
    found, mine = flat(model.network), flat(model.backend)
    if isinstance(model.data, Texts):
        sight, vectors = flat(model.data.sight), flat(model.data.embeddings)
        source = {"embeddings": "random", "dim": vectors["dim"]} if "dim" in vectors else {}
        found |= {"network": model.network.name, "tokeniser": model.data.tokeniser, **sight, **source}
        found |= {"naive_bayes": 0.0} if "min_texts" in found else {}
        found = {name: value for name, value in found.items() if name not in ("min_texts", "min_count")}
    if (model.backend.name, mine.get("neuron")) == (settings["backend"], settings.get("neuron", mine.get("neuron"))):
        found |= mine
    return found


def configured(dataset: str, backend: str, preset: str, given: Settings) -> RunConfig:
    """The settings of a run: those ``given``, else those chosen from one's own texts, else the preset's, else defaults.

    What is given and does not act is not looked at. Raises ConfigError; DataError for texts that cannot be read.
    """
    named("backend", BACKENDS, "dense", {"backend": backend})
    settings = before_sizes(dataset, backend, preset, given)
    if settings["preset"] == OWN and dataset not in DATASETS:
        asked = {**settings, **given}
        sizes = sizes_for(made(OwnTexts, asked, KINDS), network_kind(asked).name)
        start = of_start(asked) if given.get("start") is not None else {}
        hidden = {**sizes, **start, **given}["hidden"]
        if len(hidden) != len(sizes["hidden"]):  # the preset's one rate for all layers
            del sizes["learning_rate"]
        settings = {**settings, **sizes, **start}
    refuse_token_layer({**settings, **given})
    return made(RunConfig, {**settings, **given}, KINDS)


def refuse_token_layer(settings: Settings) -> None:
    """Raises ConfigError where there is a token layer and the backend does not relax it so."""
    kind = backend_kind(settings)
    if not issubclass(network_kind(settings), TokenLayerNetwork):
        return
    if kind is BrianBackend:
        raise ConfigError("--backend brian2: it has no token layer. Take --network tokens, or --backend spiking.")
    if kind is SpikingBackend:
        for flag, known in (("circuit", ("clocked",)), ("rule", ("count", "membrane"))):
            if (got := settings.get(flag, known[0])) not in known:
                neuron = settings.get("neuron", "if")
                raise ConfigError(f"--{flag} {got}: a token layer with --neuron {neuron} has {' or '.join(known)}")


def configure(dataset: str, backend: str = "dense", preset: str = "", **settings: Any) -> RunConfig:
    """The settings of ``eqspike run DATASET``, named as its flags: presets, sizes chosen from one's own texts.

    Raises ConfigError, also for a setting that has no effect with the others; DataError for texts that cannot be read.
    """
    config = configured(dataset, backend, preset, settings)
    refuse_idle(flat(config), settings)
    return config


def varied(config: RunConfig, **settings: Any) -> RunConfig:
    """``config`` with other ``settings``, whose kinds they may change. Raises ConfigError."""
    return made(RunConfig, {**flat(config), **settings}, KINDS)


def config_of(run: Path, **settings: Any) -> RunConfig:
    """The settings of a run folder, with others in their place. Raises ConfigError, also for one that nobody knows."""
    saved = run_settings(run)
    known = {name for kind, _ in every_kind() for name in (*settings_of(kind), *KINDS)}
    if unknown := [name for name in saved if name not in known]:
        raise ConfigError(f"{run / 'config.toml'}: unknown setting {unknown[0]!r}. Train the run again.")
    return made(RunConfig, {**saved, **settings}, KINDS)


def make_backend(config: RunConfig) -> Backend:
    """The backend of ``config`` for its precision: float32 where that is auto, ``precision.settled`` chooses before.

    Raises ConfigError for what it does not simulate.
    """
    if isinstance(config.backend, BrianBackend):
        if config.backend.circuit is None:
            raise ConfigError("--attention: got False, expected True: --backend brian2 simulates nothing else")
        if find_spec("brian2") is None:
            raise ConfigError("--backend brian2 needs brian2: pip install 'eqspike[brian2]'")
        return config.backend
    found: Backend = replace(config.backend, dtype=product_dtype(config))  # type: ignore[type-var]
    return on_chip(found, config.learning)


def on_chip(backend: Backend, learning: Learning) -> Backend:
    """``backend`` with what a device does to synapses while they are read, and to spikes on their way."""
    device = learning.device
    if device.lost_spikes is not None:
        lost = device.lost_spikes.share
        if isinstance(backend, SigmaDeltaBackend):
            backend = replace(backend, neuron=SigmaDelta(lost, learning.device_seed))
        elif isinstance(backend, SpikingBackend):
            backend = replace(backend, neuron=Losing(backend.neuron, lost, learning.device_seed))
    if device.read_noise is not None:
        backend = NoisyReads(backend, device.read_noise, learning.device_seed)
    return backend


def make_single(backend: Backend, network: Network, table: torch.Tensor) -> "EventDriven | None":
    """What relaxes one text after the other as ``backend`` does, faster than batches of one; None without one.

    ``table`` (V + 1, D) holds the word vectors by id.
    """
    if not isinstance(backend, SigmaDeltaBackend):
        return None
    from neuromorphic.event_driven import EventDriven  # which compiles

    try:
        return EventDriven(network, backend, table)
    except EqspikeError:  # not with these settings
        return None


def run(
    config: RunConfig,
    reporter: Reporter | None = None,
    job: Job = ALONE,
    check: Callable[[Dataset], None] = lambda _: None,
    load: Callable[..., Dataset] = load_dataset,
) -> dict[str, Any]:
    """``training.run`` with the backend that ``config`` names; progress goes to standard error."""
    from eqspike_seq.learning import training  # which predictions do without

    return training.run(config, make_backend, reporter or Reporter(), job, check, load)
