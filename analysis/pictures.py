"""The pictures of ``eqspike compare``: each a function of runs that says what it shows and gives its numbers.

One returns None where no run holds what it needs.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from analysis import check_pictures, raster
from analysis.energy import PARTS, part_of_run
from analysis.energy_report import COMPONENTS
from analysis.folders import Json, Run, groups
from analysis.picture import Picture
from analysis.style import COLOURS, MARKERS, figure, key, legend, legends, logarithmic, short, together
from analysis.units import text_of, texts_of
from neuromorphic.pricing import GROUPS, CostTable

BARS = 40  # at most in one picture
TIMES = ((3600, "hours"), (60, "minutes"), (1, "seconds"))


class Series(NamedTuple):
    """Runs that differ in the seed alone, and how all pictures show them; ``place`` is among those of a report."""

    place: int
    colour: str
    marker: str
    runs: list[Run]
    label: str


def series(runs: list[Run], file: str = "") -> list[Series]:
    """Those of ``runs``, of which only runs that have ``file`` are left; a folder tells equal labels apart."""
    found = groups(runs)
    labels = [group[0].label for group in found]
    shown = [
        Series(
            place,
            COLOURS[place % len(COLOURS)],
            MARKERS[place // len(COLOURS) % len(MARKERS)],
            [run for run in group if not file or run.has(file)],
            label if labels.count(label) == 1 else f"{label} ({group[0].name})",
        )
        for place, (group, label) in enumerate(zip(found, labels, strict=True))
    ]
    return [each for each in shown if each.runs]


def learning_curves(runs: list[Run], table: CostTable) -> Picture | None:
    """Accuracy after each epoch."""
    drawn, ((axis,),) = figure()
    rows: list[Json] = []
    longest = max(line.seconds for run in runs for line in run.metrics)
    size, unit = next(found for found in TIMES if longest >= 2 * found[0] or found[0] == 1)
    for place, colour, marker, group, label in series(runs):
        lines = [[line for line in run.metrics if line.validation_accuracy is not None] for run in group]
        length = min(len(line) for line in lines)
        times = np.mean([[line.seconds / size for line in run[:length]] for run in lines], 0)
        values = 100 * np.array([[line.validation_accuracy for line in run[:length]] for run in lines])
        train = 100 * np.array([[line.train_accuracy for line in run[:length]] for run in lines])
        seeds = f", {len(group)} seeds" if len(group) > 1 else ""
        test = 100 * np.mean([run.result.test_accuracy for run in group])
        artists = [
            *axis.plot(times, values.mean(0), "-", marker=marker, color=colour, label=label + seeds, markersize=3),
            *axis.plot(times, train.mean(0), color=colour, linewidth=0.8, alpha=0.5),
            axis.axhline(test, color=colour, ls="--", lw=0.7),
        ]
        if len(group) > 1:
            artists.append(axis.fill_between(times, values.min(0), values.max(0), color=colour, alpha=0.15))
        together(drawn, place, *artists)
        rows += [
            {"run": run.name, "epoch": line.epoch, "minutes": line.seconds / 60}
            | {"train_accuracy": line.train_accuracy, "validation_accuracy": line.validation_accuracy}
            for run, course in zip(group, lines, strict=True)
            for line in course
        ]
    axis.set(xlabel=f"training time, {unit}", ylabel="accuracy, %")
    drawn_runs = axis.get_legend_handles_labels()[0]
    kinds = (
        ("validation", {"marker": "o", "markersize": 3}),
        ("training", {"lw": 0.8}),
        ("test", {"ls": "--", "lw": 0.7}),
    )
    legend(drawn, [*drawn_runs, *(key(label, **looks) for label, looks in kinds)])
    caption = (
        "Validation accuracy after each epoch (dots; band: lowest to highest seed), training accuracy on what the "
        "network was shown (thin), test accuracy at the end (dashes)."
    )
    return Picture("learning-curves", caption, drawn, rows)


def accuracy_over_steps(runs: list[Run], table: CostTable) -> Picture | None:
    """What a shorter free phase would have answered."""
    able = series(runs, "curves.json")
    if not able:
        return None
    drawn, axes = figure(1, 2, one_scale=True)
    rows: list[Json] = []
    for place, colour, marker, group, label in able:
        course = group[0].curves
        accuracy = [100 * value for value in course.accuracy]
        looks = {"marker": marker, "color": colour, "markersize": 4}
        together(drawn, place, *axes[0][0].plot(course.steps, accuracy, "-", label=label, **looks))
        together(drawn, place, *axes[0][1].plot(course.events_per_text, accuracy, "-", **looks))
        pairs = zip(course.steps, course.accuracy, course.events_per_text, strict=True)
        rows += [{"run": group[0].name, "steps": s, "test_accuracy": a, "events_per_text": e} for s, a, e in pairs]
    axes[0][0].set(xlabel="steps or sweeps of the free phase", ylabel="test accuracy, %")
    axes[0][1].set(xlabel="synaptic events (dense: products) a text")
    for axis in axes[0]:
        logarithmic(axis, "x")
    legend(drawn)
    caption = "Test accuracy read after each reading of the free phase, against its length and against its events."
    return Picture("accuracy-over-steps", caption, drawn, rows)


def accuracy_over_energy(runs: list[Run], table: CostTable) -> Picture | None:
    """The Pareto front."""
    rows: list[Json] = []
    drawn, axes = figure(1, 2, one_scale=True)
    axes[0][0].set_ylabel("test accuracy, %")
    for axis, (part, label) in zip(axes[0], PARTS.items(), strict=True):
        points = []
        for place, colour, marker, group, name in series(runs):
            for run in group:
                if (found := part_of_run(run, part, table)) is None:
                    continue
                joules = found["joules"]
                accuracy = 100 * run.result.test_accuracy
                spread = [[joules["value"] - joules["low"]], [joules["high"] - joules["value"]]]
                shown = name if run is group[0] else None
                bar = axis.errorbar(joules["value"], accuracy, xerr=spread, fmt=marker, color=colour, label=shown)
                together(drawn, place, bar.lines[0], *bar.lines[2])
                points.append((joules["value"], accuracy))
                rows.append({"run": run.name, "part": part, "test_accuracy": accuracy / 100, **joules})
        if points:
            axis.step(*zip(*front(points), strict=True), where="post", color="black", linewidth=0.7)
        logarithmic(axis, "x", said=texts_of)
        axis.set_xlabel(f"energy of {label}")
    legend(drawn)
    caption = (
        f"Test accuracy against energy on {table.title}; bars: range of the constants, line: those than which no other "
        "run takes less and is as right."
    )
    return Picture("accuracy-over-energy", caption, drawn, rows) if rows else None


def front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (joules, accuracy) than which no other takes less energy and is as right."""
    kept: list[tuple[float, float]] = []
    for joules, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((joules, accuracy))
    return kept


