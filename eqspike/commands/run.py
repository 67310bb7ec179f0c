"""``eqspike run``: train and test a network on a data set."""

import argparse
from pathlib import Path
from typing import get_origin

import tyro

from eqspike_seq.config.acting import check_given, named_in
from eqspike_seq.config.presets import from_preset, read_toml, saved_by_a_run
from eqspike_seq.config.settings import BACKENDS, CIRCUITS, NEURONS, RunConfig
from eqspike_seq.data.own import sizes_for
from eqspike_seq.data.registry import DATASETS
from eqspike_seq.errors import ConfigError
from eqspike_seq.learning.parallel import join

PLACED = ("dataset", "backend", "preset", "out", "resume")  # not taken over from a file of settings


def main(arguments: list[str]) -> None:
    """``eqspike run DATASET [--flags]``, in one process or in each of several that torchrun has started."""
    job = join()
    config = job.first(parse_run, arguments)
    from eqspike.build import run
    from eqspike_seq.progress import Reporter

    reporter = Reporter(quiet=job.rank > 0)
    with job.stoppable():
        reporter.result(run(config, reporter, job))
    job.leave()


def parse_run(arguments: list[str], checked: bool = True) -> RunConfig:
    """The configuration of a run: preset, then --config or the resumed run's own, then flags; checked as a whole.

    Raises ConfigError, if ``checked`` also for a flag, or a key of a --config file written by hand, without effect.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--backend", "--neuron", "--circuit", "--preset", "--config", "--resume"):
        first.add_argument(flag)
    given, _ = first.parse_known_args(arguments)
    source = Path(given.config) if given.config else None
    resumed = given.resume not in (None, "auto") and (Path(given.resume) / "config.toml").is_file()
    if resumed and source is not None:
        raise ConfigError(
            "--config: got it with --resume RUN, which has the settings of that run. Leave one of them out."
        )
    if resumed:
        source = Path(given.resume) / "config.toml"
    settings = {} if source is None else read_toml(source)
    keys = [] if source is None or saved_by_a_run(source) else list(settings)
    if placed := [name for name in ("out", "resume") if name in keys]:
        raise ConfigError(f"--config: {source} has {placed[0]!r}, which acts on the command line only. Move it there.")
    dataset = _positional(arguments) or settings.get("dataset")
    if dataset is None and not {"-h", "--help"} & set(arguments):
        raise ConfigError(
            f"the dataset is missing: expected one of {', '.join(DATASETS)}, or a file of texts, "
            "as the first argument: `eqspike run imdb` (a flag with several values takes all that follows it)"
        )
    backend = given.backend if given.backend in BACKENDS else settings.get("backend", BACKENDS[0])
    preset = given.preset or settings.get("preset", "")
    settings = {name: value for name, value in settings.items() if name not in PLACED}
    for name, value, known in (("neuron", given.neuron, NEURONS), ("circuit", given.circuit, CIRCUITS)):
        if value in known:  # a preset has a part for it
            settings[name] = value
    config = _with_flags(arguments, from_preset(dataset or next(iter(DATASETS)), backend, preset, **settings))
    if sizes := sizes_for(config):
        config = _with_flags(arguments, from_preset(config.dataset, backend, preset, **{**sizes, **settings}))
    if checked:
        check_given(config, {*keys, *named_in(arguments)})
    return config


def _with_flags(arguments: list[str], base: RunConfig) -> RunConfig:
    """``base`` with what is given on the command line."""
    config: RunConfig = tyro.cli(
        RunConfig,
        args=_without(arguments, "--config"),
        default=base,
        prog="eqspike run",
        description="Train and test a network; flags override --config FILE.toml, which overrides the preset.",
    )
    return config


def _positional(arguments: list[str]) -> str | None:
    """The first argument that is neither a flag nor the value of one."""
    values = 0  # how many the last flag still takes
    for argument in arguments:
        if argument.startswith("-"):
            field = RunConfig.model_fields.get(argument.lstrip("-").replace("-", "_"))
            kind = bool if field is None else field.annotation
            values = len(arguments) if get_origin(kind) is tuple else int(kind is not bool or argument == "--config")
        elif values == 0:
            return argument
        else:
            values -= 1
    return None


def _without(arguments: list[str], flag: str) -> list[str]:
    """``arguments`` less ``flag`` and its value."""
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == flag:
            skip = True
        elif not argument.startswith(flag + "="):
            kept.append(argument)
    return kept
