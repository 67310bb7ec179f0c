"""``eqspike data``: where each data set is, or would be found."""

from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from eqspike_seq.data.cache import search_places
from eqspike_seq.data.registry import DATASETS


def main(arguments: list[str]) -> None:
    """A row for each data set: where it was found, or where it would be looked for."""

    def data(data_dir: Path | None = None) -> None:
        """List data sets and where they are.

        Args:
            data_dir: Look here first.
        """
        places = ", ".join(f"{name} {path}" for name, path in search_places(data_dir))
        table = Table(box=None, pad_edge=False)
        for heading in ("data set", "what", "where"):
            table.add_column(heading, overflow="fold")
        for name, known in DATASETS.items():
            found = None if known.find is None else known.find(data_dir)
            where = "embedded" if known.embedded else f"not found in {places}"
            where += f"; would be downloaded to the cache ({known.download})" if known.download else ""
            place = where if found is None else f"found: {found.kind} in {found.path} ({found.place})"
            table.add_row(name, known.contents, place)
        table.add_row("your own", ".csv, .tsv, .jsonl or .parquet", "where you say: eqspike run FILE, or a FOLDER")
        Console(highlight=False, markup=False, emoji=False).print(table)

    tyro.cli(data, args=arguments, prog="eqspike data")
