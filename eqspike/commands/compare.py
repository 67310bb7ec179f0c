"""``eqspike compare``: a verdict and tables of runs; the table, its numbers and the pictures in a folder."""

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from analysis.comparison import cells, compare, seeds
from analysis.energy import DIGITAL
from analysis.folders import finished_runs
from analysis.picture import as_csv
from analysis.pictures import draw_all
from analysis.summary import verdicts
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.files import write_bytes, write_json
from neuromorphic.pricing import read_table

SHORT = ("run", "what", "accuracy", "to dense", "inference", "training", "a synapse", "time", "memory", "steps")


@dataclass
class CompareFlags:
    """Compare runs: accuracy with intervals and tests, energy, spikes, time, memory; with pictures."""

    runs: tyro.conf.Positional[list[Path]]
    """Run folders, or zips of them. Damaged, unfinished or foreign ones are reported and left out."""
    out: Path = Path("comparison")
    """Folder for the table as CSV and JSON, and the pictures as SVG with their numbers as CSV."""
    hardware: str = DIGITAL
    """Cost table for the prices: a name, or your own TOML file."""


def main(arguments: list[str]) -> None:
    """Read, compare, print, draw. Raises ConfigError where no run is left."""
    flags = tyro.cli(CompareFlags, args=arguments, prog="eqspike compare")
    table = read_table(flags.hardware)
    runs, _ = finished_runs(flags.runs, "compare")
    rows, spread, console = compare(runs, table), seeds(runs), Console(highlight=False, markup=False, emoji=False)
    lines = [cells(row) for row in rows]
    for sentence in itertools.chain.from_iterable(verdicts(rows, table)):
        console.print(sentence)
    for title, columns in (("accuracy", (0, 1, 2, 3)), (f"energy on {table.title}, and time", (0, 4, 5, 6, 7, 8, 9))):
        shown = Table(box=None, pad_edge=False, title=title, title_justify="left")
        for column in columns:
            words = column < 2
            shown.add_column(SHORT[column], justify="left" if words else "right", no_wrap=not words, overflow="fold")
        for line in lines:
            shown.add_row(*(line[column] for column in columns))
        console.print("", shown)
    console.print(
        "inference, training: one text. a synapse: spikes per synapse and inference. steps: of its free phase."
    )
    console.print("(): 95 % interval. to dense: points; p is how often chance alone would part equal runs so far.")
    for group in spread:
        if group["seeds"] > 1:
            figures = f"{group['mean']:.2%} ± {group['standard_deviation']:.2%}, {group['seeds']} seeds"
            console.print(f"{group['label']} on {group['dataset']}: {figures}")
    records = [row.record() for row in rows]
    write_bytes(flags.out / "comparison.csv", as_csv(records))
    write_json(
        flags.out / "comparison.json", {"format": FORMAT, "hardware": table.name, "runs": records, "seeds": spread}
    )
    pictures = [picture.write(flags.out) for picture in draw_all(runs, table)]
    print(f"wrote comparison.csv, comparison.json and {len(pictures)} pictures to {flags.out}", file=sys.stderr)
