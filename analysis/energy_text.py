"""What ``eqspike energy`` prints: a verdict, a line for each hardware, terms; with ``--verbose`` everything else."""

import textwrap

from rich.console import Console
from rich.table import Table

from analysis.energy import PARTS
from analysis.energy_report import COMPONENTS, ranged, spread
from analysis.folders import Json
from analysis.units import beside, rounded, text_of, times

UNSURE, NONE = "?", "–"


def headline(report: Json, who: str = "this run") -> list[str]:
    """At most three sentences on ``energy.json``: the energy on its first hardware, on how many spiking takes less,
    and the cheapest classifier. ``who`` is the run."""
    entries = list(report["hardware"].values())
    first, said = entries[0], []
    takes = {part: text_of(first[part]["joules"]["value"]) for part in PARTS}
    if report["dense_from"] is None:
        said.append(
            f"An inference takes {takes['inference']} on {first['title']}, a training sample {takes['training']}."
        )
    else:
        dense = {part: text_of(first["dense"][part]["joules"]["value"]) for part in PARTS}
        phrase = f"An inference takes {takes['inference']} on {first['title']}, {_against(first, 'inference')}"
        phrase += f" ({dense['inference']})"
        if first["dense_over_this"]["training"] is not None:
            phrase += f"; a training sample {takes['training']}, {_against(first, 'training', short=True)}"
        said.append(phrase + ".")
        if len(entries) > 1:
            said.append(_on_how_many(entries))
    return [*said, *_cheapest(report, first, who)]


def _against(entry: Json, part: str, short: bool = False) -> str:
    """1.7 times less than dense EP; as much as dense EP."""
    ratio = entry["dense_over_this"][part]
    if ratio is None:
        return "of which dense EP takes nothing to compare"
    factor = 1 / ratio["value"]
    return times(factor) if short else beside(factor, "dense EP")


def _on_how_many(entries: list[Json]) -> str:
    """On which hardware spiking takes less."""
    less = {
        part: [e["title"] for e in entries if (r := e["dense_over_this"][part]) and r["value"] > 1] for part in PARTS
    }
    able = sum(entry["dense_over_this"]["training"] is not None for entry in entries)
    inference, training = (len(less[part]) for part in PARTS)
    named = f" ({less['inference'][0]})" if inference == 1 else ""
    return (
        f"Spiking takes less than dense EP on {inference or 'none'} of {len(entries)} cost tables{named}, "
        f"in training on {training or 'none'} of the {able} that can learn."
    )


def _cheapest(report: Json, first: Json, who: str) -> list[str]:
    """The classifier that takes least, beside this run on the same hardware where that is priced."""
    classifiers = [row for row in report["baselines"] if "test_accuracy" in row]
    if not classifiers:
        return []
    row = min(classifiers, key=lambda row: row["joules"]["value"])
    own, its = first["inference"]["joules"]["value"], row["joules"]["value"]
    same = first["title"] == row["on"] and own and its
    factor = f", {times(its / own)}" if same else f" on {row['on']}"
    right = report["run"]["test_accuracy"]
    scored = "" if row["test_accuracy"] is None else f", with {row['test_accuracy']:.2%} right ({who} {right:.2%})"
    name = row["name"].replace(", ", " on ", 1)
    return [f"The cheapest classifier is {name}: {text_of(its)} an inference{factor}{scored}."]


def show(report: Json, console: Console, verbose: bool = False) -> None:
    """The verdict, a line for each hardware, what the terms mean, what is not counted; ``verbose``: all figures."""
    for sentence in headline(report):
        console.print(sentence)
    if report["dense_from"] not in (None, "the same weights, dense"):
        console.print(f"Test accuracy: {report['accuracies']}.")
    console.print()
    console.print(overview(report), "")
    for term, meaning in terms(report):
        console.print(textwrap.fill(f"{term}: {meaning}", console.width, subsequent_indent="  "))
    if verbose:
        details(report, console)
    else:
        console.print("Ranges, parts, sources, GPUs: --verbose. All figures as data: --json.")


