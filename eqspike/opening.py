"""Finished runs from Python: one opened, several compared.

>>> import eqspike
>>> model = eqspike.open("imdb-small")                # a model that comes with eqspike, a run folder, or a zip of one
>>> model.predict(["a dull, overlong film", "i loved every minute"])
['negative', 'positive']
>>> round(1e6 * model.energy().value, 1)              # microjoules an inference on 45 nm digital hardware
2.5
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Literal

from analysis import comparison
from analysis.energy import DIGITAL, part_of
from analysis.folders import Run, open_run
from eqspike.prediction import SHIPPED, TOGETHER, Prediction, Predictor
from neuromorphic.pricing import Joules, read_table


@dataclass(frozen=True)
class Table:
    """Rows of texts under ``heads``, which prints as text and shows as a table in a notebook.

    ``records`` has the same as numbers, an object a row: ``pandas.DataFrame(table.records)``.
    """

    heads: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    records: Sequence[dict[str, Any]]

    def __str__(self) -> str:
        lines = [self.heads, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.heads))]
        padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(line.rstrip() for line in padded)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def row(cells: Iterable[str], kind: str) -> str:
            return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"

        return "<table>" + row(self.heads, "th") + "".join(row(cells, "td") for cells in self.rows) + "</table>"


@dataclass(frozen=True)
class OpenedRun:
    """A finished run: what it reached, what it takes, and what it answers."""

    run: Run

    @property
    def accuracy(self) -> float:
        """The share of its test texts that it has right."""
        return self.run.result.test_accuracy

    def energy(self, hardware: str = DIGITAL, part: Literal["inference", "training"] = "inference") -> Joules:
        """Joules of an inference, or of a training sample, with their range: a cost table's name, or its TOML file.

        Raises ConfigError where there is no such table, or nothing was counted.
        """
        return Joules(**part_of(self.run.ledgers.of(part), read_table(hardware))["joules"])

    @cached_property
    def predictor(self) -> Predictor:
        """What answers. Raises RunError or ConfigError where the run has no weights, or is not on texts."""
        return Predictor.open(self.run.path)

    def predict(self, texts: Iterable[str]) -> list[str | None]:
        """The answer to each text, None where no word of it is known; of a run on pairs to each pair."""
        return [found.label for found in self._asked(texts, explain=False)]

    def explain(self, texts: Iterable[str]) -> list[Prediction]:
        """Each answer with its rates, its cost, and the words and n-grams that decided."""
        return self._asked(texts, explain=True)

    def _asked(self, texts: Iterable[Any], explain: bool) -> list[Prediction]:
        if isinstance(texts, str):
            raise TypeError("texts: got one string, expected a list of texts. Put it into a list.")
        pairs = self.predictor.data.inputs > 1
        asked = [tuple(text) if pairs else (text,) for text in texts]
        parts = (asked[first : first + TOGETHER] for first in range(0, len(asked), TOGETHER))
        return [found for part in parts for found in self.predictor.predict_all(part, explain)]

    def __repr__(self) -> str:
        result = self.run.result
        return (
            f"{self.run.name}: {self.run.label} on {result.dataset}, "
            f"{result.test_accuracy:.2%} of {result.n_test:,} test texts"
        )

    def _repr_html_(self) -> str:
        return compare([self])._repr_html_()


def open(run: Path | str = SHIPPED) -> OpenedRun:
    """A finished run: its folder, a zip of it, or the name of a model that comes with eqspike.

    Raises ConfigError, saying what is wrong with it.
    """
    return OpenedRun(open_run(Path(run)))


def compare(runs: Iterable[OpenedRun | Path | str], hardware: str = DIGITAL) -> Table:
    """A row for each run, as `eqspike compare` prints them: accuracy with its interval, energy, spikes, time.

    Raises ConfigError for what is no finished run, or no cost table.
    """
    opened = [run.run if isinstance(run, OpenedRun) else open(run).run for run in runs]
    found = comparison.compare(opened, read_table(hardware))
    return Table(comparison.HEADS, [comparison.cells(row) for row in found], [row.record() for row in found])
