"""One text of ``samples.npz`` in full: every spike through the three phases, and where HopAttn looks."""

from typing import Any

import numpy as np

from analysis.folders import Json, Run
from analysis.picture import Picture
from analysis.style import COLOURS, figure, legend, short
from eqspike_seq.phases import Phase
from eqspike_seq.runs.samples import received

TITLES = {Phase.FREE: "free phase", Phase.PLUS: "nudge +β", Phase.MINUS: "nudge −β"}
NEURONS = 64  # of a layer at most: the first ones
WORDS = 48  # of a text at most: those that get most attention; more would overlap


def moved_most(samples: dict[str, Any]) -> int:
    """The text whose output the two nudges drive furthest apart."""
    apart = np.abs(samples[f"{Phase.PLUS}_outputs"][-1] - samples[f"{Phase.MINUS}_outputs"][-1])
    return int(apart.max(1).argmax())


def raster(run: Run) -> Picture | None:
    """Rows are neurons, s² at the bottom, the output on top; below, the output's activity. Colours tell the signs."""
    samples = run.samples
    layers = sorted(name.removeprefix("free_") for name in samples if name.startswith("free_spikes_s"))
    layers = [name for name in layers if samples[f"free_{name}"].ndim == 3]  # s¹ is given as sums
    if not layers:
        return None
    text = moved_most(samples)
    drawn, axes = figure(2, 3)
    rows: list[Json] = []
    for column, (phase, title) in enumerate(TITLES.items()):
        top, place, centres = axes[0, column], 0, []
        for name in layers:
            spikes = samples[f"{phase}_{name}"][:, text, :NEURONS].astype(np.int64)
            for sign, colour in ((1, COLOURS[0]), (-1, COLOURS[1])):
                step, neuron = np.nonzero(np.sign(spikes) == sign)
                top.plot(step + 1, place + neuron, ",", color=colour, rasterized=True)
                if len(spikes) < 50:
                    top.plot(step + 1, place + neuron, "|", color=colour, markersize=4, rasterized=True)
            for step, neuron in zip(*(found.tolist() for found in np.nonzero(spikes)), strict=True):
                about = {"phase": phase, "layer": name.removeprefix("spikes_"), "neuron": neuron, "step": step + 1}
                rows.append({**about, "spikes": int(spikes[step, neuron])})
            centres.append(place + spikes.shape[1] / 2)
            place += spikes.shape[1] + 4
        top.set(title=title, xlim=(0, len(spikes) + 1), ylim=(-2, place))
        top.set_yticks(centres, [name.removeprefix("spikes_") for name in layers])
        top.grid(False)
        output = samples[f"{phase}_outputs"][:, text]
        steps = int(samples["reading_steps"]) * np.arange(1, len(output) + 1)
        for k in range(output.shape[1]):
            axes[1, column].plot(steps, output[:, k], ".-", color=COLOURS[(k + 2) % len(COLOURS)], label=f"class {k}")
        axes[1, column].set(xlim=top.get_xlim(), ylim=(-0.05, 1.05), xlabel="step")
    axes[0, 0].set_ylabel("neurons")
    axes[1, 0].set_ylabel("output activity")
    legend(drawn)
    caption = (
        f"{run.name}: of 16 test texts the one that the nudges move most, through the free phase and both nudges; the "
        f"first {NEURONS} neurons of each layer above s¹ (orange: negative spikes), and the outputs."
    )
    return Picture("raster", caption, drawn, rows)


def attention(run: Run) -> Picture | None:
    """How much of HopAttn's attention each word of the same text gets."""
    samples = run.samples
    if "attention" not in samples:
        return None
    text = moved_most(samples)
    words, shares = received(samples, text)
    chosen = np.sort(np.argsort(-shares, kind="stable")[:WORDS])
    drawn, ((axis,),) = figure()
    axis.bar(range(len(chosen)), shares[chosen], color=COLOURS[0])
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set_xticks(range(len(chosen)), [short(str(word), 20) for word in words[chosen]], rotation=90, fontsize=7)
    axis.set_ylabel("attention received")
    axis.grid(axis="x", visible=False)
    rows = [{"word": str(words[i]), "place": int(i), "attention": float(shares[i])} for i in chosen]
    caption = (
        f"{run.name}: attention that the words of the same text get at the end of the free phase, "
        f"in reading order; 1 is what all would get of an even share. The {len(chosen)} that get most."
    )
    return Picture("attention", caption, drawn, rows)
