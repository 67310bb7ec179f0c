"""Accuracy against energy: the runs of the table of energies, and the points of ``benchmarks.pareto`` on mini.

python -m docs.tools.pareto
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from analysis.energy import DIGITAL, part_of
from analysis.energy_report import texts_of
from analysis.pictures import front
from analysis.style import COLOURS, MARKERS, figure, legends, logarithmic, save
from docs.tools.energy_tables import elsewhere
from docs.tools.markdown import label_of, runs_of
from neuromorphic.pricing import read_table


def main(
    points: Path = Path("results/pareto.json"),
    out: Path = Path("docs/pareto.svg"),
) -> None:
    """Draw both.

    Args:
        points: What `python -m benchmarks.pareto` wrote.
        out: The picture.
    """
    drawn, axes = figure(1, 2)
    named: list[list[tuple[str, dict[str, Any], float]]] = [[], []]
    runs = runs_of("energy")
    for run in runs:
        joules = part_of(run.ledgers.inference, read_table(DIGITAL))["joules"]
        named[0].append((label_of(run), joules, run.result.test_accuracy))
    for row in elsewhere():
        if row.get("test_accuracy") is not None:
            named[0].append((row["name"], row.get("inference", row)["joules"], row["test_accuracy"]))
    for row in json.loads(points.read_text())["rows"]:
        joules = row["joules_per_inference"]
        named[1].append((label(row["backend"], row["changes"]), joules, row["test_accuracy"]))
    for axis, rows, title in zip(axes[0], named, (runs[0].result.dataset, "mini"), strict=True):
        for place, (name, joules, accuracy) in enumerate(rows):
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place // len(COLOURS) % len(MARKERS)]
            spread = [[joules["value"] - joules["low"]], [joules["high"] - joules["value"]]]
            axis.errorbar(joules["value"], 100 * accuracy, xerr=spread, fmt=marker, color=colour, label=name)
        best = front([(joules["value"], 100 * accuracy) for _, joules, accuracy in rows])
        axis.step(*zip(*best, strict=True), where="post", color="black", linewidth=0.7)
        logarithmic(axis, "x", said=texts_of)
        axis.set(xlabel="energy of an inference, 45 nm digital, fp32", ylabel="test accuracy, %", title=title)
    legends(drawn)
    save(drawn, out)


def label(backend: str, settings: dict[str, Any]) -> str:
    """A few words for a run or for what was changed in it."""
    if backend == "dense":
        return "dense EP"
    neuron = "changes" if settings.get("neuron") == "sigma-delta" else f"rates, {settings.get('rule', 'eqspike')}"
    circuit = ", HopAttn in spikes" if settings.get("circuit") == "wta" else ""
    shown = {
        "projection_threshold": "θ of s¹",
        "attention_threshold": "θ of rows",
        "origin": "from",
        "threshold": "θ",
    }
    values = {name: np.ravel(settings[name]).tolist() for name in shown if name in settings}  # one, or one a layer
    rest = [f"{shown[name]} {', '.join(f'{value:g}' for value in each)}" for name, each in values.items()]
    return ", ".join([neuron + circuit, *rest])


if __name__ == "__main__":
    tyro.cli(main)
