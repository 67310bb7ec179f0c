"""Every spike of one text through the three phases.

python -m analysis.raster RUN --out raster.svg
"""

from pathlib import Path
from typing import Any

import numpy as np
import tyro

from analysis.style import COLOURS, figure, save

PHASES = (("free", "free phase"), ("nudge_plus", "nudge +β"), ("nudge_minus", "nudge −β"))
NEURONS = 64  # of a layer at most: the first ones


def draw_raster(samples: dict[str, Any], text: int) -> Any:
    """Rows are neurons, s² at the bottom, the output on top; below, the output's activity. Colours tell the signs."""
    layers = sorted(name.removeprefix("free_") for name in samples if name.startswith("free_spikes_s"))
    layers = [name for name in layers if samples[f"free_{name}"].ndim == 3]  # s¹ is given as sums
    drawn, axes = figure(2, 3, 10, 6)
    for column, (phase, title) in enumerate(PHASES):
        raster, place, centres = axes[0, column], 0, []
        for name in layers:
            spikes = samples[f"{phase}_{name}"][:, text, :NEURONS].astype(np.int64)
            for sign, colour in ((1, COLOURS[0]), (-1, COLOURS[1])):
                step, neuron = np.nonzero(np.sign(spikes) == sign)
                raster.plot(step + 1, place + neuron, ",", color=colour, rasterized=True)
                if len(spikes) < 50:
                    raster.plot(step + 1, place + neuron, "|", color=colour, markersize=4, rasterized=True)
            centres.append(place + spikes.shape[1] / 2)
            place += spikes.shape[1] + 4
        raster.set(title=title, xlim=(0, len(spikes) + 1), ylim=(-2, place))
        raster.set_yticks(centres, [name.removeprefix("spikes_") for name in layers])
        raster.grid(False)
        output = samples[f"{phase}_outputs"][:, text]
        steps = int(samples["reading_steps"]) * np.arange(1, len(output) + 1)
        for k in range(output.shape[1]):
            axes[1, column].plot(steps, output[:, k], ".-", color=COLOURS[k + 2], label=f"class {k}")
        axes[1, column].set(xlim=raster.get_xlim(), ylim=(-0.05, 1.05), xlabel="step")
    axes[0, 0].set_ylabel("neurons")
    axes[1, 0].set_ylabel("output activity")
    axes[1, 0].legend(fontsize=7)
    return drawn


def main(run: tyro.conf.Positional[Path], out: Path, text: int | None = None) -> None:
    """Plot the spikes of one test text.

    Args:
        run: A run folder of the spiking backend.
        out: The SVG file.
        text: Which of the 16 texts of samples.npz. Default: the one whose output the two nudges drive furthest apart.
    """
    with np.load(run / "samples.npz", allow_pickle=False) as file:
        samples = {name: file[name] for name in file.files}
    if text is None:
        apart = np.abs(samples["nudge_plus_outputs"][-1] - samples["nudge_minus_outputs"][-1])
        text = int(apart.max(1).argmax())
    save(draw_raster(samples, text), out)


if __name__ == "__main__":
    tyro.cli(main)