def accuracy_over_spikes(runs: list[Run], table: CostTable) -> Picture | None:
    """Against spikes per synapse."""
    spiking = [run for run in runs if run.result.spikes_per_synapse_per_inference]
    if not spiking:
        return None
    drawn, ((axis,),) = figure()
    rows = []
    for place, colour, marker, group, label in series(runs):
        for run in group:
            spikes, accuracy = run.result.spikes_per_synapse_per_inference, 100 * run.result.test_accuracy
            shown = label if run is group[0] else None
            if spikes is None:
                artists = [axis.axhline(accuracy, color=colour, linestyle="--", label=shown)]
            else:
                artists = axis.plot(spikes, accuracy, marker, color=colour, label=shown)
            together(drawn, place, *artists)
            rows.append({"run": run.name, "spikes_per_synapse": spikes, "test_accuracy": accuracy / 100})
    axis.axvline(1.72, color="grey", linewidth=0.8, label="1.72: rate codes lose above it")
    logarithmic(axis, "x")
    axis.set(xlabel="spikes per synapse and inference", ylabel="test accuracy, %")
    legend(drawn)
    caption = (
        "Test accuracy against spikes per synapse and inference; dashes: dense EP. Grey: 1.72, above which Davidson "
        "and Furber (2021) see rate-coded networks lose to dense ones."
    )
    return Picture("accuracy-over-spikes", caption, drawn, rows)


