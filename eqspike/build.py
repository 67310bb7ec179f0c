"""From settings to objects: the one place that knows backends, neurons, rules and circuits by name.

A neuron, a circuit or a rule is one entry here, and one in the setting of that name.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from eqspike_seq.config.acting import check_given
from eqspike_seq.config.presets import filled, from_preset
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.dataset import Dataset
from eqspike_seq.data.own import sizes_for
from eqspike_seq.errors import ConfigError, EqspikeError
from eqspike_seq.learning import training
from eqspike_seq.learning.parallel import ALONE, Job
from eqspike_seq.learning.precision import product_dtype
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.network import Network
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.equilibrium import Backend
from neuromorphic.attention.clocked import Clocked
from neuromorphic.attention.gated import Gated
from neuromorphic.attention.winners import GatedWinners, Winners
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.neurons import Bernoulli, IntegrateAndFire, LeakyIntegrateAndFire
from neuromorphic.plasticity import Count, EqSpike, MembraneCount, Rule, Trace
from neuromorphic.rate_code import SpikingBackend

# neurons that fire at most once a step
NEURONS: dict[str, type[Any]] = {"if": IntegrateAndFire, "lif": LeakyIntegrateAndFire, "bernoulli": Bernoulli}
CIRCUITS = {"clocked": (Clocked, Gated), "wta": (Winners, GatedWinners)}  # of rate codes, of change codes
RULES = {"count": Count, "trace": Trace, "eqspike": EqSpike, "membrane": MembraneCount}


def make_backend(config: RunConfig) -> Backend:
    """The backend that ``config`` names, with those of its settings that the backend has.

    Its large products are in float32 where precision is auto: ``precision.settled`` chooses before a run begins.
    Raises ConfigError for what it does not simulate.
    """
    return BACKENDS[config.backend](config)


def dense(config: RunConfig) -> Backend:
    """Rates, relaxed to the fixed point."""
    return filled(DenseBackend, config, dtype=product_dtype(config))


def spiking(config: RunConfig) -> Backend:
    """The neuron, the circuit and the rule that ``config`` names."""
    rule: Rule = filled(RULES[config.rule], config)
    of_rates, of_changes = CIRCUITS[config.circuit]
    common: dict[str, Any] = {"rule": rule, "dtype": product_dtype(config)}
    if config.neuron == "sigma-delta":
        return filled(SigmaDeltaBackend, config, circuit=filled(of_changes, config), **common)
    neuron = filled(NEURONS[config.neuron], config)
    return filled(SpikingBackend, config, circuit=filled(of_rates, config), neuron=neuron, **common)


def brian2(config: RunConfig) -> Backend:
    """The Brian2 backend with these settings. Raises ConfigError for what it does not simulate."""
    from neuromorphic.brian import BrianBackend

    for flag, got, only in (
        ("--neuron", config.neuron, "if"),
        ("--rule", config.rule, "count"),
        ("--attention", config.attention, True),
        ("--circuit", config.circuit, "clocked"),
    ):
        if got != only:
            raise ConfigError(f"{flag}: got {got}, expected {only}: all that --backend brian2 simulates")
    try:
        import brian2 as b2  # noqa: F401
    except ImportError as error:
        raise ConfigError("--backend brian2 needs brian2: pip install 'eqspike[brian2]'") from error
    return filled(BrianBackend, config, neuron=IntegrateAndFire(), dtype=torch.float64)


BACKENDS: dict[str, Callable[[RunConfig], Backend]] = {"dense": dense, "spiking": spiking, "brian2": brian2}


class RelaxedText(Protocol):
    """The free phase of one text, in R steps."""

    @property
    def outputs(self) -> NDArray[np.floating]:
        """(R, C)."""
        ...

    @property
    def steps(self) -> int:
        """R."""
        ...

    def ledger(self, network: Network) -> Ledger:
        """What it cost."""
        ...


class OneText(Protocol):
    """Relaxes one text at a time."""

    def free(self, ids: NDArray[np.integer]) -> RelaxedText:
        """The text of these word ids (n,), from rest."""
        ...


def make_single(backend: Backend, network: Network, table: torch.Tensor) -> OneText | None:
    """What relaxes one text after the other as ``backend`` does, faster than batches of one; None without one.

    ``table`` (V + 1, D) holds the word vectors by id.
    """
    if not isinstance(backend, SigmaDeltaBackend):
        return None
    from neuromorphic.event_driven import EventDriven

    try:
        return EventDriven(network, backend, table)
    except EqspikeError:  # not with these settings
        return None


def configure(dataset: str, backend: str = "dense", preset: str = "", **settings: Any) -> RunConfig:
    """The settings of ``eqspike run DATASET``, named as in a TOML file: presets, sizes chosen from one's own texts.

    Raises ConfigError, also for a setting that has no effect with the others; DataError for texts that cannot be read.
    """
    config = from_preset(dataset, backend, preset, **settings)
    if sizes := sizes_for(config):
        config = from_preset(dataset, backend, preset, **{**sizes, **settings})
    check_given(config, settings)
    return config


def run(
    config: RunConfig,
    reporter: Reporter | None = None,
    job: Job = ALONE,
    check: Callable[[Dataset], None] = lambda _: None,
) -> dict[str, Any]:
    """``training.run`` with the backend that ``config`` names; progress goes to standard error."""
    return training.run(config, make_backend, reporter or Reporter(), job, check)
