"""The tables of docs/reproduce.md: every file of results/ with the command that makes it, and where it was made."""

from collections.abc import Iterable

from analysis.folders import Json, open_run
from docs.tools.markdown import CHECKS, FIGURES, RESULTS, read, table
from eqspike.provenance import command_of

MACHINE = ("commit", "processor", "threads")


def runs() -> str:
    """Every run of results/, in the order of the alphabet."""
    rows = []
    for folder in sorted(path.parent for path in RESULTS.glob("*/result.json")):
        run = open_run(folder)
        cells = (
            f"[{run.name}](../results/{run.name}/result.json)",
            f"`{command_of(run.saved)}`",
            str(run.result.seed),
            *machine(read(f"{run.name}/environment.json")),
            f"{run.result.train_seconds / 60:.1f} min",
        )
        rows.append(cells)
    return table(("run", "command", "seed", *MACHINE, "training"), rows, text=(0, 1, 3, 4))


def figures() -> str:
    """Files that no single run makes."""
    return _files((name, f"{command} --json results/{name}") for name, command in FIGURES.items())


def checks() -> str:
    """What ``eqspike check`` and ``eqspike robustness`` found."""
    return _files(CHECKS.items())


def _files(commands: Iterable[tuple[str, str]]) -> str:
    rows = []
    for name, command in commands:
        where = machine(read(name).get("environment", {}))
        rows.append((f"[{name.removesuffix('.json')}](../results/{name})", f"`{command}`", *where))
    return table(("file", "command", *MACHINE), rows, text=(0, 1, 2, 3))


def machine(environment: Json) -> tuple[str, ...]:
    """Where something was made, as far as its file says."""
    known = {**environment, "commit": (environment.get("commit") or "–")[:10]}
    return tuple(str(known.get(name, "–")) for name in MACHINE)
