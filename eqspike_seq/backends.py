"""Backends and estimators by name: the one place where a setting becomes an object."""

from dataclasses import fields
from importlib import import_module
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from eqspike_seq.buckets import ByLength
from eqspike_seq.config import RunConfig
from eqspike_seq.dynamics import Backend, DenseBackend
from eqspike_seq.errors import ConfigError, EqspikeError
from eqspike_seq.learning import BPTT, GradientEstimator, ThreePhase, TwoPhase
from eqspike_seq.ledger import Ledger
from eqspike_seq.network import Network

Made = TypeVar("Made")
BACKENDS = {
    "dense": ("eqspike_seq.backends", "dense"),
    "spiking": ("neuromorphic.registry", "spiking"),
    "brian2": ("neuromorphic.brian", "brian2"),
}
SINGLES = {("spiking", "sigma-delta"): ("neuromorphic.event_driven", "EventDriven")}


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


def torch_device(name: str) -> torch.device:
    """The device called ``name``. Raises ConfigError where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: got cuda, but torch finds no CUDA device here. Use --device cpu.")
    return torch.device(name)


def filled(kind: type[Made], config: RunConfig, **given: Any) -> Made:
    """A dataclass with ``given`` and, for its other fields, the settings of the same names."""
    names = [field.name for field in fields(cast(Any, kind)) if hasattr(config, field.name)]
    return kind(**{**{name: getattr(config, name) for name in names}, **given})


def dense(config: RunConfig, dtype: torch.dtype) -> Backend:
    """The dense backend with these settings."""
    return filled(DenseBackend, config, dtype=dtype)


def make_backend(config: RunConfig) -> Backend:
    """The backend that ``config`` names, with those of its settings that the backend has.

    Its large products are in float32 where precision is auto: ``precision.settled`` chooses before a run begins.
    """
    module, name = BACKENDS[config.backend]
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    made: Backend = getattr(import_module(module), name)(config, dtype)
    return made


def make_single(config: RunConfig, network: Network, table: torch.Tensor) -> OneText | None:
    """The path of these settings that relaxes one text after the other, faster than batches of one; None without one.

    ``table`` (V + 1, D) holds the word vectors by id.
    """
    if (config.backend, config.neuron) not in SINGLES:
        return None
    module, name = SINGLES[config.backend, config.neuron]
    try:
        made: OneText = getattr(import_module(module), name)(network, make_backend(config), table)
    except EqspikeError:  # not with these settings
        return None
    return made


def make_estimator(config: RunConfig) -> GradientEstimator:
    """The gradient estimator that ``config`` names, by length."""
    if config.estimator == "bptt":
        return ByLength(BPTT(config.bptt_steps))
    return ByLength(ThreePhase(config.beta) if config.estimator == "three-phase" else TwoPhase(config.beta))
