"""Pictures made from run folders, and from nothing else.

python -m analysis.plots RUN RUN … --out accuracy.svg
python -m analysis.plots RUN RUN … --against spikes --out spikes.svg
"""

import json
from pathlib import Path
from typing import Any, Literal

import tyro

from analysis.style import COLOURS, figure, save


def read_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """``result.json`` and the lines of ``metrics.jsonl`` of a run folder."""
    result = json.loads((folder / "result.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return result, lines


def label_of(result: dict[str, Any]) -> str:
    """What a run is called in a legend."""
    parts = [f"{result['backend']} EP", result["neuron"], result["rule"]]
    return ", ".join(part for part in parts if part) + ("" if result["attention"] else ", no attention")


def accuracy_over_time(runs: list[Path], out: Path) -> None:
    """Validation accuracy (lines), training accuracy (thin) and final test accuracy (dashes) against training time."""
    drawn, ((axes,),) = figure()
    for folder, colour in zip(runs, COLOURS, strict=False):
        result, lines = read_run(folder)
        minutes = [line["seconds"] / 60 for line in lines]
        train = [100 * line["train_accuracy"] for line in lines]
        axes.plot(minutes, train, color=colour, linewidth=0.8, alpha=0.5)
        epochs = [line for line in lines if "validation_accuracy" in line]
        axes.plot(
            [line["seconds"] / 60 for line in epochs],
            [100 * line["validation_accuracy"] for line in epochs],
            "o-",
            color=colour,
            label=f"{label_of(result)}: test {100 * result['test_accuracy']:.2f} %",
        )
        axes.axhline(100 * result["test_accuracy"], color=colour, linewidth=0.8, linestyle="--")
    axes.set(xlabel="training time (minutes)", ylabel="accuracy (%)", ylim=(75, 95))
    axes.legend(loc="lower right")
    save(drawn, out)


def accuracy_over_spikes(runs: list[Path], out: Path) -> None:
    """Test accuracy against spikes per synapse and inference; dense runs as lines across."""
    drawn, ((axes,),) = figure()
    axes.axvline(1.72, color="grey", linewidth=0.8, label="break-even of rate codes, Davidson & Furber (2021)")
    labels: list[str] = []
    for folder in runs:
        result, _ = read_run(folder)
        label = label_of(result)
        colour = COLOURS[(labels if label in labels else labels + [label]).index(label)]
        shown = None if label in labels else label
        labels += [] if label in labels else [label]
        if (spikes := result["spikes_per_synapse_per_inference"]) is None:
            axes.axhline(100 * result["test_accuracy"], color=colour, linestyle="--", label=shown)
        else:
            axes.semilogx(spikes, 100 * result["test_accuracy"], "o", color=colour, label=shown)
    axes.set(xlabel="spikes per synapse and inference", ylabel="test accuracy (%)")
    axes.legend(fontsize=7)
    save(drawn, out)


def main(runs: tyro.conf.Positional[list[Path]], out: Path, against: Literal["time", "spikes"] = "time") -> None:
    """Plot the accuracy of run folders.

    Args:
        runs: Run folders.
        out: The SVG file.
        against: Training time, or spikes per synapse and inference.
    """
    {"time": accuracy_over_time, "spikes": accuracy_over_spikes}[against](runs, out)


if __name__ == "__main__":
    tyro.cli(main)
