"""``eqspike run``: train and test a network on a data set."""

import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table

from eqspike.flags import parse_run
from eqspike_seq.config.examples import Texts
from eqspike_seq.learning.parallel import join
from eqspike_seq.progress import Reporter


def main(arguments: list[str]) -> None:
    """``eqspike run DATASET [--flags]``, in one process or in each of several that torchrun has started."""
    from eqspike.build import run

    job = join()
    config = job.first(parse_run, arguments)
    reporter = Reporter(quiet=job.rank > 0)
    with job.stoppable():
        result = run(config, reporter, job)
    if job.rank == 0:
        inputs = config.data.inputs if isinstance(config.data, Texts) else 0
        show(Path(result["path"]), inputs, Console(highlight=False, markup=False, emoji=False))
    job.leave()


def show(path: Path, inputs: int, console: Console) -> None:
    """The end of a run: what it reached, what it takes, where it is, and what to do with it."""
    from analysis.comparison import compare
    from analysis.energy import DIGITAL
    from analysis.folders import open_run
    from analysis.summary import facts
    from neuromorphic.pricing import read_table

    run, table = open_run(path), read_table(DIGITAL)
    (row,) = compare([run], table)
    shown = Table(show_header=False, box=None, pad_edge=False)
    for fact in facts(row, table):
        shown.add_row(fact.name, f"{fact.figure} {fact.detail}")
    if run.result.synthetic:
        shown.add_row("note", "synthetic texts: no evidence about real ones")
    shown.add_row("run folder", str(path))
    console.print(shown)
    console.print()
    for what, command in following(path, inputs):
        console.print(f"{what:<14}{command}", soft_wrap=True)


def following(path: Path, inputs: int) -> list[tuple[str, str]]:
    """(what to do next, its command) with a finished run of so many texts an example, none for images."""
    place = shlex.quote(str(path))
    asked = {1: '"a text"', 2: '"a text" "another"'}
    answer = [("ask it", f"eqspike predict {place} {asked[inputs]}")] if inputs else []
    return [*answer, ("look into it", f"eqspike report {place}"), ("price it", f"eqspike energy {place}")]
