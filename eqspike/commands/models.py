"""``eqspike models``: the models that come with eqspike."""

from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from analysis.energy import DIGITAL, part_of
from analysis.folders import open_run
from analysis.units import text_of
from eqspike_seq.runs.archive import MODELS, models
from neuromorphic.pricing import read_table

HEADS = ("model", "trained on", "answers", "test accuracy", "an inference", "file")


def main(arguments: list[str]) -> None:
    """A row for each model: data, classes, accuracy, energy, size; and how to use one."""

    def listed() -> None:
        """List the models that come with eqspike, for predict, energy, report and run --start."""
        shown, cost = Table(*HEADS, box=None, pad_edge=False), read_table(DIGITAL)
        for name in models():
            run = open_run(Path(name))
            joules = part_of(run.ledgers.inference, cost)["joules"]["value"]
            size = (MODELS / f"{name}.zip").stat().st_size
            shown.add_row(
                *(name, run.result.dataset, ", ".join(run.result.classes), f"{run.result.test_accuracy:.2%}"),
                *(text_of(joules), f"{size / 1e6:.1f} MB"),
            )
        console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        console.print(shown, f"\nEnergy on {cost.title}. Ask one: eqspike predict {models()[0]} TEXT", sep="\n")
        console.print(f"Train on from one: eqspike run FILE --start {models()[0]}")

    tyro.cli(listed, args=arguments, prog="eqspike models")
