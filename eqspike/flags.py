"""The settings of a run as flags, grouped by section: those that act with the given data set and backend."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import TypeAdapter, ValidationError

from eqspike.build import (
    BACKENDS,
    CHANGE_CIRCUITS,
    KINDS,
    NETWORKS,
    NEURONS,
    RATE_CIRCUITS,
    RULES,
    before_sizes,
    configured,
    every_kind,
    network_kind,
    refuse_idle,
)
from eqspike_seq.config.examples import SOURCES
from eqspike_seq.config.presets import read_toml, saved_by_a_run
from eqspike_seq.config.section import Section, Setting, explain, flat, settings_of
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.registry import DATASETS
from eqspike_seq.errors import ConfigError, DataError

Settings = Mapping[str, Any]
PLACED = ("dataset", "backend", "preset", "out", "resume")  # not taken over from a file of settings
DECIDING = (
    "network",
    "neuron",
    "rule",
    "circuit",
    "estimator",
    "embeddings",
    "attention",
    "text_column",
    "start",
)  # on others
HELP = {"-h", "--help"}


def choices() -> dict[str, Setting]:
    """The parts of a run that are chosen by name: their names, default and help."""

    def one_of(table: Iterable[str], default: str, about: str) -> Setting:
        return Setting(Literal[tuple(table)], default, about)

    return {
        "backend": one_of(
            BACKENDS,
            "dense",
            "dense: rate units, updated until they stop changing. spiking: the spiking neurons of --neuron. brian2: "
            "integrate-and-fire neurons in the simulator Brian2, slowly.",
        ),
        "network": one_of(
            NETWORKS,
            "tokens",
            "What sends queries to HopAttn. pooling: a few learnt queries, which look at all words and n-grams of a "
            "text. tokens: every token, with fixed word vectors, as in the paper. token-layer: every token, with a "
            "layer that compares it with what it has retrieved.",
        ),
        "neuron": one_of(
            NEURONS,
            "if",
            "if: integrate-and-fire. lif: leaky integrate-and-fire. bernoulli: stochastic. sigma-delta: fires only "
            "when its activation has changed.",
        ),
        "rule": one_of(
            RULES,
            "count",
            "What a synapse learns from. count: spike counts. trace: slow traces. eqspike: spikes times changes of the "
            "other side's trace. membrane: spike counts, corrected by the membrane potentials.",
        ),
        "circuit": one_of(
            RATE_CIRCUITS | CHANGE_CIRCUITS,
            "clocked",
            "How HopAttn is computed. clocked: by a digital softmax. wta: by a soft winner-take-all of spiking units.",
        ),
        "embeddings": Setting(
            str,
            "word2vec",
            "Word vectors to start from: word2vec (trained on the training texts), random, google-news, or a FILE.",
        ),
    }


def parse_run(arguments: list[str], checked: bool = True) -> RunConfig:
    """The settings of a run: those of the preset, overridden by --config or the resumed run, and then by flags.

    Raises ConfigError; if ``checked``, also for a flag, or a key of a hand-written --config file, without effect.
    """
    said = raw_flags(arguments)
    kept, by_hand = from_file(said)
    dataset = next((each.values[0] for each in typed(arguments) if each.name is None), None) or kept.get("dataset")
    if dataset is None and not HELP & set(arguments):
        raise ConfigError(
            f"the dataset is missing: expected one of {', '.join(DATASETS)}, or a file of texts, "
            "as the first argument: `eqspike run imdb` (a flag with several values also takes the arguments after it)"
        )
    dataset = str(dataset or next(iter(DATASETS)))
    backend, preset = (str(said.get(name) or kept.get(name) or "") for name in ("backend", "preset"))
    backend = backend or "dense"
    kept = {name: value for name, value in kept.items() if name not in PLACED}
    settings = before_flags(dataset, backend, preset, {**kept, **{n: said[n] for n in DECIDING if n in said}}, said)
    offered = {name: value for section in sections(settings).values() for name, (_, value) in section.items()}
    idle = {name: value for name, value in said.items() if name in everything() and name not in offered}
    if checked:
        refuse_idle(offered, {**by_hand, **idle})
    flags = tyro.cli(
        tyro.conf.OmitArgPrefixes[flags_for(settings)],  # type: ignore[misc]
        args=without(arguments, {"config", *idle}),
        prog="eqspike run",
        description="Train and test a network. Flags override --config FILE.toml, which overrides the preset.",
    )
    parsed = {name: value for section in vars(flags).values() for name, value in vars(section).items()}
    given = {name: value for name, value in parsed.items() if name in said}
    config = configured(dataset, backend, preset, {**kept, **given})
    if checked:
        refuse_idle(flat(config), {**by_hand, **given})
    return config


def from_file(said: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings of the --config file or of the resumed run, those of them that were written by hand)."""
    source, resumed = (said.get(name) for name in ("config", "resume"))
    if resumed not in (None, "auto") and (Path(str(resumed)) / "config.toml").is_file():
        if source is not None:
            raise ConfigError(
                "--config: got it with --resume RUN, which uses the settings of that run. Leave one of them out."
            )
        source = str(Path(str(resumed)) / "config.toml")
    if source is None:
        return {}, {}
    kept = read_toml(Path(source))
    if saved_by_a_run(Path(source)):
        return kept, {}
    if placed := [name for name in ("out", "resume") if name in kept]:
        raise ConfigError(f"--config: {source} has {placed[0]!r}, which acts on the command line only. Move it there.")
    return kept, {name: value for name, value in kept.items() if name not in PLACED}


