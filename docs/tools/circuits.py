"""Pictures of the circuits: error against spikes, and what one pair of spikes does.

python -m docs.tools.circuits results docs
"""

import json
from pathlib import Path
from typing import Any

import tyro

from analysis.style import COLOURS, figure, legend, logarithmic, save


def draw_winners(found: dict[str, Any], out: Path) -> Path:
    """Relative error of HopAttn against the spikes of a row, a line a way of drawing winners."""
    drawn, ((axes,),) = figure()
    for colour, (name, slope) in zip(COLOURS, found["slopes"].items(), strict=False):
        rows = [row for row in found["rows"] if row["sampler"] == name]
        spikes, errors = ([row[key] for row in rows] for key in ("spikes_per_row", "relative_error"))
        axes.plot(spikes, errors, "o-", color=colour, label=f"{name}: slope {slope:.2f}".replace("-0", "−0"))
    logarithmic(axes, "x", "y")
    axes.set(xlabel="spikes of a token row", ylabel="relative error of HopAttn")
    legend(drawn)
    return save(drawn, out)


def draw_stdp(found: dict[str, Any], out: Path) -> Path:
    """Weight change against spike-time difference, a line a time constant."""
    drawn, ((axes,),) = figure()
    for colour, (tau, curve) in zip(COLOURS, found["curves"].items(), strict=False):
        axes.plot(found["t_post_less_t_pre"], curve, color=colour, label=f"τ = {float(tau):g} steps")
    logarithmic(axes, "y")
    axes.set(xlabel="t(post) − t(pre), steps", ylabel="weight change by the pair")
    legend(drawn)
    return save(drawn, out)


def main(results: tyro.conf.Positional[Path], docs: tyro.conf.Positional[Path]) -> None:
    """Draw both.

    Args:
        results: The folder with winners.json and stdp.json.
        docs: Where winners.svg and stdp.svg go.
    """
    for name, draw in (("winners", draw_winners), ("stdp", draw_stdp)):
        draw(json.loads((results / f"{name}.json").read_text()), docs / f"{name}.svg")


if __name__ == "__main__":
    tyro.cli(main)
