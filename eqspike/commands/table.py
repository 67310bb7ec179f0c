"""``eqspike table 1|2|3``: a table of the paper, its rows as published, ours as measured."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from analysis.folders import finished_runs, groups
from analysis.paper import TITLES, accuracies, costs, settings
from eqspike_seq.errors import ConfigError


@dataclass
class TableFlags:
    """Print a table of the paper with your runs as additional rows. Published rows are marked."""

    number: tyro.conf.Positional[int]
    """1: accuracy. 2: settings. 3: memory and inference time."""
    runs: tyro.conf.Positional[list[Path]]
    """Run folders."""


def main(arguments: list[str]) -> None:
    """Print it. Raises ConfigError for another number, or where no run is left."""
    flags = tyro.cli(TableFlags, args=arguments, prog="eqspike table")
    if flags.number not in TITLES:
        raise ConfigError(f"table: got {flags.number}, expected 1, 2 or 3")
    runs, _ = finished_runs(flags.runs, "table")
    heads, rows = {1: accuracies, 2: settings, 3: costs}[flags.number](groups(runs))
    table = Table(*heads, title=TITLES[flags.number], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False, emoji=False).print(table)
