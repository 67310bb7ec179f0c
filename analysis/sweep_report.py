"""What ``eqspike sweep`` shows at the end: its settings by validation accuracy, a picture, and a report."""

import itertools
import statistics
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis.energy import DIGITAL
from analysis.folders import Json, finished_runs, open_runs, read
from analysis.picture import Picture, as_csv
from analysis.report import Command, page
from analysis.style import figure, logarithmic, short
from analysis.units import duration
from eqspike_seq.files import write_bytes
from eqspike_seq.runs.schema import Sweep, Trial

SHOWN = 12  # of the best settings in the report


def main(path: Path, command: Command) -> None:
    """Read ``sweep.json`` and its runs; print the settings, write sweep.csv, sweep.svg and report.html."""
    found = read(path, Sweep.read)
    rows = [row for trial in found.trials if (row := record(trial, path.parent)) is not None]
    rows.sort(key=lambda row: (-row["validation_accuracy"], row["trial"]))
    names = list(found.trials[0].settings)
    shown = Table(box=None, pad_edge=False, title=f"{len(rows)} of {len(found.trials)} settings have ended")
    for head in ("trial", *names, "validation", "spikes per synapse", "training"):
        shown.add_column(head.replace("_", "-"), overflow="fold")
    for row in rows:
        spread = "" if row["standard_deviation"] is None else f" ± {row['standard_deviation']:.2%}"
        spikes = "–" if row["spikes_per_synapse"] is None else f"{row['spikes_per_synapse']:.3g}"
        cells = (f"{row['validation_accuracy']:.2%}{spread}", spikes, duration(row["train_seconds"]))
        shown.add_row(str(row["trial"]), *(str(row[name]) for name in names), *cells)
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(shown, "")
    left_out = [f"trial {trial.number}: {trial.failed}" for trial in found.trials if trial.failed]
    for reason in left_out:
        console.print(reason)
    if not rows:
        return
    said = verdict(rows, names, len(found.seeds))
    console.print(said)
    picture = draw(rows, names)
    write_bytes(path.parent / "sweep.csv", as_csv(rows))
    best = [path.parent / name for row in rows[:SHOWN] for name in row["runs"].split()]
    runs, _ = finished_runs(best, "sweep")
    if len(rows) > SHOWN:
        left_out.append(f"{len(rows) - SHOWN} settings below the best {SHOWN}; sweep.csv has them all")
    report = page(runs, left_out, DIGITAL, command, [said], [picture])
    write_bytes(path.parent / "report.html", report.encode())
    for made in (path, path.parent / "sweep.csv", picture.write(path.parent), path.parent / "report.html"):
        print(f"wrote {made}", file=sys.stderr)


def record(trial: Trial, folder: Path) -> Json | None:
    """One setting, flat: means over its seeds; None where it has not ended."""
    runs, _ = open_runs([folder / name for name in trial.runs])
    if trial.state != "complete" or len(runs) < len(trial.runs):
        return None
    accuracies = [run.result.validation_accuracy for run in runs]
    spikes = [value for run in runs if (value := run.result.spikes_per_synapse_per_inference) is not None]
    return {
        "trial": trial.number,
        **trial.settings,
        "validation_accuracy": statistics.mean(accuracies),
        "standard_deviation": statistics.stdev(accuracies) if len(runs) > 1 else None,
        "test_accuracy": statistics.mean(run.result.test_accuracy for run in runs),
        "spikes_per_synapse": statistics.mean(spikes) if len(spikes) == len(runs) else None,
        "train_seconds": statistics.mean(run.result.train_seconds for run in runs),
        "runs": " ".join(run.name for run in runs),
    }


def verdict(rows: list[Json], names: list[str], seeds: int) -> str:
    """The setting that is best on validation, and its test accuracy."""
    best = rows[0]
    setting = ", ".join(f"{name.replace('_', '-')} {best[name]}" for name in names)
    over = f", mean of {seeds} seeds" if seeds > 1 else ""
    return (
        f"Best of {len(rows)} settings on validation: {setting} ({best['validation_accuracy']:.2%}{over}). "
        f"It has {best['test_accuracy']:.2%} on test."
    )


def draw(rows: list[Json], names: list[str]) -> Picture:
    """Validation accuracy against each setting."""
    drawn, axes = figure(-(-len(names) // 3), min(3, len(names)))
    for axis, name in itertools.zip_longest(axes.flat, names):
        if name is None:
            axis.set_visible(False)
            continue
        values = [str(row[name]) for row in rows]
        places: list[float] = []
        try:
            places = [float(value) for value in values]
        except ValueError:
            kinds = list(dict.fromkeys(sorted(values)))
            places = [kinds.index(value) for value in values]
            axis.set_xticks(range(len(kinds)), [short(kind, 24) for kind in kinds], rotation=30, ha="right")
        axis.plot(places, [100 * row["validation_accuracy"] for row in rows], "o", markersize=4, alpha=0.7)
        if 0 < 10 * min(places) <= max(places):
            logarithmic(axis, "x")
        axis.set(xlabel=name.replace("_", "-"), ylabel="validation accuracy, %")
    caption = "Validation accuracy of each setting (mean over its seeds), against every setting that was varied."
    return Picture("sweep", caption, drawn, rows)
