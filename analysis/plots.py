"""Pictures made from run folders, and from nothing else.

python -m analysis.plots RUN RUN … --out accuracy.svg
"""

import json
from pathlib import Path
from typing import Any

import tyro

from analysis.style import COLOURS, figure, save


def read_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """``result.json`` and the lines of ``metrics.jsonl`` of a run folder."""
    result = json.loads((folder / "result.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return result, lines


def label_of(result: dict[str, Any]) -> str:
    """What a run is called in a legend."""
    return f"{result['backend']} EP" + ("" if result["attention"] else ", no attention")


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


def main(runs: tyro.conf.Positional[list[Path]], out: Path) -> None:
    """Plot accuracy against training time for run folders.

    Args:
        runs: Run folders.
        out: The SVG file.
    """
    accuracy_over_time(runs, out)


if __name__ == "__main__":
    tyro.cli(main)
