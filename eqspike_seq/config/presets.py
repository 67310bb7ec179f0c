"""Where settings come from: a preset's common part, its parts for backend, neuron and circuit; a file; a run folder."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from eqspike_seq import files
from eqspike_seq.config.settings import FORMAT, OWN
from eqspike_seq.data.registry import DATASETS
from eqspike_seq.errors import ConfigError
from eqspike_seq.runs.archive import opened


def presets() -> list[str]:
    """Names of the presets that come with eqspike."""
    return files.shipped("eqspike_seq", "presets")


def preset_settings(dataset: str, backend: str, preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings of a preset, the data set's own without a name: its common part, then those for the backend and
    for the neuron and the circuit that are ``given``, or else its own. Raises ConfigError."""
    for flag in ("dataset", "backend", "preset", "neuron", "circuit"):
        got = {**given, "dataset": dataset, "backend": backend, "preset": preset}.get(flag, "")
        if not isinstance(got, str):
            raise ConfigError(f"--{flag}: got {got!r}, expected a name")
    entry = DATASETS.get(dataset)
    name = preset or default_preset(dataset, backend, given)
    if name not in presets():
        raise ConfigError(f"--preset: got {name!r}, expected one of {', '.join(presets())}")
    parts = tomllib.loads((resources.files("eqspike_seq") / "presets" / f"{name}.toml").read_text())
    part = parts["dense"] if backend == "dense" else {**parts.get("spiking", {}), **parts.get(backend, {})}
    known = {} if entry is None else {"tokeniser": entry.tokeniser}
    found = {**known, **parts["common"], **{key: value for key, value in part.items() if not isinstance(value, dict)}}
    for choice in ("neuron", "circuit") if backend == "spiking" else ():
        found |= part.get(given.get(choice, found.get(choice)), {})
    return {**found, "dataset": dataset, "backend": backend, "preset": name}


def default_preset(dataset: str, backend: str, given: Mapping[str, Any]) -> str:
    """The preset of a data set on a backend, for the kind of network that is ``given``, if one is."""
    if dataset not in DATASETS:
        return OWN
    entry = DATASETS[dataset]
    tokens = given.get("network") == "tokens" or (backend == "brian2" and entry.inputs == 2)  # which has no token layer
    return entry.tokens if entry.tokens and tokens else entry.preset


def read_toml(path: Path) -> dict[str, Any]:
    """The flat settings of a TOML file, as saved in a run folder or written by hand, in tables or not.

    Raises ConfigError.
    """
    try:
        found = files.read_toml(path)
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--config: {path} is not TOML: {error}") from error
    if (version := found.pop("format", FORMAT)) != FORMAT:
        raise ConfigError(
            f"--config: {path} has format {version}, this eqspike reads format {FORMAT}. Train the run again."
        )
    return flattened(found)


def flattened(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of all tables of a TOML file; a choice that has the name of its table is in it."""
    settings: dict[str, Any] = {}
    for name, value in tables.items():
        settings |= value if isinstance(value, dict) else {name: value}
    return settings


def saved_by_a_run(path: Path) -> bool:
    """Whether a TOML file is a run's, which holds every setting, with ``format``; not one written by hand."""
    return "format" in files.read_toml(path)


def run_settings(run: Path) -> dict[str, Any]:
    """The flat settings of a run, by its folder, a zip of it or a model's name. Raises ConfigError where it is none."""
    run = opened(run)
    if not (run / "config.toml").is_file():
        raise ConfigError(
            f"{run} is no run folder (it has no config.toml). Give one that `eqspike run` wrote, or a zip of one."
        )
    return read_toml(run / "config.toml")
