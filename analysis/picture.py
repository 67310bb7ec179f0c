"""A picture with what it says and the numbers in it, and how both are written."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.folders import Json
from analysis.style import save
from eqspike_seq.files import write_bytes


@dataclass(frozen=True)
class Picture:
    """A drawn figure, its file name, caption, and the numbers in it, a record a point."""

    name: str
    caption: str
    drawn: Any
    rows: list[Json]

    def write(self, folder: Path) -> Path:
        """NAME.svg and NAME.csv; returns the first."""
        write_bytes(folder / f"{self.name}.csv", as_csv(self.rows))
        return save(self.drawn, folder / f"{self.name}.svg")


def as_csv(rows: list[Json]) -> bytes:
    """Records; a column for each key that any of them has."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
