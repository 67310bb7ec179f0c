"""Accuracy against energy: the runs of the table of energies, and the points of ``benchmarks.pareto`` on mini.

Beside the runs on IMDB are the same network trained by backpropagation, tables of 8 bits (``benchmarks.savings``),
other classifiers, and what others have measured.

python -m docs.tools.pareto
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from analysis.energy import DIGITAL, part_of
from analysis.energy_report import texts_of
from analysis.folders import Run, open_run
from analysis.pictures import front
from analysis.style import COLOURS, MARKERS, figure, legends, logarithmic, save
from docs.tools.energy_tables import elsewhere
from docs.tools.markdown import RESULTS, label_of, read, runs_of
from eqspike_seq.ledger import Ledger
from eqspike_seq.phases import Phase
from neuromorphic.pricing import read_table

BACKPROPAGATION = "imdb-words-bptt-seed0"
# (title, joules, accuracy): AI Energy Score, distilbert-imdb on a GPU, its units inferred; Sanh et al. (2019), Table 2
ELSEWHERE = (("DistilBERT on a GPU (measured elsewhere)", 0.78, 0.9282),)


def main(
    points: Path = Path("results/pareto.json"),
    out: Path = Path("docs/pareto.svg"),
) -> None:
    """Draw both.

    Args:
        points: What `python -m benchmarks.pareto` wrote.
        out: The picture.
    """
    drawn, axes = figure(1, 2)
    named: list[list[tuple[str, dict[str, Any], float]]] = [[], []]
    runs = runs_of("energy")
    for run in runs:
        joules = part_of(run.ledgers.inference, read_table(DIGITAL))["joules"]
        named[0].append((label_of(run), joules, run.result.test_accuracy))
    named[0] += others(runs)
    for row in json.loads(points.read_text())["rows"]:
        joules = row["joules_per_inference"]
        named[1].append((label(row["backend"], row["changes"]), joules, row["test_accuracy"]))
    for axis, rows, title in zip(axes[0], named, (runs[0].result.dataset, "mini"), strict=True):
        for place, (name, joules, accuracy) in enumerate(rows):
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place // len(COLOURS) % len(MARKERS)]
            spread = [[joules["value"] - joules["low"]], [joules["high"] - joules["value"]]]
            axis.errorbar(joules["value"], 100 * accuracy, xerr=spread, fmt=marker, color=colour, label=name)
        best = front([(joules["value"], 100 * accuracy) for _, joules, accuracy in rows])
        axis.step(*zip(*best, strict=True), where="post", color="black", linewidth=0.7)
        logarithmic(axis, "x", said=texts_of)
        axis.set(xlabel="energy of an inference, 45 nm digital, fp32", ylabel="test accuracy, %", title=title)
    legends(drawn)
    save(drawn, out)


def others(runs: list[Run]) -> list[tuple[str, dict[str, Any], float]]:
    """(name, joules of an inference, test accuracy) of what is no run of the table of energies."""
    found = [
        (row["name"], row.get("inference", row)["joules"], row["test_accuracy"])
        for row in elsewhere()
        if row.get("test_accuracy") is not None
    ]
    same = open_run(RESULTS / BACKPROPAGATION)
    joules = part_of(same.ledgers.inference, read_table(DIGITAL))["joules"]
    found.append(("the same network as dense EP, pooling, by backpropagation", joules, same.result.test_accuracy))
    for preset in ("imdb", "imdb-small"):
        last = [
            row["steps"][-1] for row in read("savings.json")["rows"] if row["preset"] == preset and row["seed"] == 0
        ]
        joules = last[0]["inference"][DIGITAL]["joules"]
        found.append((f"sigma-delta, preset {preset}, vectors of 8 bits", joules, last[0]["test_accuracy"]))
    model = read("imdb-baselines.json")["lstm"]
    tokens = next(run for run in runs if run.saved.get("network", "tokens") == "tokens")
    found.append(
        ("LSTM", part_of(lstm_ledger(tokens, model["hidden"]), read_table(DIGITAL))["joules"], model["test_accuracy"])
    )
    return found + [(name, dict.fromkeys(("value", "low", "high"), joule), right) for name, joule, right in ELSEWHERE]


def lstm_ledger(run: Run, hidden: int) -> Ledger:
    """An LSTM on the tokens that ``run`` sees: 4 H (D + H) products a token, each with a weight fetched, and the table
    looked up as there."""
    seen = run.ledgers.inference
    texts, row = seen.samples[Phase.FREE], seen.counts["input"][Phase.FREE]
    uses = row["lookup_reads"] // run.saved["dim"] * 4 * hidden * (run.saved["dim"] + hidden)
    found = Ledger(samples={Phase.FREE: texts})
    found.add("input", Phase.FREE, io_bytes=row["io_bytes"], lookup_reads=row["lookup_reads"])
    found.add("lstm", Phase.FREE, multiply_accumulates=uses, weight_reads=uses)
    return found


def label(backend: str, settings: dict[str, Any]) -> str:
    """A few words for a run or for what was changed in it."""
    if backend == "dense":
        return "dense EP"
    neuron = "changes" if settings.get("neuron") == "sigma-delta" else f"rates, {settings.get('rule', 'eqspike')}"
    circuit = ", HopAttn in spikes" if settings.get("circuit") == "wta" else ""
    shown = {
        "projection_threshold": "θ of s¹",
        "attention_threshold": "θ of rows",
        "origin": "from",
        "threshold": "θ",
    }
    values = {name: np.ravel(settings[name]).tolist() for name in shown if name in settings}  # one, or one a layer
    rest = [f"{shown[name]} {', '.join(f'{value:g}' for value in each)}" for name, each in values.items()]
    return ", ".join([neuron + circuit, *rest])


if __name__ == "__main__":
    tyro.cli(main)