def overview(report: Json) -> Table:
    """A line for each hardware."""
    table = Table(box=None, pad_edge=False)
    table.add_column("hardware", no_wrap=True, max_width=22)
    spiking = report["dense_from"] is not None
    heads = ["inference", "dense EP", "this run", "training", "this run"] if spiking else ["inference", "training"]
    for head in heads:
        table.add_column(head, no_wrap=True, justify="right")
    for entry in report["hardware"].values():
        takes = {part: text_of(entry[part]["joules"]["value"]) for part in PARTS}
        if spiking:
            learns = entry["dense_over_this"]["training"] is not None
            cells = [
                takes["inference"],
                text_of(entry["dense"]["inference"]["joules"]["value"]),
                _ratio(entry["dense_over_this"]["inference"]),
                takes["training"] if learns else NONE,
                _ratio(entry["dense_over_this"]["training"]),
            ]
        else:
            cells = list(takes.values())
        table.add_row(entry["title"], *cells)
    return table


def _ratio(found: Json | None) -> str:
    """1.7 × less, with a mark where the range of the constants has both."""
    if found is None:
        return NONE
    less, factor = found["value"] >= 1, rounded(max(found["value"], 1 / found["value"]))
    said = "same" if factor == "1" else f"{factor} × {'less' if less else 'more'}"
    return said + ("  " if (found["low"] >= 1) == (found["high"] >= 1) else f" {UNSURE}")


def terms(report: Json) -> list[tuple[str, str]]:
    """What the words of ``overview`` mean, and what is in none of its figures."""
    found = [("inference", "one text answered"), ("training", "one text learnt from: all three phases, and the update")]
    if report["dense_from"] is not None:
        found += [
            (
                "dense EP",
                "the same network with real-valued units, each text until it has converged, on the digital hardware "
                "that fits (chips for spikes: 45 nm, fp16)",
            ),
            ("this run", "how much more or less it takes than dense EP"),
            (UNSURE, "published constants leave open which takes less"),
        ]
        if any(entry["dense_over_this"]["training"] is None for entry in report["hardware"].values()):
            found.append((NONE, "the hardware cannot learn, or what its learning takes is not published"))
        found += _rates(report)
    never = report["never_counted"]
    return [*found, ("not counted", never[0].lower() + never[1:])]


def _rates(report: Json) -> list[tuple[str, str]]:
    """Spikes per synapse, and at how many dense EP would take as much on the first hardware."""
    now, first = report["spikes_per_synapse"], next(iter(report["hardware"].values()))
    if not now["inference"]:
        return []
    even = first["break_even_spikes_per_synapse"]["inference"]
    said = f"{rounded(now['inference'])} in an inference, {rounded(now['training'])} in a training sample"
    if even is not None:
        limit = f"at {rounded(even)}" if even else "at no rate"
        said += f"; {limit} an inference would take what dense EP takes on {first['title']}"
    return [("spikes per synapse", said)]


