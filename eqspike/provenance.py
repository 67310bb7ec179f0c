"""The command that makes a run, from its settings."""

import shlex
from typing import Any

from analysis.folders import Run
from eqspike.build import KINDS
from eqspike_seq.config.presets import default_preset, preset_settings
from eqspike_seq.config.section import as_flag, flat, made
from eqspike_seq.config.settings import WHERE, RunConfig
from eqspike_seq.errors import ConfigError

LEFT_OUT = {*WHERE, "precision", "backend"}


def command(run: Run) -> str:
    """As reports show it; a sentence where this version cannot read the settings."""
    try:
        return command_of(run.saved)
    except ConfigError:
        return "settings of another version; see config.toml"


def command_of(saved: dict[str, Any]) -> str:
    """The shortest command with these flat settings: what its preset does not say. Raises ConfigError.

    The precision is left out, which a run chooses to suit its machine.
    """
    config = made(RunConfig, saved, KINDS)
    settings, (dataset, backend, preset) = flat(config), (config.data.dataset, config.backend.name, config.run.preset)
    named = of_preset(dataset, backend, preset, {})
    chosen: dict[str, Any] = {} if preset == default_preset(dataset, backend, {}) else {"preset": preset}
    for name in ("neuron", "circuit"):  # a preset has a part for each
        if name in settings and settings[name] != named.get(name):
            chosen[name] = settings[name]
    preset_has = of_preset(dataset, backend, preset, {n: v for n, v in chosen.items() if n != "preset"})
    changed = {
        name: value for name, value in settings.items() if name not in LEFT_OUT and value != preset_has.get(name)
    }
    flags = [flag for name, value in {**chosen, **changed}.items() for flag in as_flag(name, value)]
    return "eqspike run " + shlex.join([dataset, *([] if backend == "dense" else ["--backend", backend]), *flags])


def of_preset(dataset: str, backend: str, preset: str, given: dict[str, Any]) -> dict[str, Any]:
    """The flat settings of a preset with those ``given``; nothing is chosen from texts, which may be gone."""
    return flat(made(RunConfig, {**preset_settings(dataset, backend, preset, given), **given}, KINDS))