def before_flags(dataset: str, backend: str, preset: str, asked: Settings, said: Settings) -> dict[str, Any]:
    """The flat settings before flags are read; of the flags, only those that decide which other settings there are.

    For help, also the settings that are chosen from your own texts, if these can be read.
    """
    if "help" in said or "h" in said:
        try:
            return flat(configured(dataset, backend, preset, asked))
        except (ConfigError, DataError):
            pass
    return before_sizes(dataset, backend, preset, asked) | dict(asked)


def sections(settings: Settings) -> dict[str, dict[str, tuple[Setting, Any]]]:
    """{section: {setting or choice: (what it is, its value or default)}} of a run under flat settings."""

    def inside(kind: type[Section]) -> dict[str, tuple[Setting, Any]]:
        found: dict[str, tuple[Setting, Any]] = {}
        for each in fields(kind):  # type: ignore[arg-type]
            if each.name in KINDS:
                if (inner := KINDS[each.name](settings)) is not None:
                    found |= chosen(each.name) | inside(inner)
            elif (setting := settings_of(kind).get(each.name)) is not None:
                found[each.name] = (setting, settings.get(each.name, setting.default))
        return found

    def chosen(name: str) -> dict[str, tuple[Setting, Any]]:
        return {name: (known[name], settings.get(name, known[name].default))} if name in known else {}

    known = choices()
    if "network" in known and not network_kind(settings).name:
        del known["network"]  # of images
    kinds = {each.name: KINDS[each.name](settings) for each in fields(RunConfig)}
    return {name: chosen(name) | inside(kind) for name, kind in kinds.items() if kind is not None}


def flags_for(settings: Settings) -> type:
    """A dataclass of dataclasses for tyro: the sections of a run, with their values as defaults."""
    groups = []
    for title, held in sections(settings).items():
        flags = []
        for name, (setting, value) in held.items():
            hint = "" if value is None else None  # the help says what happens then
            kind, about = setting.bare, tyro.conf.arg(help=" ".join(setting.help.split()), help_behavior_hint=hint)
            if name == "dataset":
                about = tyro.conf.arg(metavar="{" + ",".join(DATASETS) + "}|FILE|FOLDER", help=SOURCES)
                kind = tyro.conf.Positional[str]
            flags.append((name, Annotated[kind, about], field(default=checked_default(name, setting, value))))
        group = make_dataclass(title, flags)
        kind = KINDS[title](settings)
        group.__doc__ = " ".join((kind.__doc__ or "").split("\n\n")[0].split()).replace("``", "")
        groups.append((title, group, field(default_factory=group)))
    return make_dataclass("Run", groups)


def checked_default(name: str, setting: Setting, value: Any) -> Any:
    """A value of a preset or a file as its setting has it. Raises ConfigError."""
    if name == "dataset" or value is MISSING:
        return value
    try:
        return TypeAdapter(setting.kind).validate_python(value)
    except ValidationError as error:
        raise ConfigError(explain(error, name)) from error


def everything() -> dict[str, Setting]:
    """All settings and choices of all kinds of runs, by name."""
    return {name: setting for kind, _ in every_kind() for name, setting in settings_of(kind).items()} | choices()


@dataclass
class Typed:
    """A flag with its values; without a ``name``, an argument that belongs to no flag. ``words`` are as typed."""

    name: str | None
    values: list[str]
    words: list[str]


def typed(arguments: Iterable[str]) -> list[Typed]:
    """The arguments of a run by flag: each takes as many values as its setting has; one that nobody knows, none."""
    known, found = everything(), list[Typed]()
    takes: float = 0  # how many values the last flag still takes
    for argument in arguments:
        if argument.startswith("-") and not argument[1:2].isdigit():  # not a negative number
            flag, equals, value = argument.lstrip("-").partition("=")
            name = flag.replace("-", "_")
            setting = known.get(name)
            one = name == "config" or (setting is not None and setting.bare is not bool)
            takes = 0 if equals else math.inf if setting is not None and setting.several else int(one)
            found.append(Typed(name, [value] if equals else [], [argument]))
        elif takes:
            found[-1].values.append(argument)
            found[-1].words.append(argument)
            takes -= 1
        else:
            found.append(Typed(None, [argument], [argument]))
    return found


def raw_flags(arguments: Iterable[str]) -> dict[str, Any]:
    """{setting: as it was typed}: one value, a list of several, or True or False of --name or --no-name."""
    known, raw = everything(), dict[str, Any]()
    for each in typed(arguments):
        if each.name is None:
            continue
        plain = each.name.removeprefix("no_")
        if plain != each.name and plain in known:
            raw[plain] = False
        else:
            several = each.name in known and known[each.name].several
            raw[each.name] = each.values if several else each.values[0] if each.values else True
    return raw


def without(arguments: Iterable[str], names: Collection[str]) -> list[str]:
    """``arguments`` less the flags of these settings and their values."""
    kept = (each for each in typed(arguments) if not {each.name, (each.name or "").removeprefix("no_")} & set(names))
    return [word for each in kept for word in each.words]
