"""``eqspike report``: one HTML file about runs."""

import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from analysis.energy import DIGITAL
from analysis.folders import finished_runs
from analysis.report import page
from eqspike.provenance import command
from eqspike_seq.files import write_bytes


@dataclass
class ReportFlags:
    """Write an HTML report on runs: the verdict, then tables, pictures and sample texts."""

    runs: tyro.conf.Positional[list[Path]]
    """Run folders, or zips of them. Damaged, unfinished or foreign ones are reported and left out."""
    out: Path = Path("report.html")
    """The HTML file."""
    hardware: str = DIGITAL
    """Cost table for the prices: a name, or your own TOML file."""
    open: bool = False
    """Open the report in the browser."""


def main(arguments: list[str]) -> None:
    """Read, draw, write. Raises ConfigError where no run is left."""
    flags = tyro.cli(ReportFlags, args=arguments, prog="eqspike report")
    runs, left_out = finished_runs(flags.runs, "report")
    write_bytes(flags.out, page(runs, left_out, flags.hardware, command).encode())
    print(f"wrote {flags.out}", file=sys.stderr)
    if flags.open:
        webbrowser.open(flags.out.resolve().as_uri())
