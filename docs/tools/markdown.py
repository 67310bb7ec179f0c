"""Tables in Markdown, and the result files that they are filled from."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "results"


def read(name: str) -> dict[str, Any]:
    """A JSON file of results/."""
    found: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return found


def row_of(cells: Iterable[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], text: Sequence[int]) -> str:
    """A table whose columns hold figures, right-aligned, but for those at ``text``."""
    heads = list(heads)
    ruler = ("---" if place in text else "---:" for place in range(len(heads)))
    return "\n".join([row_of(heads), row_of(ruler), *(row_of(cells) for cells in rows)])