def details(report: Json, console: Console) -> None:
    """Ranges, what each figure is made of, other hardware, what is not priced, and a verdict for each hardware."""
    console.print()
    for part, label in PARTS.items():
        console.print(_ranges(report, part, label), "")
        if report["dense_from"] is not None:
            console.print(_beside_dense(report, part, label), "")
    for part, label in PARTS.items():
        console.print(_components(report, part, label), "")
    first = next(iter(report["hardware"].values()))
    for part, label in PARTS.items():
        for split in ("layers", "phases", "groups"):
            sums = first[part][split].items()
            shown = ", ".join(f"{name} {text_of(sum_['value'])}" for name, sum_ in sums)
            console.print(f"{first['title']}, {label}, by {'kinds' if split == 'groups' else split}: {shown}")
    console.print()
    if report["baselines"]:
        console.print(_baselines(report), "")
    if report["spikes_per_neuron_and_step"]:
        layers = ", ".join(f"{name} {rate:.3g}" for name, rate in report["spikes_per_neuron_and_step"].items())
        console.print(f"Spikes a neuron and step: {layers}.", "")
    for row in report.get("claim", []):
        console.print(
            f"Claim of {row['claimed']} times below a GPU, {PARTS[row['part']]}, {row['chip']} against {row['gpu']}: "
            f"{spread(row['found'])}, {row['verdict']}."
        )
    if measured := report["measured_joules"]:
        shown = ", ".join(f"{part} {text_of(measured[part])}" for part in ("training", "testing") if measured[part])
        console.print(f"Measured (RAPL or NVML) while this program simulated the run: {shown}.", "")
    else:
        console.print("Measured: nothing; the machine of the run had no RAPL or NVML counter.", "")
    for text, titles in _notes(report).items():
        console.print(f"{'; '.join(titles)}: {text}")
    console.print("", f"Test accuracy: {report['accuracies']}.", "")
    for entry in report["hardware"].values():
        if "verdict" in entry:
            console.print(entry["verdict"])


def _table(title: str, *heads: str) -> Table:
    """Text on the left, figures on the right."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", overflow="fold")
    return table


def _ranges(report: Json, part: str, label: str) -> Table:
    """Value and range over the published constants, on every hardware."""
    spiking = report["dense_from"] is not None
    table = _table(f"Energy of {label}", "hardware", "value (range)", *(["dense ÷ this"] if spiking else []))
    for entry in report["hardware"].values():
        over = [spread(entry["dense_over_this"][part])] if spiking else []
        table.add_row(entry["title"], ranged(entry[part]["joules"]), *over)
    return table


def _beside_dense(report: Json, part: str, label: str) -> Table:
    """Dense EP on every hardware; the ratio in arithmetic alone; where both would take the same."""
    heads = ("hardware", "takes", "dense EP on", "arithmetic alone", "break-even")
    table = _table(f"Dense EP, {label}; break-even in spikes per synapse", *heads)
    for entry in report["hardware"].values():
        alone, even = (entry[key][part] for key in ("dense_over_this_in_arithmetic", "break_even_spikes_per_synapse"))
        table.add_row(
            entry["title"],
            text_of(entry["dense"][part]["joules"]["value"]),
            entry["dense"]["on"],
            NONE if alone is None else f"{alone:.3g}",
            NONE if even is None else f"{even:.3g}" if even else "never",
        )
    return table


def _components(report: Json, part: str, label: str) -> Table:
    """What each figure is made of."""
    entries = list(report["hardware"].values())
    used = [name for name in COMPONENTS if any(name in entry[part]["components"] for entry in entries)]
    table = _table(f"What {label} is made of", "hardware", *used)
    for entry in entries:
        parts = entry[part]["components"]
        table.add_row(entry["title"], *(text_of(parts[name]["value"]) if name in parts else NONE for name in used))
    return table


def _baselines(report: Json) -> Table:
    """Dense EP on other hardware, and classifiers."""
    table = _table("Beside it", "", "right", "inference", "training")
    for row in report["baselines"]:
        inference, accuracy = row.get("inference", row)["joules"], row.get("test_accuracy")
        training = text_of(row["training"]["joules"]["value"]) if "training" in row else NONE
        table.add_row(
            row["name"], NONE if accuracy is None else f"{accuracy:.2%}", text_of(inference["value"]), training
        )
    return table


def _notes(report: Json) -> dict[str, list[str]]:
    """{what is said of a table and of kinds that it does not price: the tables of which it is said}."""
    found: dict[str, list[str]] = {}
    for entry in report["hardware"].values():
        omitted: dict[str, list[str]] = {}
        for kind, reason in entry["not_counted"].items():
            omitted.setdefault(reason, []).append(kind.replace("_", " "))
        reasons = "; ".join(f"{', '.join(kinds)} ({reason})" for reason, kinds in omitted.items())
        found.setdefault(f"{entry['note']} Not priced apart: {reasons}.", []).append(entry["title"])
    return found
