"""The command that makes a run, from its settings."""

import shlex
from typing import Any

from analysis.folders import Run
from eqspike_seq.config.acting import as_flag, unmet
from eqspike_seq.config.presets import from_preset
from eqspike_seq.config.settings import WHERE, RunConfig
from eqspike_seq.errors import ConfigError


def command(run: Run) -> str:
    """As reports show it; a sentence where this version cannot read the settings."""
    try:
        return command_of(run.saved)
    except ConfigError:
        return "settings of another version; see config.toml"


def command_of(settings: dict[str, Any]) -> str:
    """The shortest command with the settings of a config.toml: what its preset does not say. Raises ConfigError."""
    config = RunConfig(**{name: value for name, value in settings.items() if name != "format"})
    chosen = {name: getattr(config, name) for name in ("neuron", "circuit")}
    base = from_preset(config.dataset, config.backend, config.preset).model_dump()
    flags = [name for name, value in chosen.items() if value != base[name]]
    parts = [config.dataset, "--backend", config.backend]
    for name in flags:
        parts += [f"--{name}", str(chosen[name])]
    preset = from_preset(config.dataset, config.backend, config.preset, **{name: chosen[name] for name in flags})
    kept = preset.model_dump(mode="json")
    for name, value in config.model_dump(mode="json").items():
        if name not in (*WHERE, *flags) and value != kept[name] and not unmet(config, name):
            parts += as_flag(name, value)
    return "eqspike run " + shlex.join(parts)
