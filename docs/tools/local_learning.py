"""Tables and pictures of docs/local-learning.md.

python -m docs.tools.local_learning results docs
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import tyro

from analysis.style import COLOURS, MARKERS, figure, legend, logarithmic, save
from docs.tools.markdown import read, table

Rows = list[dict[str, Any]]
SUBJECTS = {"digits": "digits, Bernoulli neurons", "mini": "mini, Bernoulli neurons and winners"}
SETS = {"digits": "digits", "mini": "mini", "imdb": "3,000 reviews of IMDB"}


def of(rows: Rows, **about: Any) -> Rows:
    """Those with these values."""
    return [row for row in rows if about.items() <= row.items()]


def whole(cosines: dict[str, float]) -> float:
    """The mean over the weight matrices."""
    return mean(cosines.values())


def right(rows: Rows) -> list[float]:
    """The accuracies of rows, 0 where a run has diverged."""
    return [row["validation_accuracy"] or 0.0 for row in rows]


def dynamics() -> str:
    """Cosine of the exact contrast to the gradient of C_β, and to that of the loss, by kind of dynamics."""
    rows, shown = read("free-energy.json")["rows"], (0.1, 1.0, 5.0)
    heads = ("", "", "currents", *(f"{to}, β = {b:g}" for to in ("to −∂C_β/∂θ", "to −∂⟨L⟩/∂θ") for b in shown))
    found = []
    for kind, how in dict.fromkeys((row["kind"], row["dynamics"]) for row in rows):
        on = "rates" if how == "spiking" or "together" in how else "spikes"
        mine = of(rows, kind=kind, dynamics=how)
        cells = (
            f"{mean(row[f'{on}_to_{to}'] for row in of(mine, beta=beta)):.4f}"
            for to in ("free_energy", "loss")
            for beta in shown
        )
        found.append((kind, how, f"{100 * mean(row['currents'] for row in mine):.0f} %", *cells))
    return table(heads, found, text=(0, 1))


def nudges() -> str:
    """Cosine of one draw to the mean-field gradient after training, and accuracy, by noise and β."""
    file = read("large-beta.json")
    betas = list(dict.fromkeys(row["beta"] for row in file["training"]))
    found = []
    for subject, noise in dict.fromkeys((row["subject"], row["noise"]) for row in file["training"]):
        cells = []
        for beta in betas:
            about = {"subject": subject, "noise": noise, "beta": beta}
            (gradient,) = of(file["gradients"], **about, stage="trained")
            reached = f"{100 * mean(right(of(file['training'], **about))):.1f} %"
            cells.append(f"{mean(map(whole, gradient['cosine'])):.2f}, {reached}")
        found.append((subject, "dense rates" if noise == "none" else noise, *cells))
    return table(("", "noise", *(f"β = {beta:g}" for beta in betas)), found, text=(0, 1))


def optimisers() -> str:
    """Each optimiser at its best rate: accuracy on validation, words that it keeps and moves, energy of an update."""
    file = read("local-optimisers.json")
    names = [name for name in SETS if of(file["rows"], dataset=name)]
    heads = ("", *(SETS[name] for name in names), "pJ a synapse and update")
    found = []
    for label, joules in file["joules"].items():
        cells = [spread(best(of(file["rows"], optimiser=label, dataset=name))) for name in names]
        picojoules = (f"{1e12 * joules[end]:.0f}" for end in ("value", "low", "high"))
        found.append((f"`{label}`", *cells, "{} ({} to {})".format(*picojoules)))
    return table(heads, found, text=(0,))


def best(rows: Rows) -> Rows:
    """Those with the rate that is best with seed 0; none of what has not been tried."""
    tried = of(rows, seed=0)
    if not tried:
        return []
    return of(rows, rate=max(tried, key=lambda row: row["validation_accuracy"] or 0.0)["rate"])


def spread(rows: Rows) -> str:
    """Mean over the seeds, with the lowest and the highest."""
    found = [100 * value for value in right(rows)]
    if not found:
        return "–"
    return f"{mean(found):.1f} %" + (f" ({min(found):.1f} to {max(found):.1f})" if len(found) > 1 else "")


def draw_nudges(found: dict[str, Any], out: Path) -> Path:
    """Cosine to the mean-field gradient above, accuracy below, over β; a column a subject."""
    drawn, axes = figure(2, len(SUBJECTS), height=6.5, one_scale=True)
    for column, (subject, title) in enumerate(SUBJECTS.items()):
        noises = dict.fromkeys(row["noise"] for row in of(found["training"], subject=subject))
        for place, noise in enumerate(noises):
            look = {"color": COLOURS[place], "marker": MARKERS[place], "markersize": 4, "capsize": 2}
            look["label"] = f"{subject}: {'dense rates' if noise == 'none' else noise}"
            mine = of(found["gradients"], subject=subject, noise=noise, stage="trained")
            draws = [list(map(whole, row["cosine"])) for row in mine]
            axes[0, column].errorbar(
                [row["beta"] for row in mine], list(map(mean, draws)), list(map(pstdev, draws)), **look
            )
            betas = dict.fromkeys(row["beta"] for row in found["training"])
            runs = [right(of(found["training"], subject=subject, noise=noise, beta=beta)) for beta in betas]
            means = list(map(mean, runs))
            ends = [[m - min(r) for m, r in zip(means, runs, strict=True)]]
            ends.append([max(r) - m for m, r in zip(means, runs, strict=True)])
            axes[1, column].errorbar(list(betas), means, ends, **look)
        axes[0, column].set(title=title)
        axes[1, column].set(xlabel="β")
        for row in range(2):
            logarithmic(axes[row, column], "x")
    axes[0, 0].set(ylabel="cosine to the mean-field gradient")
    axes[1, 0].set(ylabel="validation accuracy")
    legend(drawn)
    return save(drawn, out)


def draw_optimisers(found: dict[str, Any], out: Path) -> Path:
    """Accuracy at the best rate against the energy of an update, a panel a data set."""
    names = [name for name in SETS if of(found["rows"], dataset=name)]
    drawn, axes = figure(1, len(names), one_scale=True)
    for place, name in enumerate(names):
        for number, (label, joules) in enumerate(found["joules"].items()):
            values = right(best(of(found["rows"], optimiser=label, dataset=name))) or [math.nan]
            ends = [[mean(values) - min(values)], [max(values) - mean(values)]]
            look = {"color": COLOURS[number], "marker": (MARKERS + "P*X")[number], "capsize": 2, "linestyle": "none"}
            axes[0, place].errorbar([1e12 * joules["value"]], [mean(values)], ends, label=label, **look)
        axes[0, place].set(title=SETS[name], xlabel="pJ an update of a synapse", xlim=(0, None))
    axes[0, 0].set(ylabel="validation accuracy")
    legend(drawn)
    return save(drawn, out)


DRAWN: dict[str, Callable[[dict[str, Any], Path], Path]] = {
    "large-beta": draw_nudges,
    "local-optimisers": draw_optimisers,
}


def main(results: tyro.conf.Positional[Path], docs: tyro.conf.Positional[Path]) -> None:
    """Draw both.

    Args:
        results: The folder with large-beta.json and local-optimisers.json.
        docs: Where large-beta.svg and local-optimisers.svg go.
    """
    for name, draw in DRAWN.items():
        draw(json.loads((results / f"{name}.json").read_text()), docs / f"{name}.svg")


if __name__ == "__main__":
    tyro.cli(main)
