"""The tables of docs/energy.md: ledgers of results/, priced."""

from statistics import mean

from analysis.comparison import reference
from analysis.energy import DIGITAL, energy
from analysis.energy_report import DEFAULT, ranged, spread
from analysis.folders import Json
from analysis.units import text_of
from docs.tools.markdown import RESULTS, label_of, read, runs_of, table
from neuromorphic.pricing import read_table

VERDICTS = {"open": "not decided"}
COLUMNS = ("layers", "HopAttn", "x w1", "loading")
SAVED = {
    "every occurrence": "every occurrence stored, HopAttn read in each of T steps",
    "distinct": "equal patterns stored once",
    "silent": "silent texts take no more steps",
    "changed": "HopAttn read where s² has sent something: as trained",
    "moved": "rows read again where their query has moved",
    "8 bits": "vectors of 8 bits",
}


def runs() -> str:
    """Runs on IMDB, priced on 45 nm digital fp32, with the parts of an inference."""
    heads = ("", "test", "inference", *COLUMNS, "dense ÷", "training sample", "dense ÷ ")
    rows = []
    shown = runs_of("energy")
    for run in shown:
        dense = reference(run, shown)
        found = energy(run.path, [read_table(DIGITAL)], None if dense is None else dense.path, None)
        entry = found["hardware"][DIGITAL]
        parts, over = entry["inference"]["components"], entry.get("dense_over_this")
        cells = (
            f"[{label_of(run)}](../results/{run.name}/ledger.json)",
            f"{100 * run.result.test_accuracy:.2f} %",
            ranged(entry["inference"]["joules"]),
            *(text_of(parts[name]["value"]) if name in parts else "–" for name in COLUMNS),
            f"{over['inference']['value']:.3g}" if over else "–",
            ranged(entry["training"]["joules"]),
            f"{over['training']['value']:.3g}" if over else "–",
        )
        rows.append(cells)
    return table(heads, rows, text=(0,))


def hardware() -> str:
    """The change-coded run on IMDB, on every table, against the dense run."""
    heads = ("", "inference", "dense EP", "dense ÷ this", "training sample", "dense ÷ this ", "break-even")
    rows = []
    for entry in _changes(list(DEFAULT))["hardware"].values():
        even = entry["break_even_spikes_per_synapse"]["inference"]
        cells = (
            entry["title"],
            ranged(entry["inference"]["joules"]),
            f"{text_of(entry['dense']['inference']['joules']['value'])}, {entry['dense']['on']}",
            spread(entry["dense_over_this"]["inference"]),
            ranged(entry["training"]["joules"]),
            spread(entry["dense_over_this"]["training"]),
            f"{even:.3g}" if even else "never",
        )
        rows.append(cells)
    return table(heads, rows, text=(0,))


def savings() -> str:
    """What lowers the energy of pooling queries on change codes: each step with those before it, mean over seeds."""
    heads = ["", "validation", "test", "inference", "layers", "HopAttn", "loading", "training sample"]
    heads += ["inference on Loihi", "static power"]
    rows = []
    for preset, networks in _by_preset().items():
        for same in zip(*(network["steps"] for network in networks), strict=True):
            digital, loihi = ([each["inference"][name] for each in same] for name in (DIGITAL, "loihi"))
            learnt = [each["training"][DIGITAL]["joules"]["value"] for each in same if each["training"]]
            cells = (
                f"`{preset}`: {SAVED[same[0]['step']]}",
                *(f"{100 * mean(each[f'{part}_accuracy'] for each in same):.2f} %" for part in ("validation", "test")),
                text_of(mean(each["joules"]["value"] for each in digital)),
                *(text_of(_part(digital, name)) for name in ("layers", "HopAttn", "loading")),
                text_of(mean(learnt)) if learnt else "–",
                text_of(mean(each["joules"]["value"] for each in loihi)),
                text_of(_part(loihi, "static power")),
            )
            rows.append(cells)
    return table(heads, rows, text=(0,))


