"""Backends and estimators by name: the one place where a setting becomes an object."""

from dataclasses import fields
from importlib import import_module

import torch

from eqspike_seq.config import RunConfig
from eqspike_seq.dynamics import Backend
from eqspike_seq.errors import ConfigError
from eqspike_seq.learning import BPTT, GradientEstimator, ThreePhase, TwoPhase

BACKENDS = {"dense": ("eqspike_seq.dynamics", "DenseBackend"), "spiking": ("neuromorphic.simulator", "SpikingBackend")}


def product_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type of the large products; ``auto`` is bfloat16 where the hardware multiplies it natively."""
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.bfloat16 if native else torch.float32


def torch_device(name: str) -> torch.device:
    """The device called ``name``. Raises ConfigError where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: got cuda, but torch finds no CUDA device here. Use --device cpu.")
    return torch.device(name)


def make_backend(config: RunConfig, device: torch.device) -> Backend:
    """The backend that ``config`` names, with those of its settings that the backend has."""
    module, name = BACKENDS[config.backend]
    backend = getattr(import_module(module), name)
    settings = {field.name: getattr(config, field.name) for field in fields(backend) if hasattr(config, field.name)}
    made: Backend = backend(**settings, dtype=product_dtype(config.precision, device))
    return made


def make_estimator(config: RunConfig) -> GradientEstimator:
    """The gradient estimator that ``config`` names."""
    if config.estimator == "bptt":
        return BPTT(config.bptt_steps)
    return ThreePhase(config.beta) if config.estimator == "three-phase" else TwoPhase(config.beta)
