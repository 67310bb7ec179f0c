"""``eqspike env``: versions, cores, devices and found data, to paste into a report of a fault."""

import json
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from eqspike_seq.data.registry import DATASETS
from eqspike_seq.runs.environment import environment


def main(arguments: list[str]) -> None:
    """Versions, cores, devices and found data, to paste into a report of a fault."""

    def env(json_output: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
        """Print versions, cores, devices and available data.

        Args:
            json_output: Print JSON.
        """
        known: dict[str, Any] = environment()
        for name, dataset in DATASETS.items():
            if dataset.find is not None:
                found = dataset.find(None)
                known[name] = f"{found.kind} in {found.path}" if found else "not found"
        if json_output:
            print(json.dumps(known, indent=2))
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, value in {**known.pop("versions"), **known}.items():
            table.add_row(name, ", ".join(value) or "none" if isinstance(value, list) else str(value))
        Console(highlight=False, markup=False, emoji=False).print(table)

    tyro.cli(env, args=arguments, prog="eqspike env")
