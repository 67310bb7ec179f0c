"""The pictures of ``eqspike compare``: each a function of runs that says what it shows and gives its numbers.

One returns None where no run holds what it needs.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from analysis import checks, raster
from analysis.energy import PARTS, part_of_run
from analysis.energy_report import COMPONENTS
from analysis.folders import Json, Run, groups
from analysis.picture import Picture
from analysis.style import COLOURS, figure
from neuromorphic.energy import GROUPS, CostTable

BARS = 40  # at most in one picture


def _coloured(runs: list[Run]) -> list[tuple[str, list[Run], str]]:
    """(colour, runs that differ in the seed alone, their label); equal labels are told apart by the folder."""
    found = groups(runs)
    labels = [group[0].label for group in found]
    return [
        (COLOURS[place % len(COLOURS)], group, label if labels.count(label) == 1 else f"{label} ({group[0].name})")
        for place, (group, label) in enumerate(zip(found, labels, strict=True))
    ]


def learning_curves(runs: list[Run], table: CostTable) -> Picture | None:
    """Accuracy after each epoch."""
    drawn, ((axis,),) = figure(width=7.5)
    rows: list[Json] = []
    for colour, group, label in _coloured(runs):
        lines = [[line for line in run.metrics if "validation_accuracy" in line] for run in group]
        length = min(len(line) for line in lines)
        minutes = np.mean([[line["seconds"] / 60 for line in run[:length]] for run in lines], 0)
        values = 100 * np.array([[line["validation_accuracy"] for line in run[:length]] for run in lines])
        train = 100 * np.array([[line["train_accuracy"] for line in run[:length]] for run in lines])
        seeds = f", {len(group)} seeds" if len(group) > 1 else ""
        axis.plot(minutes, values.mean(0), "o-", color=colour, label=label + seeds, markersize=3)
        axis.plot(minutes, train.mean(0), color=colour, linewidth=0.8, alpha=0.5)
        if len(group) > 1:
            axis.fill_between(minutes, values.min(0), values.max(0), color=colour, alpha=0.15)
        axis.axhline(100 * np.mean([run.result["test_accuracy"] for run in group]), color=colour, ls="--", lw=0.7)
        rows += [
            {"run": run.name, "epoch": line["epoch"], "minutes": line["seconds"] / 60}
            | {key: line[key] for key in ("train_accuracy", "validation_accuracy")}
            for run, course in zip(group, lines, strict=True)
            for line in course
        ]
    axis.set(xlabel="training time, minutes", ylabel="accuracy, %")
    axis.legend(fontsize=7, loc="lower right")
    caption = (
        "Validation accuracy after each epoch (dots; band: lowest to highest seed), training accuracy on what the "
        "network was shown (thin), test accuracy at the end (dashes)."
    )
    return Picture("learning-curves", caption, drawn, rows)


def accuracy_over_steps(runs: list[Run], table: CostTable) -> Picture | None:
    """What a shorter free phase would have answered."""
    able = [run for run in runs if run.has("curves.json")]
    if not able:
        return None
    drawn, axes = figure(1, 2, width=10, height=3.8)
    rows: list[Json] = []
    for colour, group, label in _coloured(able):
        course = group[0].curves
        accuracy = [100 * value for value in course["accuracy"]]
        axes[0][0].plot(course["steps"], accuracy, ".-", color=colour, label=label)
        axes[0][1].plot(course["events_per_text"], accuracy, ".-", color=colour, label=label)
        pairs = zip(course["steps"], course["accuracy"], course["events_per_text"], strict=True)
        rows += [{"run": group[0].name, "steps": s, "test_accuracy": a, "events_per_text": e} for s, a, e in pairs]
    axes[0][0].set(xscale="log", xlabel="steps or sweeps of the free phase", ylabel="test accuracy, %")
    axes[0][1].set(xscale="log", xlabel="synaptic events (dense: products) a text")
    axes[0][0].legend(fontsize=7)
    caption = "Test accuracy read after each reading of the free phase, against its length and against its events."
    return Picture("accuracy-over-steps", caption, drawn, rows)


def accuracy_over_energy(runs: list[Run], table: CostTable) -> Picture | None:
    """The Pareto front."""
    rows: list[Json] = []
    drawn, axes = figure(1, 2, width=10, height=3.8)
    for axis, (part, label) in zip(axes[0], PARTS.items(), strict=True):
        points = []
        for colour, group, name in _coloured(runs):
            for run in group:
                if (found := part_of_run(run, part, table)) is None:
                    continue
                joules = found["joules"]
                accuracy = 100 * run.result["test_accuracy"]
                spread = [[joules["value"] - joules["low"]], [joules["high"] - joules["value"]]]
                shown = name if run is group[0] else None
                axis.errorbar(joules["value"], accuracy, xerr=spread, fmt="o", color=colour, label=shown)
                points.append((joules["value"], accuracy))
                rows.append({"run": run.name, "part": part, "test_accuracy": accuracy / 100, **joules})
        if points:
            axis.step(*zip(*front(points), strict=True), where="post", color="black", linewidth=0.7)
        axis.set(xscale="log", xlabel=f"joules, {label}", ylabel="test accuracy, %")
    axes[0][0].legend(fontsize=6)
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
    spiking = [run for run in runs if run.result.get("spikes_per_synapse_per_inference")]
    if not spiking:
        return None
    drawn, ((axis,),) = figure(width=6.5, height=3.8)
    rows = []
    for colour, group, label in _coloured(runs):
        for run in group:
            spikes, accuracy = run.result["spikes_per_synapse_per_inference"], 100 * run.result["test_accuracy"]
            shown = label if run is group[0] else None
            if spikes is None:
                axis.axhline(accuracy, color=colour, linestyle="--", label=shown)
            else:
                axis.plot(spikes, accuracy, "o", color=colour, label=shown)
            rows.append({"run": run.name, "spikes_per_synapse": spikes, "test_accuracy": accuracy / 100})
    axis.axvline(1.72, color="grey", linewidth=0.8)
    axis.set(xscale="log", xlabel="spikes per synapse and inference", ylabel="test accuracy, %")
    axis.legend(fontsize=6)
    caption = (
        "Test accuracy against spikes per synapse and inference; dashes: dense EP. Grey: 1.72, above which Davidson "
        "and Furber (2021) see rate-coded networks lose to dense ones."
    )
    return Picture("accuracy-over-spikes", caption, drawn, rows)


def rates_over_training(runs: list[Run], table: CostTable) -> Picture | None:
    """Mean activity of each layer."""
    shown = _coloured(runs)[:6]
    drawn, axes = figure(1, len(shown), width=3.2 * len(shown) + 0.8, height=3)
    rows: list[Json] = []
    for axis, (_, group, label) in zip(axes[0], shown, strict=True):
        lines = group[0].metrics
        for colour, layer in zip(COLOURS, lines[0]["rates"], strict=False):
            axis.plot(
                [line["epoch"] for line in lines], [line["rates"][layer] for line in lines], color=colour, label=layer
            )
        rows += [{"run": group[0].name, "epoch": line["epoch"], **line["rates"]} for line in lines]
        axis.set_title(label, fontsize=7)
        axis.set(xlabel="epoch", ylim=(0, 1))
    axes[0][0].set_ylabel("mean rate")
    axes[0][0].legend(fontsize=7)
    return Picture("rates-over-training", "Mean rate of each layer in training.", drawn, rows)


def settling(runs: list[Run], table: CostTable) -> Picture | None:
    """Residual and φ over the three phases."""
    able = [run for run in runs if run.has("samples.npz")]
    if not able:
        return None
    drawn, axes = figure(2, 3, width=10, height=5)
    rows: list[Json] = []
    for colour, group, label in _coloured(able):
        samples = group[0].samples
        every = int(samples["reading_steps"])
        for column, phase in enumerate(("free", "nudge_plus", "nudge_minus")):
            residual, phi = (samples[f"{phase}_{name}"].mean(1) for name in ("residual", "phi"))
            steps = every * np.arange(1, len(residual) + 1)
            axes[0][column].plot(steps, residual, ".-", color=colour, label=label, markersize=3)
            axes[1][column].plot(steps, phi, ".-", color=colour, markersize=3)
            axes[0][column].set(xscale="log", yscale="log", title=phase.replace("_", " "))
            axes[1][column].set(xscale="log", xlabel="step")
            triples = zip(steps.tolist(), residual.tolist(), phi.tolist(), strict=True)
            rows += [{"run": group[0].name, "phase": phase, "step": s, "residual": r, "phi": v} for s, r, v in triples]
    axes[0][0].set_ylabel("largest change of a unit")
    axes[1][0].set_ylabel("φ")
    axes[0][0].legend(fontsize=6)
    caption = "How 16 test texts settle: largest change of a unit between readings, and the potential φ; means."
    return Picture("settling", caption, drawn, rows)


def energy_breakdown(runs: list[Run], table: CostTable) -> Picture | None:
    """By component, and by kind of cost."""
    priced = ((run, part_of_run(run, "inference", table)) for run in runs[:BARS])
    parts = [(run, part) for run, part in priced if part is not None]
    if not parts:
        return None
    drawn, axes = figure(1, 2, width=11, height=1.2 + 0.4 * len(parts))
    rows: list[Json] = []
    for axis, split, names in ((axes[0][0], "components", COMPONENTS), (axes[0][1], "groups", tuple(GROUPS))):
        for place, (run, part) in enumerate(parts):
            left = 0.0
            for colour, name in zip(COLOURS, names, strict=False):
                value = part[split].get(name, {"value": 0.0})["value"]
                axis.barh(place, value, left=left, color=colour, label=name if place == 0 else None)
                left += value
                rows.append({"run": run.name, "split": split, "name": name, "joules": value})
        axis.set_yticks(
            range(len(parts)), [run.name for run, _ in parts] if split == "components" else [""] * len(parts)
        )
        axis.invert_yaxis()
        axis.set_xlabel("joules an inference")
        axis.legend(fontsize=6)
        axis.grid(axis="y", visible=False)
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
    for name in ("gradients", "convergence"):
        found = (check for run in last_first if (check := run.check(name)) is not None)
        yield from (picture for check in itertools.islice(found, 1) for picture in checks.pictures(name, check))
