"""Picture of how the cost of a dense training batch grows.

python -m docs.tools.growth results/growth.json docs/growth.svg
"""

import json
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import tyro

from analysis.style import COLOURS, figure, logarithmic, save

NAMES = {"tokens": "N, tokens", "dim": "D", "hidden": "units of s²", "batch": "texts in a batch", "free_steps": "T"}
COSTS = {"seconds": ("seconds a batch", 1.0), "bytes": ("peak memory, MB", 1e-6)}


def draw_growth(found: dict[str, Any], out: Path) -> Path:
    """Time above, memory below, a column a size; the line fitted to the largest sizes with its exponent."""
    grown = found["growth"]
    drawn, axes = figure(len(COSTS), len(grown), one_scale=True)
    for column, (name, about) in enumerate(grown.items()):
        sizes = [row["size"] for row in about["rows"]]
        for row, (cost, (label, unit)) in enumerate(COSTS.items()):
            values = [unit * (median(r[cost]) if cost == "seconds" else r[cost]) for r in about["rows"]]
            slope, place = about["exponent"][cost], axes[row, column]
            upper = sizes[-found["upper"] :]
            fitted = zip(upper, values[-found["upper"] :], strict=True)
            factor = geometric_mean(value / size**slope for size, value in fitted)
            place.plot(sizes, values, "o", color=COLOURS[0])
            place.plot(upper, [factor * size**slope for size in upper], color=COLOURS[1])
            logarithmic(place, "x", "y")
            place.set_xticks(sizes[::-2], [f"{size}" for size in sizes[::-2]])
            place.set_xticks(sizes, minor=True)
            place.set_title(f"exponent {slope:z.2f}".replace("-", "−"))
            if row + 1 == len(COSTS):
                place.set_xlabel(NAMES[name])
            if column == 0:
                place.set_ylabel(label)
    return save(drawn, out)


def main(results: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path]) -> None:
    """Draw it.

    Args:
        results: What benchmarks.growth has written.
        out: Where the picture goes.
    """
    draw_growth(json.loads(results.read_text()), out)


if __name__ == "__main__":
    tyro.cli(main)
