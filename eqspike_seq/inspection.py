"""``eqspike data`` and ``eqspike env``: what is here, and what would be used."""

import json
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table


def show_data(arguments: list[str]) -> None:
    """A row for each data set: where it was found, or where it would be looked for."""
    from eqspike_seq.data.imdb import find_imdb
    from eqspike_seq.data.locate import search_places
    from eqspike_seq.data.mnist import find_mnist
    from eqspike_seq.data.snli import find_snli

    def data(data_dir: Path | None = None) -> None:
        """List data sets and where each is or would be found.

        Args:
            data_dir: Look here first.
        """
        places = ", ".join(f"{name} {path}" for name, path in search_places(data_dir))
        table = Table(box=None, pad_edge=False)
        for heading in ("data set", "what", "where"):
            table.add_column(heading, overflow="fold")
        for name, what, find, size in (
            ("imdb", "25,000 + 25,000 film reviews, 50,000 unlabelled (Maas et al. 2011)", find_imdb, "84 MB"),
            ("snli", "550,000 + 10,000 + 10,000 pairs of sentences (Bowman et al. 2015)", find_snli, "95 MB"),
            ("mnist", "60,000 + 10,000 digits of 28 × 28 pixels (LeCun et al. 1998)", find_mnist, "12 MB"),
        ):
            found = find(data_dir)
            absent = f"not found in {places}; would be downloaded to the cache ({size})"
            table.add_row(name, what, f"found: {found.kind} in {found.path} ({found.place})" if found else absent)
        table.add_row("mini", "2,000 + 500 + 500 synthetic reviews", "embedded: generated from a seed")
        table.add_row(
            "digits", "1,797 digits of 8 × 8 pixels (Alpaydin & Kaynak 1998)", "embedded: comes with scikit-learn"
        )
        table.add_row("your own", ".csv, .tsv, .jsonl or .parquet", "where you say: eqspike run FILE, or a FOLDER")
        Console(highlight=False, markup=False, emoji=False).print(table)

    tyro.cli(data, args=arguments, prog="eqspike data")


def show_environment(arguments: list[str]) -> None:
    """Versions, cores, devices and found data, to paste into a report of a fault."""
    from eqspike_seq.data.imdb import find_imdb
    from eqspike_seq.data.mnist import find_mnist
    from eqspike_seq.data.snli import find_snli
    from eqspike_seq.runs import environment

    def env(json_output: bool = False) -> None:
        """Print versions, cores, devices and found data.

        Args:
            json_output: Print JSON.
        """
        known: dict[str, Any] = environment()
        for name, found in (("imdb", find_imdb(None)), ("snli", find_snli(None)), ("mnist", find_mnist(None))):
            known[name] = f"{found.kind} in {found.path}" if found else "not found"
        if json_output:
            print(json.dumps(known, indent=2))
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, value in {**known.pop("versions"), **known}.items():
            table.add_row(name, ", ".join(value) or "none" if isinstance(value, list) else str(value))
        Console(highlight=False, markup=False, emoji=False).print(table)

    tyro.cli(env, args=arguments, prog="eqspike env")
