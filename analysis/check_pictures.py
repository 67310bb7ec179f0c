"""Pictures of what ``eqspike check`` found."""

import numpy as np

from analysis.folders import Json
from analysis.picture import Picture
from analysis.style import COLOURS, figure, key, legend, logarithmic
from eqspike_seq.phases import Phase

STYLES = {Phase.FREE: ("-", "free phase"), Phase.PLUS: ("--", "nudge +β"), Phase.MINUS: (":", "nudge −β")}


def pictures(name: str, found: Json) -> list[Picture]:
    """All of ``gradients`` or ``convergence``."""
    if name == "gradients":
        return [*curves(found), *fidelity(found)]
    return [phases(found), hopfield(found)]


def curves(found: Json) -> list[Picture]:
    """EP (lines) against BPTT (dots) over time for single weights of each parameter, one a stage."""
    made = []
    for stage, courses in found.get("curves", {}).items():
        drawn, axes = figure(2, -(-len(courses) // 2))
        rows: list[Json] = []
        for axis, (parameter, course) in zip(axes.flat, courses.items(), strict=False):
            ep, bptt = np.array(course["ep"]), np.array(course["bptt"])
            steps = np.arange(1, len(ep) + 1)
            for k in range(ep.shape[1]):
                axis.plot(steps, ep[:, k], color=COLOURS[k])
                axis.plot(steps[::2], bptt[::2, k], ".", color=COLOURS[k], markersize=4)
                triples = zip(steps.tolist(), ep[:, k].tolist(), bptt[:, k].tolist(), strict=True)
                rows += [{"parameter": parameter, "weight": k, "step": t, "ep": a, "bptt": b} for t, a, b in triples]
            cosine = course["cosine"][-1]
            axis.set_title(f"{parameter}: cosine " + ("–" if cosine is None else f"{cosine:.4f}"))
            axis.set_xlabel("steps t")
        for axis in list(axes.flat)[len(courses) :]:
            axis.set_visible(False)
        axes[0, 0].set_ylabel("−Δθ: EP (lines), BPTT (dots)")
        caption = f"−Δθ after t nudged steps for four weights of each parameter, {stage}: EP as lines, BPTT as dots."
        made.append(Picture(f"gradients-over-time-{stage}", caption, drawn, rows))
    return made


def fidelity(found: Json) -> list[Picture]:
    """Cosine of the spiking update to converged dense Eq. 18 against window (or β), a panel a stage."""
    records = [r for r in found["records"] if r["reference"] == "eq18" and r["cosine"] is not None]
    if not records:
        return []
    stages = list(dict.fromkeys(r["stage"] for r in records))
    by = "window" if records[0]["window"] is not None else "beta"
    drawn, axes = figure(1, len(stages))
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
    legend(drawn)
    rule = records[0]
    drawn.suptitle(", ".join(rule[name] for name in ("neuron", "circuit", "rule") if rule[name] is not None))
    caption = (
        "Cosine of what the synapses would do to Eq. 18 on dense rates that have converged, at stages of training."
    )
    for stage, about in found.get("stages", {}).items():  # a check of an earlier eqspike has none
        if about["note"] is not None:
            caption += f" {stage}: {about['note']}"
    return [Picture("gradients-fidelity", caption, drawn, records)]


def phases(found: Json) -> Picture:
    """φ and residual over the free phase and the two nudges, with and without HopAttn, a row a stage."""
    stages = found["stages"]
    drawn, axes = figure(len(stages), 2)
    rows: list[Json] = []
    for row, (stage, about) in zip(axes, stages.items(), strict=True):
        for colour, (name, label) in zip(COLOURS, (("hopattn", "HopAttn"), ("no_hopattn", "no HopAttn")), strict=False):
            free = about[name][Phase.FREE]
            steps = len(free["phi"])
            row[0].plot(range(1, steps + 1), free["phi"], color=colour, label=label)
            row[1].plot(range(1, steps + 1), free["residual"], color=colour, label=label)
            for phase, course in about[name].items():
                pairs = enumerate(zip(course["phi"], course["residual"], strict=True), start=1)
                point = {"stage": stage, "network": label, "phase": phase}
                rows += [{**point, "step": step, "phi": phi, "residual": residual} for step, (phi, residual) in pairs]
            for phase in (Phase.PLUS, Phase.MINUS):
                course, style = about[name][phase], STYLES[phase][0]
                after = range(steps + 1, steps + 1 + len(course["phi"]))
                row[0].plot(after, course["phi"], style, color=colour)
                row[1].plot(after, course["residual"], style, color=colour)
        row[0].set(title=f"{stage}: φ", xlabel="step")
        row[1].set(title=f"{stage}: largest change of a unit", xlabel="step")
        logarithmic(row[1], "y")
    networks = axes[0][0].get_legend_handles_labels()[0]
    legend(drawn, [*networks, *(key(label, ls=style) for style, label in STYLES.values())])
    caption = "φ and the largest change of a unit over the free phase and both nudges, with and without HopAttn; dense."
    return Picture("convergence", caption, drawn, rows)


def hopfield(found: Json) -> Picture:
    """From metastable states to retrieval as the inverse temperature grows."""
    sweep = found["hopfield"]
    drawn, axes = figure(1, 2)
    x = sweep["relative_inverse_temperature"]
    axes[0, 0].plot(x, sweep["effective_patterns"], "o-", label="patterns mixed: exp(entropy)")
    axes[0, 1].plot(x, sweep["retrieved"], "o-", color=COLOURS[2], label="share retrieved")
    axes[0, 1].plot(x, sweep["second_less_first"], "s--", color=COLOURS[1], label="‖second − first‖ / ‖first‖")
    for axis in axes[0]:
        axis.axvline(1.0, color="grey", linewidth=0.8)
        logarithmic(axis, "x")
        axis.set_xlabel("inverse temperature ÷ that of HopAttn")
    logarithmic(axes[0, 0], "y")
    legend(drawn)
    names = ("relative_inverse_temperature", "effective_patterns", "retrieved", "second_less_first")
    columns = zip(*(sweep[name] for name in names), strict=True)
    caption = "From states that mix many patterns to single ones that are retrieved, as the inverse temperature grows."
    return Picture("hopfield", caption, drawn, [dict(zip(names, values, strict=True)) for values in columns])