def rates_over_training(runs: list[Run], table: CostTable) -> Picture | None:
    """Mean activity of each layer."""
    shown = series(runs)[:6]
    drawn, axes = figure(-(-len(shown) // 3), min(3, len(shown)), one_scale=True)
    rows: list[Json] = []
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_visible(False)
    for axis, (_, _, _, group, label) in zip(axes.flat, shown, strict=False):
        lines = group[0].metrics
        for colour, layer in zip(COLOURS, lines[0].rates, strict=False):
            axis.plot([line.epoch for line in lines], [line.rates[layer] for line in lines], color=colour, label=layer)
        rows += [{"run": group[0].name, "epoch": line.epoch, **line.rates} for line in lines]
        axis.set_title(short(label, 40), fontsize=8)
        axis.set(xlabel="epoch", ylim=(0, max(1, axis.get_ylim()[1])))
        axis.locator_params(axis="x", integer=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("mean rate")
    legend(drawn)
    return Picture("rates-over-training", "Mean rate of each layer in training.", drawn, rows)


def settling(runs: list[Run], table: CostTable) -> Picture | None:
    """Residual and φ over the three phases."""
    able = series(runs, "samples.npz")
    if not able:
        return None
    drawn, axes = figure(2, 3, one_scale=True)
    rows: list[Json] = []
    for place, colour, marker, group, label in able:
        samples = group[0].samples
        every = int(samples["reading_steps"])
        for column, (phase, title) in enumerate(raster.TITLES.items()):
            residual, phi = (samples[f"{phase}_{name}"].mean(1) for name in ("residual", "phi"))
            steps = every * np.arange(1, len(residual) + 1)
            looks = {"marker": marker, "color": colour, "markersize": 3}
            together(drawn, place, *axes[0][column].plot(steps, residual, "-", label=label, **looks))
            together(drawn, place, *axes[1][column].plot(steps, phi, "-", **looks))
            axes[0][column].set_title(title)
            axes[1][column].set_xlabel("step")
            triples = zip(steps.tolist(), residual.tolist(), phi.tolist(), strict=True)
            rows += [{"run": group[0].name, "phase": phase, "step": s, "residual": r, "phi": v} for s, r, v in triples]
    for upper, lower in axes.T:
        logarithmic(upper, "x", "y")
        logarithmic(lower, "x")
    axes[0][0].set_ylabel("largest change of a unit")
    axes[1][0].set_ylabel("φ")
    legend(drawn)
    caption = "How 16 test texts settle: largest change of a unit between readings, and the potential φ; means."
    return Picture("settling", caption, drawn, rows)


def energy_breakdown(runs: list[Run], table: CostTable) -> Picture | None:
    """By component, and by kind of cost."""
    priced = ((run, part_of_run(run, "inference", table)) for run in runs[:BARS])
    parts = [(run, part) for run, part in priced if part is not None]
    if not parts:
        return None
    drawn, axes = figure(1, 2, height=1.6 + 0.4 * len(parts), one_scale=True)
    widest = max(part["joules"]["value"] for _, part in parts) or 1e-12
    axes[0][0].set_yticks(range(len(parts)), [short(run.name, 40) for run, _ in parts])
    axes[0][0].invert_yaxis()
    rows: list[Json] = []
    for axis, split, names in ((axes[0][0], "components", COMPONENTS), (axes[0][1], "groups", tuple(GROUPS))):
        shown = {name for _, part in parts for name, joules in part[split].items() if joules["value"]}
        for place, (run, part) in enumerate(parts):
            left = 0.0
            for colour, name in zip(COLOURS, names, strict=False):
                value = part[split].get(name, {"value": 0.0})["value"]
                axis.barh(place, value, left=left, color=colour, label=name if place == 0 and name in shown else None)
                left += value
                rows.append({"run": run.name, "split": split, "name": name, "joules": value})
            axis.text(left + 0.01 * widest, place, text_of(left), va="center", fontsize=7)
        axis.set_xlim(0, 1.2 * widest)
        axis.locator_params(axis="x", nbins=5)
        axis.xaxis.set_major_formatter(lambda joules, _: text_of(joules))
        axis.set_xlabel("energy of an inference")
        axis.grid(axis="y", visible=False)
    legends(drawn)
    caption = f"What an inference takes on {table.title}" + (f", the first {BARS} runs." if len(runs) > BARS else ".")
    return Picture("energy-breakdown", caption, drawn, rows)


SIDE_BY_SIDE: tuple[Callable[[list[Run], CostTable], Picture | None], ...] = (
    learning_curves,
    accuracy_over_energy,
    accuracy_over_spikes,
    accuracy_over_steps,
    energy_breakdown,
    rates_over_training,
    settling,
)


def draw_all(runs: list[Run], table: CostTable) -> Iterator[Picture]:
    """All pictures of these runs, one after the other: runs side by side, then the last that shows single texts, then
    what ``eqspike check`` left in the last that was checked."""
    yield from (picture for draw in SIDE_BY_SIDE if (picture := draw(runs, table)) is not None)
    last_first = runs[::-1]
    for draw_text in (raster.raster, raster.attention):
        drawn = (draw_text(run) for run in last_first if run.has("samples.npz"))
        yield from itertools.islice((picture for picture in drawn if picture is not None), 1)
    gradients = (run.gradient_check for run in last_first)
    convergence = (run.convergence_check for run in last_first)
    for checks in (gradients, convergence):
        if (last := next((found for found in checks if found is not None), None)) is not None:
            yield from check_pictures.pictures(last)
