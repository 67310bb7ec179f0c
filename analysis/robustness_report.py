"""What ``eqspike robustness`` shows: accuracy against the strength of an imperfection, a picture, and a verdict."""

import statistics
import sys
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis.energy import DIGITAL, part_of
from analysis.energy_report import text_of
from analysis.folders import read
from analysis.picture import Picture
from analysis.style import COLOURS, MARKERS, figure, legend
from eqspike_seq.devices.strengths import AXES
from eqspike_seq.phases import Phase
from eqspike_seq.runs.findings import Robustness
from neuromorphic.pricing import read_table

WAYS = {
    "deployed": "trained elsewhere, then deployed",
    "tuned": "deployed, then tuned by EP",
    "trained": "trained on the chip by EP",
    "injected": "trained with noise, then deployed",
    "biases": "deployed, then only the biases tuned",
}
SPREAD = 0.8  # of a column, that its groups take
LOSS = 0.1  # of accuracy, from which an imperfection is worth repairing


def main(path: Path) -> None:
    """Read ``robustness.json``; print the table and the verdict, write robustness.csv and robustness.svg."""
    found = read(path, Robustness.read)
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(verdict(found), "")
    console.print(by_way(found))
    if found.missing:
        console.print(f"{found.missing} runs have diverged, or not ended, and are left out.")
    for made in (path, draw(found).write(path.parent)):
        print(f"wrote {made}", file=sys.stderr)


def columns(found: Robustness) -> dict[str, tuple[str, str | None]]:
    """{label: (way, rule)} of those that the file has, in the order of ``WAYS``."""
    there = dict.fromkeys((point.way, point.rule) for point in found.points)
    order = sorted(there, key=lambda each: (list(WAYS).index(each[0]), str(each[1])))
    return {WAYS[way] + (f", {rule}" if rule else ""): (way, rule) for way, rule in order}


def accuracies(found: Robustness, column: tuple[str, str | None], strength: float) -> list[float]:
    """Of all chips and seeds."""
    return [each.accuracy for each in found.points if (each.way, each.rule) == column and each.strength == strength]


def strengths(found: Robustness) -> list[float]:
    """Those of the imperfection, in their order."""
    return sorted({point.strength for point in found.points})


def table(found: Robustness) -> list[tuple[str, ...]]:
    """A head, and a row for each way: at each strength the mean over chips and seeds in percent, its standard
    deviation, and the lowest accuracy in brackets."""
    axis, order = AXES[found.imperfection], strengths(found)
    rows = [("", *(axis.at(strength) for strength in order))]
    for label, column in columns(found).items():
        rows.append((label, *(said(accuracies(found, column, strength)) for strength in order)))
    return rows


def said(some: list[float]) -> str:
    """mean ± standard deviation (lowest), in percent; – of none."""
    if not some:
        return "–"
    spread = f" ± {100 * statistics.stdev(some):.1f}" if len(some) > 1 else ""
    return f"{100 * statistics.mean(some):.1f}{spread} ({100 * min(some):.0f})"


def by_way(found: Robustness) -> Table:
    """``table`` in a terminal."""
    shown = Table(box=None, pad_edge=False, title_justify="left")
    axis = AXES[found.imperfection]
    what = f"{axis.title} ({axis.symbol}: {axis.meaning})"
    shown.title = f"test accuracy in % by {what}: mean over chips and seeds ± standard deviation (lowest)"
    head, *rows = table(found)
    for place, title in enumerate(head):
        shown.add_column(title, justify="right" if place else "left", no_wrap=place > 0)
    for row in rows:
        shown.add_row(*row)
    return shown


def ideal(found: Robustness) -> float:
    """Test accuracy without a chip, mean over seeds."""
    return statistics.mean(found.ideal.values())


