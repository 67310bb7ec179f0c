"""The tables of docs/energy.md: ledgers of results/, priced."""

from analysis.comparison import reference
from analysis.energy import DIGITAL, energy
from analysis.energy_report import DEFAULT, ranged, spread, text_of
from analysis.folders import Json
from docs.tools.markdown import RESULTS, label_of, runs_of, table
from neuromorphic.pricing import read_table

COLUMNS = ("layers", "HopAttn", "x w1", "loading")


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


def _changes(hardware: list[str]) -> Json:
    """The first run of the table that spikes, against its dense one."""
    shown = runs_of("energy")
    run, dense = next((run, dense) for run in shown if (dense := reference(run, shown)) is not None)
    tables = [read_table(name) for name in hardware]
    return energy(run.path, tables, dense.path, RESULTS / f"{run.result.dataset}-baselines.json")
