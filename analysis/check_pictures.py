"""Pictures of what ``eqspike check`` found."""

import numpy as np

from analysis.folders import Json
from analysis.picture import Picture
from analysis.style import COLOURS, figure, key, legend, logarithmic
from eqspike_seq.phases import Phase
from eqspike_seq.runs.findings import ConvergenceCheck, GradientCheck

STYLES = {Phase.FREE: ("-", "free phase"), Phase.PLUS: ("--", "nudge +β"), Phase.MINUS: (":", "nudge −β")}


def pictures(found: GradientCheck | ConvergenceCheck) -> list[Picture]:
    """All of a check."""
    if isinstance(found, GradientCheck):
        return [*curves(found), *nudges(found), *fidelity(found)]
    return [phases(found), hopfield(found)]


def curves(found: GradientCheck) -> list[Picture]:
    """EP (lines) against BPTT (dots) over time for single weights of each parameter, one a stage."""
    made = []
    for stage, courses in found.curves.items():
        drawn, axes = figure(2, -(-len(courses) // 2))
        rows: list[Json] = []
        for axis, (parameter, course) in zip(axes.flat, courses.items(), strict=False):
            ep, bptt = np.array(course.ep), np.array(course.bptt)
            steps = np.arange(1, len(ep) + 1)
            for k in range(ep.shape[1]):
                axis.plot(steps, ep[:, k], color=COLOURS[k])
                axis.plot(steps[::2], bptt[::2, k], ".", color=COLOURS[k], markersize=4)
                triples = zip(steps.tolist(), ep[:, k].tolist(), bptt[:, k].tolist(), strict=True)
                rows += [{"parameter": parameter, "weight": k, "step": t, "ep": a, "bptt": b} for t, a, b in triples]
            cosine = course.cosine[-1]
            axis.set_title(f"{parameter}: cosine " + ("–" if cosine is None else f"{cosine:.4f}"))
            axis.set_xlabel("steps t")
        for axis in list(axes.flat)[len(courses) :]:
            axis.set_visible(False)
        axes[0, 0].set_ylabel("−Δθ: EP (lines), BPTT (dots)")
        caption = f"−Δθ after t nudged steps for four weights of each parameter, {stage}: EP as lines, BPTT as dots."
        made.append(Picture(f"gradients-over-time-{stage}", caption, drawn, rows))
    return made


def nudges(found: GradientCheck) -> list[Picture]:
    """The error of EP to BPTT over β, both converged, a panel a stage."""
    stages = {stage: sizes for stage, sizes in found.over_beta.items() if sizes.texts}
    if not stages:
        return []
    drawn, axes = figure(1, len(stages))
    rows: list[Json] = []
    for axis, (stage, sizes) in zip(axes[0], stages.items(), strict=True):
        for place, (name, errors) in enumerate(sizes.relative_rmse.items()):
            known = [(beta, error) for beta, error in zip(sizes.betas, errors, strict=True) if error]
            style = "o-" if place < len(COLOURS) else "s--"
            axis.plot(*zip(*known, strict=True), style, color=COLOURS[place % len(COLOURS)], label=name)
            rows += [{"stage": stage, "parameter": name, "beta": beta, "relative_rmse": error} for beta, error in known]
        square = [(beta, (beta / sizes.betas[0]) ** 2 * 1e-2) for beta in sizes.betas]
        axis.plot(*zip(*square, strict=True), ":", color="dimgrey", label="slope 2")
        axis.set(title=stage, xlabel="β")
        logarithmic(axis, "x", "y")
    axes[0, 0].set_ylabel("relative error of EP to BPTT")
    legend(drawn)
    caption = (
        "How three-phase EP meets BPTT as β falls, both converged, in texts in which no unit crosses a corner of σ."
    )
    return [Picture("gradients-over-beta", caption, drawn, rows)]


def fidelity(found: GradientCheck) -> list[Picture]:
    """Cosine of the spiking update to converged dense Eq. 18 against window (or β), a panel a stage."""
    records = [r for r in found.records if r.reference == "eq18" and r.cosine is not None]
    if not records:
        return []
    stages = list(dict.fromkeys(r.stage for r in records))
    by_window = records[0].window is not None
    drawn, axes = figure(1, len(stages))
    for axis, stage in zip(axes[0], stages, strict=True):
        mine = [r for r in records if r.stage == stage]
        for style, beta in zip(("-", "--", ":", "-."), dict.fromkeys(r.beta for r in mine), strict=False):
            for colour, name in zip(COLOURS, dict.fromkeys(r.parameter for r in mine), strict=False):
                line = [r for r in mine if r.parameter == name and (not by_window or r.beta == beta)]
                label = name + (f", β {beta:g}" if by_window else "")
                places = [r.window if by_window else r.beta for r in line]
                axis.plot(places, [r.cosine for r in line], style + "o", color=colour, label=label)
            if not by_window:
                break
        axis.set(title=stage, xlabel="window (steps)" if by_window else "β", ylim=(min(0, axis.get_ylim()[0]), 1.02))
    axes[0, 0].set_ylabel("cosine to dense Eq. 18")
    legend(drawn)
    about = (records[0].neuron, records[0].circuit, records[0].rule)
    drawn.suptitle(", ".join(name for name in about if name is not None))
    caption = (
        "Cosine of what the synapses would do to Eq. 18 on dense rates that have converged, at stages of training."
    )
    for stage_name, texts in found.stages.items():
        if texts.note is not None:
            caption += f" {stage_name}: {texts.note}"
    return [Picture("gradients-fidelity", caption, drawn, [record.content() for record in records])]


def phases(found: ConvergenceCheck) -> Picture:
    """φ and residual over the free phase and the two nudges, with and without HopAttn, a row a stage."""
    stages = found.stages
    drawn, axes = figure(len(stages), 2)
    rows: list[Json] = []
    for row, (stage, about) in zip(axes, stages.items(), strict=True):
        networks = (("HopAttn", about.hopattn), ("no HopAttn", about.no_hopattn))
        for colour, (label, courses) in zip(COLOURS, networks, strict=False):
            if courses is None:
                continue
            free = courses[Phase.FREE]
            steps = len(free.phi)
            row[0].plot(range(1, steps + 1), free.phi, color=colour, label=label)
            row[1].plot(range(1, steps + 1), free.residual, color=colour, label=label)
            for phase, course in courses.items():
                pairs = enumerate(zip(course.phi, course.residual, strict=True), start=1)
                point = {"stage": stage, "network": label, "phase": phase}
                rows += [{**point, "step": step, "phi": phi, "residual": residual} for step, (phi, residual) in pairs]
                if phase == Phase.FREE:
                    continue
                after, style = range(steps + 1, steps + 1 + len(course.phi)), STYLES[phase][0]
                row[0].plot(after, course.phi, style, color=colour)
                row[1].plot(after, course.residual, style, color=colour)
        row[0].set(title=f"{stage}: φ", xlabel="step")
        row[1].set(title=f"{stage}: largest change of a unit", xlabel="step")
        logarithmic(row[1], "y")
    lines = axes[0][0].get_legend_handles_labels()[0]
    legend(drawn, [*lines, *(key(label, ls=style) for style, label in STYLES.values())])
    both = any(about.no_hopattn for about in stages.values())
    caption = "φ and the largest change of a unit over the free phase and both nudges, dense"
    caption += ", with and without HopAttn." if both else "."
    return Picture("convergence", caption, drawn, rows)


def hopfield(found: ConvergenceCheck) -> Picture:
    """From metastable states to retrieval as the inverse temperature grows."""
    sweep = found.hopfield
    drawn, axes = figure(1, 2)
    x = sweep.relative_inverse_temperature
    axes[0, 0].plot(x, sweep.effective_patterns, "o-", label="patterns mixed: exp(entropy)")
    axes[0, 1].plot(x, sweep.retrieved, "o-", color=COLOURS[2], label="share retrieved")
    axes[0, 1].plot(x, sweep.second_less_first, "s--", color=COLOURS[1], label="‖second − first‖ / ‖first‖")
    for axis in axes[0]:
        axis.axvline(1.0, color="grey", linewidth=0.8)
        logarithmic(axis, "x")
        axis.set_xlabel("inverse temperature ÷ that of HopAttn")
    logarithmic(axes[0, 0], "y")
    legend(drawn)
    names = ("relative_inverse_temperature", "effective_patterns", "retrieved", "second_less_first")
    columns = zip(*(getattr(sweep, name) for name in names), strict=True)
    caption = "From states that mix many patterns to single ones that are retrieved, as the inverse temperature grows."
    return Picture("hopfield", caption, drawn, [dict(zip(names, values, strict=True)) for values in columns])
