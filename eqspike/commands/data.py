"""``eqspike data``: where each data set is, or would be found."""

from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from eqspike_seq.data.imdb import find_imdb
from eqspike_seq.data.locate import search_places
from eqspike_seq.data.mnist import find_mnist
from eqspike_seq.data.snli import find_snli


def main(arguments: list[str]) -> None:
    """A row for each data set: where it was found, or where it would be looked for."""

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
