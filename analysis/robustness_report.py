"""What ``eqspike robustness`` shows: accuracy against the strength of the mismatch, a picture, and a verdict."""

import statistics
import sys
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis.energy import DIGITAL, part_of
from analysis.energy_report import text_of
from analysis.folders import Json, read
from analysis.picture import Picture
from analysis.style import COLOURS, MARKERS, figure, legend
from eqspike_seq.phases import Phase
from eqspike_seq.runs.findings import Robustness
from neuromorphic.pricing import read_table

WAYS = {
    "deployed": "trained ideally, deployed",
    "tuned": "then tuned in place by EP",
    "trained": "trained in place by EP",
    "injected": "trained with noise of the best strength, deployed",
    "biases": "deployed, biases tuned",
}
LOSS = 0.1  # of accuracy, from which a mismatch is worth removing


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


def accuracies(found: Robustness, column: tuple[str, str | None], sigma: float) -> list[float]:
    """Of all chips and seeds."""
    return [each.accuracy for each in found.points if (each.way, each.rule) == column and each.sigma == sigma]


def sigmas(found: Robustness) -> list[float]:
    """The strengths of the mismatch, in their order."""
    return sorted({point.sigma for point in found.points})


def table(found: Robustness) -> list[tuple[str, ...]]:
    """A head, and a row for each σ: means over chips and seeds in percent, with the lowest and the highest."""
    labels = columns(found)
    rows = [("mismatch σ", *labels)]
    rows.append(("0", f"{100 * ideal(found):.1f} %", *["–"] * (len(labels) - 1)))
    for sigma in sigmas(found):
        cells = [accuracies(found, column, sigma) for column in labels.values()]
        said = (
            f"{100 * statistics.mean(some):.1f} % ({100 * min(some):.1f} to {100 * max(some):.1f})" if some else "–"
            for some in cells
        )
        rows.append((f"{sigma:g}", *said))
    return rows


def by_way(found: Robustness) -> Table:
    """A line for each way, a column for each σ, as a terminal has room for: the mean over chips, then the lowest."""
    shown = Table(box=None, pad_edge=False, title_justify="left")
    shown.title = "test accuracy in %, by mismatch σ: mean over chips, lowest chip"
    shown.add_column("")
    for sigma in sigmas(found):
        shown.add_column(f"{sigma:g}", justify="right", no_wrap=True)
    for label, column in columns(found).items():
        cells = [accuracies(found, column, sigma) for sigma in sigmas(found)]
        shown.add_row(label, *(f"{100 * statistics.mean(c):.1f} {100 * min(c):.0f}" if c else "–" for c in cells))
    return shown


def ideal(found: Robustness) -> float:
    """Test accuracy without a chip, mean over seeds."""
    return statistics.mean(found.ideal.values())


def costly(found: Robustness) -> float:
    """The least σ that costs a deployed network ten points on validation, else the greatest."""
    before, deployed = statistics.mean(found.ideal_validation.values()), defaultdict(list)
    for point in found.points:
        if point.way == "deployed":
            deployed[point.sigma].append(point.validation)
    some = [sigma for sigma, each in deployed.items() if before - statistics.mean(each) >= LOSS]
    return min(some) if some else max(deployed)


def verdict(found: Robustness) -> str:
    """At the ``costly`` σ: what each way regains of the loss on test, and what the tuning costs."""
    means = {s: statistics.mean(accuracies(found, ("deployed", None), s)) for s in sigmas(found)}
    sigma = costly(found)
    lost = ideal(found) - means[sigma]
    said = f"Mismatch of σ = {sigma:g} takes a deployed network from {ideal(found):.1%} to {means[sigma]:.1%} on test."
    if lost <= 0:
        return f"{said} There is nothing to regain."
    parts = []
    for label, column in columns(found).items():
        some = accuracies(found, column, sigma)
        if column[0] != "deployed" and some:
            mean = statistics.mean(some)
            parts.append(f"{label}: {mean:.1%}, {(mean - means[sigma]) / lost:.0%} of the loss regained")
    budget = f"Tuning takes {found.tuning_epochs:g} epochs, a training {found.epochs:g}."
    return "\n".join([said, *(f"  {part}" for part in parts), budget, *spent(found)])


def spent(found: Robustness) -> list[str]:
    """What one tuning takes, in words; nothing where none has been counted."""
    if found.tuning is None:
        return []
    table, samples = read_table(DIGITAL), found.tuning.samples[Phase.FREE]
    each = part_of(found.tuning, table)["joules"]["value"]
    return [
        f"It takes {samples:,} samples of {text_of(each)}, {text_of(samples * each)} in all, on {table.title}, "
        "with two synapses for each weight."
    ]


def draw(found: Robustness) -> Picture:
    """Accuracy against σ for each way, a band from the lowest chip to the highest."""
    drawn, ((axis,),) = figure()
    rows: list[Json] = []
    for place, (label, column) in enumerate(columns(found).items()):
        course = [(sigma, some) for sigma in sigmas(found) if (some := accuracies(found, column, sigma))]
        places, colour = [sigma for sigma, _ in course], COLOURS[place % len(COLOURS)]
        means = [100 * statistics.mean(some) for _, some in course]
        axis.plot(places, means, marker=MARKERS[place % len(MARKERS)], color=colour, label=label, markersize=4)
        low, high = ([100 * end(some) for _, some in course] for end in (min, max))
        axis.fill_between(places, low, high, color=colour, alpha=0.12)
    axis.axhline(100 * ideal(found), color="black", ls="--", lw=0.7, label="no mismatch")
    axis.set(xlabel="mismatch σ: gains exp(σ ξ − σ²/2)", ylabel="test accuracy, %")
    legend(drawn)
    rows += [point.content() for point in found.points]
    chips = len({point.device for point in found.points})
    caption = (
        f"Test accuracy against the static mismatch of synapses, mean over {chips} chips and {len(found.ideal)} "
        "seeds of the network; bands from the lowest to the highest."
    )
    return Picture("robustness", caption, drawn, rows)
