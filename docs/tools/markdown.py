"""Tables in Markdown, the result files that they are filled from, and the index of these, results/index.toml."""

import json
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from analysis.folders import Run, open_run

RESULTS = Path(__file__).parents[2] / "results"
INDEX = tomllib.loads((RESULTS / "index.toml").read_text())
FIGURES, CHECKS = (
    {name: command for name, command in INDEX["commands"].items() if name.startswith("checks/") == checks}
    for checks in (False, True)
)  # commands by file


def read(name: str) -> dict[str, Any]:
    """A JSON file of results/."""
    found: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return found


def runs_of(name: str) -> list[Run]:
    """The runs of a table, in its order."""
    return [open_run(RESULTS / folder) for folder in INDEX["tables"][name]]


def label_of(run: Run) -> str:
    """What a table calls a run: its label, and what that leaves out."""
    return ", ".join(filter(None, (run.label, INDEX["notes"].get(run.name))))


def row_of(cells: Iterable[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], text: Sequence[int]) -> str:
    """A table whose columns hold figures, right-aligned, but for those at ``text``."""
    heads = list(heads)
    ruler = ("---" if place in text else "---:" for place in range(len(heads)))
    return "\n".join([row_of(heads), row_of(ruler), *(row_of(cells) for cells in rows)])