def savings_tried() -> str:
    """What was tried on validation, by itself: mean over seeds, joules of an inference."""
    presets, made = _by_preset(), dict[str, list[str]]()
    for networks in presets.values():
        for same in zip(*(network["tried"] for network in networks), strict=True):
            hopattn, loading = (mean(each["joules"][name] for each in same) for name in ("HopAttn", "loading"))
            kept = "–"
            if left := [each["left_out"] for each in same if "left_out" in each]:
                hopattn *= 1 - mean(each["saved_of_hopattn"] for each in left)
                kept = ", ".join(f"{100 * mean(each[n] for each in left):.0f} %" for n in ("held_for_a_query", "kept"))
            right = f"{100 * mean(each['validation_accuracy'] for each in same):.2f} %"
            cells = made.setdefault(_tried(same[0]["changes"]), [])
            cells += [right, kept, text_of(hopattn), text_of(loading)]
    heads = [f"`{preset}`: {head}" for preset in presets for head in ("validation", "kept", "HopAttn", "loading")]
    return table(("", *heads), ((name, *cells) for name, cells in made.items()), text=(0,))


def _tried(changes: Json) -> str:
    """In words."""
    said = {"attention_threshold": "`--attention-threshold {}`", "share": "patterns that hold {}", "bits": "{} bits"}
    return "".join(said[name].format(value) for name, value in changes.items()) or "as trained"


def _by_preset() -> dict[str, list[Json]]:
    """The networks of ``benchmarks.savings``."""
    rows: list[Json] = read("savings.json")["rows"]
    return {name: [row for row in rows if row["preset"] == name] for name in sorted({r["preset"] for r in rows})}


def _part(priced: list[Json], name: str) -> float:
    return mean(each["components"].get(name, {"value": 0.0})["value"] for each in priced)


def claims() -> str:
    """The claim of orders of magnitude below GPUs."""
    rows = (
        (
            f"{row['chip']} against {row['gpu']}, {row['part']}",
            str(row["claimed"]),
            spread(row["found"]),
            row["verdict"],
        )
        for row in _changes([])["claim"]
    )
    return table(("", "claimed", "found", "verdict"), rows, text=(0, 3))


def elsewhere() -> list[Json]:
    """Dense EP on other hardware, and cheap classifiers."""
    return list(_changes([])["baselines"])


def baselines() -> str:
    """The same as a table."""
    rows = []
    for row in elsewhere():
        accuracy, inference = row.get("test_accuracy"), row.get("inference", row)["joules"]
        cells = (
            row["name"],
            "–" if accuracy is None else f"{100 * accuracy:.2f} %",
            text_of(inference["value"]),
            text_of(row["training"]["joules"]["value"]) if "training" in row else "–",
        )
        rows.append(cells)
    return table(("", "test", "inference", "training sample"), rows, text=(0,))


def prices() -> str:
    """What others measured or simulated, beside what the tables say of it."""
    heads = ("", "source", "their figure", "our table", "its figure", "ours ÷ theirs", "verdict")
    rows = []
    for row in read("prices.json")["rows"]:
        said = VERDICTS.get(row["verdict"], row["verdict"]) + (
            ", in range" if row["verdict"] == "off" and row["in_range"] else ""
        )
        cells = (
            row["name"],
            f"{row['source']}, {row['how']}",
            text_of(row["reference_joules"]),
            read_table(row["table"]).title,
            ranged(row["joules"]),
            f"{row['ratio']:.2g}",
            said,
        )
        rows.append(cells)
    return table(heads, rows, text=(0, 1, 3, 6))


def _changes(hardware: list[str]) -> Json:
    """The first run of the table that spikes, against its dense one."""
    shown = runs_of("energy")
    run, dense = next((run, dense) for run in shown if (dense := reference(run, shown)) is not None)
    tables = [read_table(name) for name in hardware]
    return energy(run.path, tables, dense.path, RESULTS / f"{run.result.dataset}-baselines.json")
