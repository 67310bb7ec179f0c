"""What ``eqspike energy`` writes into the run folder: ``energy.csv`` and pictures; and how figures are printed."""

from pathlib import Path
from typing import Any

from analysis.energy import PARTS
from analysis.folders import Json, open_run
from analysis.picture import as_csv
from analysis.style import COLOURS, figure, legend, logarithmic, save
from analysis.units import text_of
from eqspike_seq.files import write_bytes
from eqspike_seq.phases import Phase
from neuromorphic.pricing import CostTable, price

DEFAULT = (  # hardware that is priced unasked
    "horowitz-45nm-fp32",
    "horowitz-45nm-fp16",
    "horowitz-45nm-int8",
    "loihi",
    "truenorth",
    "spinnaker2",
    "odin",
    "crossbar",
)
COMPONENTS = ("layers", "HopAttn", "x w1", "loading", "learning", "static power")
WIDEST = 2.5  # times dense EP: where the picture ends
BROKEN = 1.95  # times dense EP: where a bar that goes on ends, so that its number has room
APART = 0.06  # decades of spikes per synapse: between the ranges of two chips, which would hide each other


def ranged(joules: Json) -> str:
    """Value and range."""
    return f"{text_of(joules['value'])} ({text_of(joules['low'])} – {text_of(joules['high'])})"


def spread(found: Json | None) -> str:
    """A ratio and its range."""
    return "–" if found is None else "{value:.3g} ({low:.2g} – {high:.2g})".format(**found)


def write_csv(run: Path, tables: list[CostTable], path: Path) -> None:
    """A line for each count and hardware: joules a text."""
    rows: list[Json] = []
    found = open_run(run).ledgers
    for table in tables:
        for part in PARTS:
            texts = found.of(part).samples[Phase.FREE]
            for cost in price(found.of(part), table):
                joules = cost.joules / texts
                about = {"layer": cost.layer, "phase": cost.phase, "kind": cost.kind, "count": cost.count / texts}
                sums = {"joules": joules.value, "joules_low": joules.low, "joules_high": joules.high}
                rows.append({"hardware": table.name, "part": part, **about, **sums})
    write_bytes(path, as_csv(rows))


def draw(report: Json, folder: Path) -> list[Path]:
    """What energy is made of, of this run and of dense EP; and how it would change with the rate of spikes."""
    from matplotlib.patches import Patch

    entries = [
        entry
        for entry in report["hardware"].values()
        if "dense" in entry and all(entry["dense"][part]["joules"]["value"] for part in PARTS)  # it costs something
    ]
    if not entries:
        return []
    drawn, axes = figure(1, 2, height=1.2 + 0.55 * len(entries))
    for axis, (part, label) in zip(axes[0], PARTS.items(), strict=True):
        for place, entry in enumerate(entries):
            _bar(axis, place - 0.2, entry[part], entry["dense"][part])
            _bar(axis, place + 0.2, entry["dense"][part], entry["dense"][part])
        titles = [f"{entry['title']}\n(dense: {entry['dense']['on']})" for entry in entries]
        axis.set_yticks(range(len(entries)), titles if part == "inference" else [""] * len(entries))
        axis.invert_yaxis()
        axis.set_xlim(0, WIDEST)
        axis.set_xlabel(f"energy of {label}, dense EP = 1")
        axis.grid(axis="y", visible=False)
    legend(drawn, [Patch(color=colour, label=name) for colour, name in zip(COLOURS, COMPONENTS, strict=False)])
    written = [save(drawn, folder / "energy.svg")]
    drawn, axes = figure(1, 2)
    for axis, (part, label) in zip(axes[0], PARTS.items(), strict=True):
        now = entries[0]["spikes_per_synapse"][part]
        if not now:
            continue
        rates = [now * 10 ** (step / 20) for step in range(-40, 61)]
        for place, entry in enumerate(entries):
            colour, dashes = COLOURS[place % len(COLOURS)], ("-", "--", ":")[place // len(COLOURS) % 3]
            events, mine = entry["joules_of_spikes"][part], entry[part]["joules"]
            fixed, dense = mine["value"] - events, entry["dense"][part]["joules"]["value"]
            line = [dense / (fixed + events * rate / now) for rate in rates]
            axis.plot(rates, line, dashes, color=colour, label=entry["title"])
            if (ends := entry["dense_over_this"][part]) is not None:
                aside = now * 10 ** (APART * (place - (len(entries) - 1) / 2))
                axis.plot([aside, aside], [ends["low"], ends["high"]], dashes, color=colour, alpha=0.6)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.axvline(now, color="black", linewidth=0.8, linestyle=":")
        logarithmic(axis, "x", "y")
        axis.set(xlabel=f"spikes per synapse, {label}", ylabel="dense EP ÷ spiking")
    legend(drawn)
    written.append(save(drawn, folder / "energy-break-even.svg"))
    return written


def _bar(axis: Any, place: float, part: Json, dense: Json) -> None:
    """Components end to end, in shares of ``dense``, then the sum and its share.

    A bar that is longer than ``BROKEN`` ends there, with a gap across it as the mark that it goes on.
    """
    left, whole = 0.0, dense["joules"]["value"]
    for colour, name in zip(COLOURS, COMPONENTS, strict=False):
        share = part["components"].get(name, {"value": 0.0})["value"] / whole
        axis.barh(
            place, min(left + share, BROKEN) - min(left, BROKEN), left=min(left, BROKEN), height=0.34, color=colour
        )
        left += share
    if left > BROKEN:
        for aside in (0.10, 0.16):
            cut = [BROKEN - aside - 0.03, BROKEN - aside + 0.03]
            axis.plot(cut, [place + 0.24, place - 0.24], color="white", linewidth=2.5)
            axis.plot(cut, [place + 0.24, place - 0.24], color="black", linewidth=0.6)
    times = "" if part is dense else f", {left:.2g}×" if left < 10 else f", {left:,.0f}×"
    axis.text(min(left, BROKEN) + 0.02, place, f"{text_of(part['joules']['value'])}{times}", va="center", fontsize=7)
