"""Test accuracy against the energy of an inference: EP on rates and on spikes, and what one would take instead.

python -m docs.tools.pareto

Accuracies are means over the seeds recorded. Runs are priced from their ledgers. An LSTM and the decomposable attention
model fetch a weight for each product, as dense EP does.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import tyro

from analysis.energy import DIGITAL, classifiers, part_of
from analysis.folders import Run, open_run
from analysis.style import COLOURS, figure, key, legend, logarithmic, save
from analysis.units import texts_of
from docs.tools.markdown import RESULTS, read
from eqspike_seq.ledger import Ledger
from eqspike_seq.phases import Phase
from neuromorphic.pricing import read_table

KINDS = {
    "EP on rates": {"color": COLOURS[0], "marker": "o"},
    "EP on spikes": {"color": COLOURS[1], "marker": "o"},
    "no EP": {"color": "dimgrey", "marker": "D"},
}
# title: runs of seeds 0, 1, …, kind, label, where the label stands: points to the right and up of the point
RUNS: dict[str, tuple[tuple[str, str, str, tuple[int, int]], ...]] = {
    "IMDB": (
        ("imdb-words", "EP on rates", "dense EP", (-26, 7)),
        ("imdb-words-small", "EP on rates", "dense EP, small", (28, -3)),
        ("imdb-words-sigma-delta", "EP on spikes", "sigma-delta", (20, -3)),
        ("imdb-words-small-sigma-delta", "EP on spikes", "sigma-delta, small", (6, -12)),
        ("imdb-words-if", "EP on spikes", "rate code", (6, 6)),
        ("imdb-dense", "EP on rates", "paper's network", (-26, 7)),
        ("imdb-sigma-delta", "EP on spikes", "paper's network", (-38, -13)),
    ),
    "SNLI, 36,380 pairs": (
        ("snli-words", "EP on rates", "dense EP", (-60, -4)),
        ("snli-words-sigma-delta", "EP on spikes", "sigma-delta", (-10, 6)),
        ("snli-dense", "EP on rates", "paper's network", (-40, 8)),
        ("snli-sigma-delta", "EP on spikes", "paper's network", (-40, -13)),
    ),
}
# AI Energy Score, distilbert-imdb on a GPU, its units inferred; Sanh et al. (2019), Table 2
DISTILBERT = ("DistilBERT,\non a GPU", 0.78, 0.9282)


@dataclass(frozen=True)
class Point:
    """``joules`` of an inference (value, low, high), ``accuracy`` a fraction, ``offset`` of the label in points."""

    kind: str
    label: str
    joules: dict[str, float]
    accuracy: float
    offset: tuple[int, int]


def main(out: Path = Path("docs/pareto.svg")) -> None:
    """Draw it.

    Args:
        out: The picture.
    """
    drawn, axes = figure(1, 2, height=4.8)
    for axis, (title, shown) in zip(axes[0], RUNS.items(), strict=True):
        points = [point_of(*each) for each in shown] + (others_imdb() if title == "IMDB" else others_snli())
        for point in points:
            value, low, high = (point.joules[name] for name in ("value", "low", "high"))
            looks: dict[str, Any] = {**KINDS[point.kind], "linewidth": 0, "elinewidth": 0.6, "markersize": 6}
            axis.errorbar(value, 100 * point.accuracy, xerr=[[value - low], [high - value]], **looks)
            where = {"xytext": point.offset, "textcoords": "offset points"}
            axis.annotate(point.label, (value, 100 * point.accuracy), **where, fontsize=8, color=looks["color"])
        logarithmic(axis, "x", said=texts_of)
        axis.set(xlabel="energy of an inference, 45 nm digital, fp32", title=title)
        axis.margins(x=0.08, y=0.12)
    axes[0][0].set_ylabel("test accuracy, %")
    legend(drawn, [key(kind, linestyle="", **looks) for kind, looks in KINDS.items()])
    save(drawn, out)


def point_of(name: str, kind: str, label: str, offset: tuple[int, int]) -> Point:
    """Runs that differ in their seed alone: mean accuracy, energy of seed 0."""
    runs = [open_run(path) for path in sorted(RESULTS.glob(f"{name}-seed[0-9]"))]
    return Point(kind, label, joules(runs[0].ledgers.inference), mean(run.result.test_accuracy for run in runs), offset)


def others_imdb() -> list[Point]:
    """Vectors of 8 bits, TF-IDF, an LSTM, and what others have measured."""
    found = []
    for preset, label, offset in (
        ("imdb", "8-bit vectors", (-42, 7)),
        ("imdb-small", "8-bit vectors, small", (-18, -14)),
    ):
        last = [row["steps"][-1] for row in read("savings.json")["rows"] if row["preset"] == preset]
        accuracy = mean(step["test_accuracy"] for step in last)
        found.append(Point("EP on spikes", label, last[0]["inference"][DIGITAL]["joules"], accuracy, offset))
    scores = read("imdb-baselines.json")
    found.append(tfidf("imdb-words-sigma-delta-seed0", scores, (-14, 7)))
    paper = open_run(RESULTS / "imdb-dense-seed0")
    words, table = words_of(paper), paper.saved["dim"]
    hidden = scores["lstm"]["hidden"]
    energy = joules(products(paper, words * lstm(table, hidden)))
    found.append(Point("no EP", "LSTM", energy, scores["lstm"]["test_accuracy"], (-8, 7)))
    label, value, accuracy = DISTILBERT
    return [*found, Point("no EP", label, dict.fromkeys(("value", "low", "high"), value), accuracy, (-70, -14))]


def others_snli() -> list[Point]:
    """TF-IDF, an LSTM, and decomposable attention, on the words of both texts."""
    run, scores = open_run(RESULTS / "snli-words-seed0"), read("snli-baselines.json")
    words, table = words_of(run), run.saved["dim"]
    length = words / 2 + 1  # of a text, with the NULL token
    hidden = scores["decomposable_attention"]["hidden"]
    attend = 2 * length * (table + hidden) * hidden + length**2 * (hidden + 2 * table)
    compare = 2 * length * (2 * table + hidden) * hidden
    aggregate = 3 * hidden**2 + 3 * hidden
    models = {
        "lstm": ("LSTM", words * lstm(table, scores["lstm"]["hidden"]), (-8, 6)),
        "decomposable_attention": ("decomposable\nattention", attend + compare + aggregate, (-34, -26)),
    }
    return [
        tfidf("snli-words-sigma-delta-seed0", scores, (-10, 8)),
        *(
            Point("no EP", label, joules(products(run, count)), scores[name]["test_accuracy"], offset)
            for name, (label, count, offset) in models.items()
        ),
    ]


def tfidf(name: str, scores: dict[str, Any], offset: tuple[int, int]) -> Point:
    """Logistic regression on the texts of a run."""
    row = classifiers(open_run(RESULTS / name).ledgers.inference, read_table(DIGITAL), scores)[0]
    return Point("no EP", "TF-IDF, logistic\nregression", row["joules"], row["test_accuracy"], offset)


def words_of(run: Run) -> float:
    """Words that the network looks up, mean of a sample."""
    ledger = run.ledgers.inference
    return ledger.counts["input"][Phase.FREE]["lookup_reads"] / run.saved["dim"] / ledger.samples[Phase.FREE]


def lstm(dim: int, hidden: int) -> int:
    """Products a word."""
    return 4 * hidden * (dim + hidden)


def products(run: Run, each: float) -> Ledger:
    """What a feedforward model takes that multiplies ``each`` times a sample, on the words that ``run`` looks up."""
    seen = run.ledgers.inference
    texts, row = seen.samples[Phase.FREE], seen.counts["input"][Phase.FREE]
    found = Ledger(samples={Phase.FREE: texts})
    found.add("input", Phase.FREE, io_bytes=row["io_bytes"], lookup_reads=row["lookup_reads"])
    found.add("model", Phase.FREE, multiply_accumulates=round(texts * each), weight_reads=round(texts * each))
    return found


def joules(ledger: Ledger) -> dict[str, float]:
    """Of a sample."""
    found: dict[str, float] = part_of(ledger, read_table(DIGITAL))["joules"]
    return found


if __name__ == "__main__":
    tyro.cli(main)
