"""A setting that is given and has no effect with the others is a mistake, which a run must not pass over."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eqspike_seq.config.examples import name_of
from eqspike_seq.config.section import Section, as_flag, settings_of
from eqspike_seq.errors import ConfigError

Conditions = Sequence[tuple[type[Section], str]]  # kinds of sections, and what brings each about
CHOICES = {  # and what each needs
    "backend": "",
    "embeddings": "texts",
    "network": "texts",
    "neuron": "--backend spiking",
    "rule": "--backend spiking",
    "circuit": "--backend spiking",
}
SPIKING = re.compile(r"(a )?--(neuron|rule|circuit)\b")  # needs that themselves need --backend spiking


def refuse(settings: Mapping[str, Any], given: Mapping[str, Any], conditions: Conditions) -> None:
    """Raises ConfigError that names each setting of ``given`` that is not among the ``settings`` that act, and what it
    needs."""
    lines = []
    for name, value in given.items():
        if name in settings or value is None:  # None is what a setting that nobody gives would have
            continue
        said = " ".join(as_flag(name, value))
        if (alternatives := needs_of(name, settings, conditions)) is None:
            lines.append(f"unknown setting {name!r}; `eqspike run --help` lists all settings")
            continue
        needed = joined(alternatives)
        flags = dict.fromkeys(flag.replace("-", "_") for flag in re.findall(r"--([a-z-]+)", needed))
        got = ", ".join(" ".join(as_flag(flag, settings[flag])) for flag in flags if flag in settings)
        typed = needed.startswith("--") and needed.islower() and not re.search(" (or|without|above) ", needed)
        remedy = f"Add {needed} or leave it out." if typed else "Leave it out."
        lines.append(f"{said}: acts with {needed} only; got {got or name_of(settings['dataset'])}. {remedy}")
    if lines:
        raise ConfigError("\n".join(lines))


def needs_of(name: str, settings: Mapping[str, Any], conditions: Conditions) -> list[str] | None:
    """The alternatives that would let a setting or a choice act under ``settings``; None where it is neither."""
    found = conditions_of(name, conditions)
    if not found:
        return None
    needs = (settings_of(kind)[name].needs for kind, _ in conditions if name in settings_of(kind))
    unmet = [one.needed for one in needs if one is not None and not one.holds(settings)]
    found = list(dict.fromkeys(unmet)) or found
    if name == "circuit" and settings["backend"] == "spiking":
        return ["--attention" if "attention" in settings else "texts"]
    if found[0].startswith("--network") and "network" not in settings:
        return ["texts"]
    if settings["backend"] != "spiking" and SPIKING.match(found[0]):
        return [f"--backend spiking {'and ' if found[0].startswith('a ') else ''}{found[0]}"]
    return found


def conditions_of(name: str, conditions: Conditions) -> list[str]:
    """The alternatives that bring a setting or a choice about, in words; [""] for one of every run."""
    if name in CHOICES:
        return [CHOICES[name]]
    homes = [(kind, text) for kind, text in conditions if name in settings_of(kind)]
    first = [text for kind, text in homes if not any(other in kind.__mro__[1:] for other, _ in homes)]
    return list(dict.fromkeys(first))


def joined(alternatives: Sequence[str]) -> str:
    """``--rule trace or eqspike`` of ``--rule trace`` and ``--rule eqspike``."""
    first, *others = alternatives
    flag = first.split(" ")[0]
    return " or ".join([first, *(other.removeprefix(f"{flag} ") for other in others)])
