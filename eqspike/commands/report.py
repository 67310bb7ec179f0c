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
    """Write a report that people want to read: verdict first, then tables, pictures and single texts."""

    runs: tyro.conf.Positional[list[Path]]
    """Run folders, or zips of them. Those that are broken, unfinished or not of eqspike are named and left out."""
    out: Path = Path("report.html")
    """The file."""
    hardware: str = DIGITAL
    """The cost table that prices the runs: a name, or a TOML file of your own."""
    open: bool = False
    """Open it in the browser."""


def main(arguments: list[str]) -> None:
    """Read, draw, write. Raises ConfigError where no run is left."""
    flags = tyro.cli(ReportFlags, args=arguments, prog="eqspike report")
    runs, left_out = finished_runs(flags.runs, "report")
    write_bytes(flags.out, page(runs, left_out, flags.hardware, command).encode())
    print(f"wrote {flags.out}", file=sys.stderr)
    if flags.open:
        webbrowser.open(flags.out.resolve().as_uri())
