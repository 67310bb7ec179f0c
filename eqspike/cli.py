"""The command line: parse, call, print. Heavy imports happen inside the command that needs them."""

import sys
from typing import NoReturn

COMMANDS = {
    "run": "train and test a network on a data set",
    "rerun": "repeat a run from its folder and check that the result is identical, bit for bit",
    "predict": "classify texts with a trained network, and say why",
    "models": "list the models that come with eqspike",
    "sweep": "repeat a run with settings varied: grid or random search, resumable",
    "robustness": "measure accuracy on imperfect hardware, before and after training in place",
    "check": "check the gradients or the convergence of a network",
    "energy": "price a run on named hardware and compare it with dense EP",
    "compare": "compare runs: accuracy, energy, spikes, time; with pictures",
    "table": "print a table of the paper with your runs in it",
    "report": "write an HTML report on runs: verdict, tables, pictures, sample texts",
    "export": "write a run as one file, or export its network: NIR, or weights with a description",
    "data": "list data sets and where they are",
    "env": "print versions, cores, devices and available data",
}


def main() -> None:
    """Entry point of ``eqspike``; exits with 2 after a mistake in what was given, 130 after Ctrl-C."""
    from eqspike_seq.errors import EqspikeError

    arguments = sys.argv[1:]
    command = parse_command(arguments)
    try:
        dispatch(command, arguments[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        _drop_output()
    except OSError as error:
        _drop_output()
        place, reason = error.filename or "the output", error.strerror or error
        _end(f"cannot read or write {place}: {reason}. Mend that or name another place.", 2)
    except UnicodeEncodeError as error:
        _drop_output()
        part = ascii(error.object[error.start : error.end])
        advice = "If it is in the name of a file or folder, rename that; if in what is printed, set PYTHONUTF8=1."
        _end(f"cannot write {part} as {error.encoding}. {advice}", 2)
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


def dispatch(command: str, arguments: list[str]) -> None:
    """Call the command; only its own modules are imported."""
    match command:
        case "run":
            from eqspike.commands.run import main as call
        case "rerun":
            from eqspike.commands.rerun import main as call
        case "predict":
            from eqspike.commands.predict import main as call
        case "models":
            from eqspike.commands.models import main as call
        case "sweep":
            from eqspike.commands.sweep import main as call
        case "robustness":
            from eqspike.commands.robustness import main as call
        case "check":
            from eqspike.commands.check import main as call
        case "energy":
            from eqspike.commands.energy import main as call
        case "compare":
            from eqspike.commands.compare import main as call
        case "table":
            from eqspike.commands.table import main as call
        case "report":
            from eqspike.commands.report import main as call
        case "export":
            from eqspike.commands.export import main as call
        case "data":
            from eqspike.commands.data import main as call
        case "env":
            from eqspike.commands.env import main as call
    call(arguments)