def costly(found: Robustness) -> float:
    """The least strength that costs a deployed network ten points on validation, else the greatest."""
    before, deployed = statistics.mean(found.ideal_validation.values()), defaultdict(list)
    for point in found.points:
        if point.way == "deployed":
            deployed[point.strength].append(point.validation)
    some = [strength for strength, each in deployed.items() if before - statistics.mean(each) >= LOSS]
    return min(some) if some else max(deployed)


def regained(found: Robustness) -> dict[str, float]:
    """{label: share of the loss that is regained} of each way but the deployed one, at the ``costly`` strength on test;
    {} where nothing was lost."""
    strength, before = costly(found), ideal(found)
    lowest = lowered(found, strength)
    shares = {}
    for label, column in columns(found).items():
        some = accuracies(found, column, strength)
        if column[0] != "deployed" and some and before > lowest:
            shares[label] = (statistics.mean(some) - lowest) / (before - lowest)
    return shares


def lowered(found: Robustness, strength: float) -> float:
    """Test accuracy of deployed networks, mean over chips and seeds."""
    return statistics.mean(accuracies(found, ("deployed", None), strength))


def verdict(found: Robustness) -> str:
    """At the ``costly`` strength: what each way regains of the loss on test, and what the tuning costs."""
    strength, ways, axis = costly(found), columns(found), AXES[found.imperfection]
    title = axis.title[0].upper() + axis.title[1:]
    fall = f"from {ideal(found):.1%} to {lowered(found, strength):.1%} on test"
    text = f"{title}, {axis.at(strength)}: a deployed network falls {fall}."
    shares = regained(found)
    if not shares:
        return f"{text} There is nothing to regain."
    parts = [
        f"  {label}: {statistics.mean(accuracies(found, ways[label], strength)):.1%}, {share:.0%} of the loss regained"
        for label, share in shares.items()
    ]
    budget = f"Tuning takes {found.tuning_epochs:g} epochs, a training {found.epochs:g}."
    return "\n".join([text, *parts, budget, *spent(found)])


def spent(found: Robustness) -> list[str]:
    """What one tuning takes, in words; nothing where none has been counted."""
    if found.tuning is None:
        return []
    table, samples = read_table(DIGITAL), found.tuning.samples[Phase.FREE]
    each = part_of(found.tuning, table)["joules"]["value"]
    synaptic = AXES[found.imperfection].kind.synaptic
    return [
        f"It takes {samples:,} samples of {text_of(each)}, {text_of(samples * each)} in all, on {table.title}"
        f"{', with two synapses for each weight' if synaptic else ''}."
    ]


def draw(found: Robustness) -> Picture:
    """A column for each strength, in it a group for each way: small dots for each chip and seed, a large mean."""
    drawn, ((axis,),) = figure()
    ways, axis_of, order = columns(found), AXES[found.imperfection], strengths(found)
    for place, (label, column) in enumerate(ways.items()):
        look = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "ls": ""}
        course = [accuracies(found, column, strength) for strength in order]
        places = [at + SPREAD * ((place + 0.5) / len(ways) - 0.5) for at in range(len(course))]
        for x, some in zip(places, course, strict=True):
            axis.plot([x] * len(some), [100 * each for each in some], **look, markersize=3, alpha=0.4)
        means = [(x, 100 * statistics.mean(some)) for x, some in zip(places, course, strict=True) if some]
        axis.plot(*zip(*means, strict=True), **look, label=label, markersize=8)
    axis.axhline(100 * ideal(found), color="black", ls="--", lw=0.7, label="ideal hardware")
    axis.set_xticks(range(len(order)), [axis_of.at(strength) for strength in order])
    axis.set(xlabel=f"{axis_of.title}: {axis_of.meaning}", ylabel="test accuracy, %")
    legend(drawn)
    chips, seeds = len({point.device for point in found.points}), len(found.ideal)
    caption = (
        f"Test accuracy on {chips} {'chip' if chips == 1 else 'chips'} with {axis_of.title}, {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'} of the network: a small dot for each, a large one for the mean."
    )
    return Picture("robustness", caption, drawn, [point.content() for point in found.points])
