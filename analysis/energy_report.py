"""The report of ``eqspike energy``: tables on the terminal, ``energy.csv`` and pictures in the run folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.energy import PARTS
from analysis.folders import Json, open_run
from analysis.picture import as_csv
from analysis.style import COLOURS, figure, legend, logarithmic, save
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
UNITS = ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"), (1e-12, "pJ"))


def text_of(joules: float) -> str:
    """With a unit that fits."""
    for size, unit in UNITS:
        if joules >= 0.9995 * size:  # what rounds to a thousand has the next unit
            return f"{joules / size:.3g} {unit}"
    return "0" if joules == 0 else f"{joules / 1e-12:.2g} pJ"


def texts_of(joules: Sequence[float]) -> list[str]:
    """Each with a unit that fits."""
    return [text_of(value) for value in joules]


def ranged(joules: Json) -> str:
    """Value and range."""
    return f"{text_of(joules['value'])} ({text_of(joules['low'])} – {text_of(joules['high'])})"


def spread(found: Json | None) -> str:
    """A ratio and its range."""
    return "–" if found is None else "{value:.3g} ({low:.2g} – {high:.2g})".format(**found)


def show(report: Json, console: Console) -> None:
    """Tables, what is not counted, and the verdicts."""
    spiking = report["dense_from"] is not None
    for part, label in PARTS.items():
        headings = ["hardware", f"joules, {label}"]
        headings += ["dense EP", "dense ÷ this", "arithmetic alone", "break-even"] if spiking else []
        table = Table(*headings, title=f"Energy of {label}", box=None, pad_edge=False)
        for entry in report["hardware"].values():
            row = [entry["title"], ranged(entry[part]["joules"])]
            if spiking:
                even = entry["break_even_spikes_per_synapse"][part]
                row.append(f"{text_of(entry['dense'][part]['joules']['value'])} on {entry['dense']['on']}")
                row.append(spread(entry["dense_over_this"][part]))
                alone = entry["dense_over_this_in_arithmetic"][part]
                row.append("–" if alone is None else f"{alone:.3g}")
                row.append("–" if even is None else f"{even:.3g}" if even else "never")
            table.add_row(*row)
        console.print(table, "")
    for part, label in PARTS.items():
        used = [name for name in COMPONENTS if any(name in e[part]["components"] for e in report["hardware"].values())]
        table = Table("hardware", *used, title=f"What {label} is made of", box=None, pad_edge=False)
        for entry in report["hardware"].values():
            parts = entry[part]["components"]
            table.add_row(entry["title"], *(text_of(parts[name]["value"]) if name in parts else "–" for name in used))
        console.print(table, "")
    first = next(iter(report["hardware"].values()))
    for part, label in PARTS.items():
        for split in ("layers", "phases", "groups"):
            sums = first[part][split].items()
            shown = ", ".join(f"{name} {text_of(sum_['value'])}" for name, sum_ in sums)
            console.print(f"{first['title']}, {label}, by {'kinds' if split == 'groups' else split}: {shown}")
    console.print("(energy.csv has every layer, phase and kind on every hardware.)", "")
    if report["baselines"]:
        table = Table("beside it", "test accuracy", "an inference", "a training sample", box=None, pad_edge=False)
        for row in report["baselines"]:
            inference = row.get("inference", row)["joules"]
            training = text_of(row["training"]["joules"]["value"]) if "training" in row else "–"
            accuracy = row.get("test_accuracy")
            table.add_row(
                row["name"], "–" if accuracy is None else f"{accuracy:.2%}", text_of(inference["value"]), training
            )
        console.print(table, "")
    figures = ", ".join(
        f"{label} {report['spikes_per_synapse'][part]:.3g}"
        for part, label in PARTS.items()
        if report["spikes_per_synapse"][part]
    )
    if figures:
        layers = ", ".join(f"{name} {rate:.3g}" for name, rate in report["spikes_per_neuron_and_step"].items())
        console.print(f"Spikes per synapse: {figures}. Spikes a neuron and step: {layers}.", "")
    for row in report.get("claim", []):
        console.print(
            f"Claim of {row['claimed']} times below a GPU, {PARTS[row['part']]}, {row['chip']} against {row['gpu']}: "
            f"{spread(row['found'])}, {row['verdict']}."
        )
    if measured := report["measured_joules"]:
        shown = ", ".join(f"{part} {text_of(measured[part])}" for part in ("training", "testing") if measured[part])
        console.print(f"Measured (RAPL or NVML) while this program simulated the run: {shown}.")
    else:
        console.print("Measured: nothing, the machine of the run had neither RAPL nor an NVML counter to read.")
    console.print("", "Not counted anywhere: " + report["never_counted"])
    for entry in report["hardware"].values():
        omitted: dict[str, list[str]] = {}
        for kind, reason in entry["not_counted"].items():
            omitted.setdefault(reason, []).append(kind.replace("_", " "))
        console.print(
            f"{entry['title']}: {entry['note']} Not priced apart: "
            + "; ".join(f"{', '.join(kinds)} ({reason})" for reason, kinds in omitted.items())
            + "."
        )
    console.print("", f"Test accuracy: {report['accuracies']}.", "")
    for entry in report["hardware"].values():
        if "verdict" in entry:
            console.print(entry["verdict"])


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
    legend(drawn, [_patch(colour, name) for colour, name in zip(COLOURS, COMPONENTS, strict=False)])
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


def _patch(colour: str, name: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=name)
