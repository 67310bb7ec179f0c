"""The command line: parse, call, print. Heavy imports happen inside the command that needs them."""

import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from eqspike_seq.config import RunConfig

PLACED = ("dataset", "backend", "preset", "out", "resume")  # not taken over from a file of settings
COMMANDS = {
    "run": "train and test a network on a data set",
    "rerun": "repeat a run from its folder, and say whether it came to the same, bit for bit",
    "predict": "answer to a text, or to the lines of a file or of standard input",
    "sweep": "many runs with settings varied: grid or random search, resumable, shared between processes",
    "check": "measure gradients or convergence of a run or a preset",
    "energy": "price a run's events on named hardware, beside dense EP",
    "compare": "put runs side by side: accuracy, energy, spikes, time; and pictures",
    "table": "print a table of the paper with your runs in it",
    "report": "write one HTML file about runs: verdict, tables, pictures, single texts",
    "export": "write a run's network for other tools: NIR, or weights with a description",
    "data": "list data sets, and where each is or would be found",
    "env": "print versions, cores, devices and found data",
}


def main() -> None:
    """Entry point of ``eqspike``; exits with 2 after a mistake in what was given, 130 after Ctrl-C."""
    from eqspike_seq.errors import EqspikeError

    arguments = sys.argv[1:]
    command = parse_command(arguments)
    try:
        globals()[command](arguments[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        _drop_output()
    except OSError as error:
        _drop_output()
        place, reason = error.filename or "the output", error.strerror or error
        _end(f"cannot read or write {place}: {reason}. Mend that or name another place.", 2)
    except EqspikeError as error:
        _end(str(error), 2)
    except KeyboardInterrupt:
        how = "with --resume auto" if command == "run" else "by the same command"
        _end(f"interrupted; continue {how}", 130)


def _end(message: str, code: int) -> NoReturn:
    """Say why, where that can be said, and exit."""
    from contextlib import suppress

    with suppress(OSError):  # its disk may be full too
        print(f"eqspike: {message}", file=sys.stderr)
    sys.exit(code)


def _drop_output() -> None:
    """What is still to be printed goes nowhere, so that Python does not try it once more at its end."""
    import os
    from contextlib import suppress

    with suppress(OSError):  # no real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse_command(arguments: list[str]) -> str:
    """The first argument as a command; help and mistakes end here."""
    import argparse
    from importlib.metadata import version

    parser = argparse.ArgumentParser(
        prog="eqspike", description="Train text classifiers with Equilibrium Propagation, dense or on spiking neurons."
    )
    parser.add_argument("--version", action="version", version=f"eqspike {version('eqspike')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    parsed, _ = parser.parse_known_args(arguments[:1] if arguments else [])
    return str(parsed.command)


def run(arguments: list[str]) -> None:
    """``eqspike run DATASET [--flags]``, in one process or in each of several that torchrun has started."""
    from eqspike_seq.parallel import join

    job = join()
    config = job.first(parse_run, arguments)
    from eqspike_seq.progress import Reporter
    from eqspike_seq.training import run as train

    reporter = Reporter(quiet=job.rank > 0)
    with job.stoppable():
        reporter.result(train(config, reporter, job))
    job.leave()


def parse_run(arguments: list[str], checked: bool = True) -> "RunConfig":
    """The configuration of a run: preset, then --config or the resumed run's own, then flags; checked as a whole.

    Raises ConfigError, if ``checked`` also for a flag, or a key of a --config file written by hand, without effect.
    """
    import argparse
    from pathlib import Path

    from eqspike_seq.acting import check_given, named_in
    from eqspike_seq.config import BACKENDS, CIRCUITS, DATASETS, NEURONS, from_preset, read_toml, saved_by_a_run
    from eqspike_seq.errors import ConfigError

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
            "as the first argument: `eqspike run imdb`"
        )
    backend = given.backend if given.backend in BACKENDS else settings.get("backend", BACKENDS[0])
    preset = given.preset or settings.get("preset", "")
    settings = {name: value for name, value in settings.items() if name not in PLACED}
    for name, value, known in (("neuron", given.neuron, NEURONS), ("circuit", given.circuit, CIRCUITS)):
        if value in known:  # a preset has a part for it
            settings[name] = value
    config = _with_flags(arguments, from_preset(dataset or DATASETS[0], backend, preset, **settings))
    config = _sized(arguments, config, settings)
    if checked:
        check_given(config, {*keys, *named_in(arguments)})
    return config


def _sized(arguments: list[str], config: "RunConfig", settings: dict[str, Any]) -> "RunConfig":
    """``config`` with sizes that are chosen from texts of one's own, where ``settings`` and flags leave them open."""
    from pathlib import Path

    from eqspike_seq.config import DATASETS, OWN, from_preset

    if config.preset != OWN or config.dataset in DATASETS:
        return config
    from eqspike_seq.data.own import sizes_of

    own = Path(config.dataset), config.text_column, config.label_column, config.strict, config.tokeniser
    sizes = sizes_of(*own)
    if len(config.hidden) != len(sizes["hidden"]):  # the preset's one rate for all layers
        del sizes["learning_rate"]
    chosen = from_preset(config.dataset, config.backend, config.preset, **{**sizes, **settings})
    return _with_flags(arguments, chosen)


def _with_flags(arguments: list[str], base: "RunConfig") -> "RunConfig":
    """``base`` with what is given on the command line."""
    import tyro

    from eqspike_seq.config import RunConfig

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
    from typing import get_origin

    from eqspike_seq.config import RunConfig

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


def rerun(arguments: list[str]) -> None:
    """``eqspike rerun RUN [--flags]``, in as many processes as the run had; exits with 1 where something differs."""
    from eqspike_seq.parallel import join

    job = join()
    from analysis.rerun import report
    from eqspike_seq.progress import Reporter
    from eqspike_seq.rerun import prepare
    from eqspike_seq.rerun import rerun as repeat

    before = job.first(prepare, arguments, job.size)
    with job.stoppable():
        after = repeat(before, Reporter(quiet=job.rank > 0), job)
    code = job.first(report, before.path, after, before.changed)
    job.leave(code)
    sys.exit(code)


def predict(arguments: list[str]) -> None:
    """``eqspike predict RUN [TEXT] [--flags]``."""
    from analysis.predict import main

    main(arguments)


def sweep(arguments: list[str]) -> None:
    """``eqspike sweep DATASET --vary … [--flags]``."""
    import tyro

    from eqspike_seq.progress import Reporter
    from eqspike_seq.sweep import SweepFlags
    from eqspike_seq.sweep import sweep as run_all

    flags, others = tyro.cli(SweepFlags, args=arguments, prog="eqspike sweep", return_unknown_args=True)
    found = run_all(flags, parse_run, others, Reporter())
    from analysis.sweep import main

    main(found)


def check(arguments: list[str]) -> None:
    """``eqspike check gradients|convergence [RUN] [--flags]``."""
    from analysis.checks import pictures
    from eqspike_seq.checks import check as examine

    name, found, folder = examine(arguments)
    for picture in pictures(name, found):
        print(f"wrote {picture.write(folder)}", file=sys.stderr)


def energy(arguments: list[str]) -> None:
    """``eqspike energy RUN [--flags]``."""
    from analysis.energy_report import main

    main(arguments)


def compare(arguments: list[str]) -> None:
    """``eqspike compare RUN RUN … [--flags]``."""
    from analysis.compare import main

    main(arguments)


def table(arguments: list[str]) -> None:
    """``eqspike table 1|2|3 RUN …``."""
    from analysis.paper import main

    main(arguments)


def report(arguments: list[str]) -> None:
    """``eqspike report RUN [RUN …] [--flags]``."""
    from analysis.report import main

    main(arguments)


def export(arguments: list[str]) -> None:
    """``eqspike export RUN --format nir|safetensors --out FILE``."""
    from eqspike_seq.export import export as write

    write(arguments)


def data(arguments: list[str]) -> None:
    """``eqspike data [--data-dir DIR]``."""
    from eqspike_seq.inspection import show_data

    show_data(arguments)


def env(arguments: list[str]) -> None:
    """``eqspike env``."""
    from eqspike_seq.inspection import show_environment

    show_environment(arguments)
