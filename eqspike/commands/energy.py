"""``eqspike energy``: price what a run counted on named hardware, beside dense EP."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from analysis.energy import energy
from analysis.energy_report import DEFAULT, draw, write_csv
from analysis.energy_text import show
from eqspike_seq.errors import ConfigError
from eqspike_seq.files import write_json
from neuromorphic.pricing import names, read_table


@dataclass
class EnergyFlags:
    """Price a run on named hardware, compare it with dense EP, and say whether spiking saves energy."""

    run: tyro.conf.Positional[Path]
    """A run folder, a zip of one, or the name of a model that comes with eqspike."""
    hardware: tuple[str, ...] = DEFAULT
    """Cost tables: names, or your own TOML files."""
    against: Path | None = None
    """Dense run of the same network to compare with. Default: the dense backend with the same weights."""
    classifiers: Path | None = None
    """File with the accuracies of cheap classifiers, written by `python -m benchmarks.baselines`."""
    verbose: bool = False
    """Print ranges, parts, sources, GPUs and a verdict for each hardware too."""
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the content of energy.json."""


def main(arguments: list[str]) -> None:
    """``eqspike energy``: read, price and print; energy.json, energy.csv and pictures go into the run folder, if it is
    one."""
    flags = tyro.cli(EnergyFlags, args=arguments, prog="eqspike energy")
    if not flags.hardware:
        raise ConfigError(f"--hardware: got nothing, expected one or more of {', '.join(names())}, or TOML files")
    tables = [read_table(name) for name in flags.hardware]
    report = energy(flags.run, tables, flags.against, flags.classifiers)
    written: list[Path] = []
    if flags.run.is_dir():
        write_json(flags.run / "energy.json", report)
        write_csv(flags.run, tables, flags.run / "energy.csv")
        written = [flags.run / "energy.json", flags.run / "energy.csv", *draw(report, flags.run)]
    if flags.json_output:
        print(json.dumps(report, indent=2))
    else:
        show(report, Console(highlight=False, markup=False, emoji=False), flags.verbose)
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
