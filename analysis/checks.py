"""Pictures of what ``eqspike check`` found."""

from pathlib import Path
from typing import Any

import numpy as np

from analysis.style import COLOURS, figure, save


def draw(name: str, found: dict[str, Any], folder: Path) -> list[Path]:
    """All pictures of ``gradients`` or ``convergence``, as SVG files in ``folder``."""
    if name == "gradients":
        return [*draw_curves(found, folder), *draw_fidelity(found, folder)]
    return [draw_phases(found, folder), draw_hopfield(found, folder)]


def draw_curves(found: dict[str, Any], folder: Path) -> list[Path]:
    """EP (lines) against BPTT (dots) over time for single weights of each parameter, a file a stage."""
    paths = []
    for stage, curves in found["curves"].items():
        drawn, axes = figure(2, -(-len(curves) // 2), 10, 5)
        for axis, (parameter, course) in zip(axes.flat, curves.items(), strict=False):
            ep, bptt = np.array(course["ep"]), np.array(course["bptt"])
            steps = np.arange(1, len(ep) + 1)
            for k in range(ep.shape[1]):
                axis.plot(steps, ep[:, k], color=COLOURS[k])
                axis.plot(steps[::2], bptt[::2, k], ".", color=COLOURS[k], markersize=4)
            cosine = course["cosine"][-1]
            axis.set_title(f"{parameter}: cosine " + ("–" if cosine is None else f"{cosine:.4f}"))
            axis.set_xlabel("steps t")
        for axis in list(axes.flat)[len(curves) :]:
            axis.set_visible(False)
        axes[0, 0].set_ylabel("−Δθ: EP (lines), BPTT (dots)")
        paths.append(save(drawn, folder / f"gradients-over-time-{stage}.svg"))
    return paths


def draw_fidelity(found: dict[str, Any], folder: Path) -> list[Path]:
    """Cosine of the spiking update to converged dense Eq. 18 against window (or β), a panel a stage."""
    records = [r for r in found["records"] if r["reference"] == "eq18" and r["cosine"] is not None]
    if not records:
        return []
    stages = list(dict.fromkeys(r["stage"] for r in records))
    by = "window" if records[0]["window"] is not None else "beta"
    drawn, axes = figure(1, len(stages), 3.5 * len(stages) + 1, 3.5)
    for axis, stage in zip(axes[0], stages, strict=True):
        mine = [r for r in records if r["stage"] == stage]
        for style, beta in zip(("-", "--", ":", "-."), dict.fromkeys(r["beta"] for r in mine), strict=False):
            for colour, name in zip(COLOURS, dict.fromkeys(r["parameter"] for r in mine), strict=False):
                line = [r for r in mine if r["parameter"] == name and (by == "beta" or r["beta"] == beta)]
                label = name + ("" if by == "beta" else f", β {beta:g}")
                axis.plot([r[by] for r in line], [r["cosine"] for r in line], style + "o", color=colour, label=label)
            if by == "beta":
                break
        axis.set(
            title=stage, xlabel="window (steps)" if by == "window" else "β", ylim=(min(0, axis.get_ylim()[0]), 1.02)
        )
    axes[0, 0].set_ylabel("cosine to dense Eq. 18")
    axes[0, -1].legend(fontsize=7)
    rule = records[0]
    drawn.suptitle(f"{rule['neuron']}, {rule['circuit']}, {rule['rule']}")
    return [save(drawn, folder / "gradients-fidelity.svg")]


def draw_phases(found: dict[str, Any], folder: Path) -> Path:
    """φ and residual over the free phase and the two nudges, with and without HopAttn, a row a stage."""
    stages = found["stages"]
    drawn, axes = figure(len(stages), 2, 9, 3 * len(stages))
    for row, (stage, about) in zip(axes, stages.items(), strict=True):
        for colour, (name, label) in zip(COLOURS, (("hopattn", "HopAttn"), ("no_hopattn", "no HopAttn")), strict=False):
            free = about[name]["free"]
            steps = len(free["phi"])
            row[0].plot(range(1, steps + 1), free["phi"], color=colour, label=label)
            row[1].semilogy(range(1, steps + 1), free["residual"], color=colour, label=label)
            for phase, style in (("nudge+", "--"), ("nudge-", ":")):
                course = about[name][phase]
                after = range(steps + 1, steps + 1 + len(course["phi"]))
                row[0].plot(after, course["phi"], style, color=colour)
                row[1].semilogy(after, course["residual"], style, color=colour)
        row[0].set(title=f"{stage}: φ", xlabel="step")
        row[1].set(title=f"{stage}: largest change of a unit", xlabel="step")
        row[0].legend(title="free –, +β - -, −β ···", fontsize=7)
    return save(drawn, folder / "convergence.svg")


def draw_hopfield(found: dict[str, Any], folder: Path) -> Path:
    """From metastable states to retrieval as the inverse temperature grows."""
    sweep = found["hopfield"]
    drawn, axes = figure(1, 2, 9, 3)
    x = sweep["relative_inverse_temperature"]
    axes[0, 0].loglog(x, sweep["effective_patterns"], "o-", label="patterns mixed: exp(entropy)")
    axes[0, 1].semilogx(x, sweep["retrieved"], "o-", label="share retrieved")
    axes[0, 1].semilogx(x, sweep["second_less_first"], "s--", label="‖second − first‖ / ‖first‖")
    for axis in axes[0]:
        axis.axvline(1.0, color="grey", linewidth=0.8)
        axis.set_xlabel("inverse temperature ÷ that of HopAttn")
        axis.legend(fontsize=7)
    return save(drawn, folder / "hopfield.svg")
