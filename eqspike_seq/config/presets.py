"""Where settings come from: a preset's common part, its parts for backend, neuron and circuit, a file, a run folder."""

import tomllib
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

from eqspike_seq import files
from eqspike_seq.config.settings import FORMAT, OWN, RunConfig
from eqspike_seq.data.registry import DATASETS
from eqspike_seq.errors import ConfigError

Made = TypeVar("Made")


def presets() -> list[str]:
    """Names of the presets that come with eqspike."""
    folder = resources.files("eqspike_seq") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def from_preset(dataset: str, backend: str, preset: str = "", **overrides: Any) -> RunConfig:
    """The preset's common part, those for backend, neuron and circuit, then ``overrides``. Raises ConfigError."""
    for flag in ("dataset", "backend", "preset", "neuron", "circuit"):
        got = {"dataset": dataset, "backend": backend, "preset": preset, **overrides}.get(flag, "")
        if not isinstance(got, str):
            raise ConfigError(f"--{flag}: got {got!r}, expected a name")
    name = preset or (DATASETS[dataset].preset if dataset in DATASETS else OWN)
    if name not in presets():
        raise ConfigError(f"--preset: got {name!r}, expected one of {', '.join(presets())}")
    text = (resources.files("eqspike_seq") / "presets" / f"{name}.toml").read_text()
    parts = tomllib.loads(text)
    part = parts[backend] if backend == "dense" else {**parts["spiking"], **parts.get(backend, {})}
    neuron = overrides.get("neuron", part.get("neuron", RunConfig.model_fields["neuron"].default))
    common = {key: value for key, value in part.items() if not isinstance(value, dict)}
    circuit = overrides.get("circuit", part.get("circuit", RunConfig.model_fields["circuit"].default))
    known = {"tokeniser": DATASETS[dataset].tokeniser} if dataset in DATASETS else {}
    settings = {**known, **parts["common"], **common, **part.get(neuron, {}), **part.get(circuit, {}), **overrides}
    return RunConfig(**{**settings, "dataset": dataset, "backend": backend, "preset": name})


def read_toml(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, as saved in a run folder or written by hand. Raises ConfigError."""
    try:
        settings = files.read_toml(path)
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--config: {path} is not TOML: {error}") from error
    settings = as_saved(settings)
    if (version := settings.pop("format", FORMAT)) != FORMAT:
        raise ConfigError(f"--config: {path} has format {version}, this eqspike reads format {FORMAT}")
    return settings


def as_saved(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings read from TOML, with what was not yet a setting when a run folder (which says its format) saved them."""
    return {"tokeniser": "ascii", **settings} if "format" in settings else settings


def saved_by_a_run(path: Path) -> bool:
    """Whether a TOML file is a run's, which holds every setting, with ``format``; not one written by hand."""
    return "format" in files.read_toml(path)


def settings_of(run: Path) -> dict[str, Any]:
    """The settings of a run folder. Raises ConfigError where it is none."""
    if not (run / "config.toml").is_file():
        raise ConfigError(f"{run} is no run folder (it has no config.toml). Give one that `eqspike run` wrote.")
    return read_toml(run / "config.toml")


def filled(kind: type[Made], config: RunConfig, **given: Any) -> Made:
    """A dataclass with ``given`` and, for its other fields, the settings of the same names."""
    names = [field.name for field in fields(cast(Any, kind)) if hasattr(config, field.name)]
    return kind(**{**{name: getattr(config, name) for name in names}, **given})
