"""``eqspike compare``: runs side by side, with what chance alone would do to their difference."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from analysis.energy import PARTS, dense_ledgers, part_of_run
from analysis.folders import Json, Run, groups
from analysis.units import duration, memory, text_of
from eqspike_seq.errors import ConfigError
from eqspike_seq.learning.chance import interval
from neuromorphic.pricing import CostTable

MEASURED = ("train_seconds", "test_seconds", "peak_memory_bytes", "free_steps", "test_converged")
ALIKE = ("dataset", "attention", "limit", "n_test")  # in a run and the dense one it is compared with


def mcnemar(one: Run, other: Run) -> tuple[int, int, float] | None:
    """(texts that only one has right, only the other, exact p) on the same test texts; None where they are not.

    If both were equally good, each text on which they differ would fall to either side with probability ½ (McNemar
    1947, the exact binomial form).
    """
    from scipy.stats import binomtest

    if not (one.has("predictions.parquet") and other.has("predictions.parquet")):
        return None
    a, b = one.predictions, other.predictions
    if a["text_sha256"].shape != b["text_sha256"].shape or (a["text_sha256"] != b["text_sha256"]).any():
        return None
    mine, theirs = a["predicted"] == a["label"], b["predicted"] == b["label"]
    only, lost = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
    return only, lost, float(binomtest(only, only + lost).pvalue) if only + lost else 1.0


def reference(run: Run, runs: Iterable[Run]) -> Run | None:
    """The dense run that this one is held against: same data, HopAttn or not, word order and limit; of several, one of
    the same preset and seed."""
    result = run.result
    same = [
        other
        for other in runs
        if other.result.backend == "dense"
        and run.result.backend != "dense"
        and all(getattr(other.result, key) == getattr(result, key) for key in ALIKE)
        and other.words_shuffled == run.words_shuffled
        and other.task["network"] == run.task["network"]
    ]
    alike = [other for other in same if other.result.preset == result.preset] or same
    return next((other for other in alike if other.result.seed == result.seed), alike[0] if alike else None)


@dataclass(frozen=True)
class Row:
    """What the table says of one run; joules are None where its ledger has no price."""

    run: Run
    low: float
    high: float
    against: Run | None
    test: tuple[int, int, float] | None
    joules: dict[str, Json] | None

    def record(self) -> Json:
        """Flat, for CSV and JSON."""
        result, (only, lost, p) = self.run.result, self.test or (None, None, None)
        gap = None if self.against is None else 100 * (result.test_accuracy - self.against.result.test_accuracy)
        return {
            "run": self.run.name,
            "label": self.run.label,
            **{key: getattr(result, key) for key in ("dataset", "seed", "n_test", "test_accuracy")},
            "low": self.low,
            "high": self.high,
            "points_to_dense": gap,
            "only_right_here": only,
            "only_right_dense": lost,
            "mcnemar_p": p,
            **{f"joules_{part}": self.joules and self.joules[part]["value"] for part in PARTS},
            "spikes_per_synapse_inference": result.spikes_per_synapse_per_inference,
            "spikes_per_synapse_training_sample": result.spikes_per_synapse_per_training_sample,
            **{key: getattr(result, key) for key in MEASURED},
        }


def compare(runs: list[Run], table: CostTable) -> list[Row]:
    """A row for each run, priced on ``table``."""
    rows = []
    for run in runs:
        texts = run.result.n_test
        low, high = interval(round(run.result.test_accuracy * texts), texts)
        against = reference(run, runs)
        test = None if against is None else mcnemar(run, against)
        rows.append(Row(run, low, high, against, test, joules(run, table)))
    return rows


def joules(run: Run, table: CostTable) -> dict[str, Json] | None:
    """Of an inference and of a training sample; None where there is no ledger to price."""
    found = {part: part_of_run(run, part, table) for part in PARTS}
    return {part: row["joules"] for part, row in found.items() if row is not None} or None


def comparable(row: Row) -> bool:
    """Whether the run that a row is held against has the same network, and a ledger to be priced."""
    if row.against is None:
        return False
    try:
        return dense_ledgers(row.run, row.against.path)[0] is not None
    except ConfigError:
        return False


def seeds(runs: list[Run]) -> list[Json]:
    """Mean and standard deviation of the accuracy of runs that differ in their seed alone."""
    rows = []
    for group in groups(runs):
        accuracies = [run.result.test_accuracy for run in group]
        spread = statistics.stdev(accuracies) if len(group) > 1 else None
        row: Json = {"label": group[0].label, "dataset": group[0].result.dataset, "seeds": len(group)}
        rows.append({**row, "mean": statistics.mean(accuracies), "standard_deviation": spread})
    return rows


def figure(key: str) -> Callable[[Json], str]:
    """A figure of a record to three digits."""
    return lambda record: "–" if record[key] is None else f"{record[key]:.3g}"


def energy_figure(part: str) -> Callable[[Json], str]:
    """The energy of a part in a record, with its unit."""
    return lambda record: "–" if record[f"joules_{part}"] is None else text_of(record[f"joules_{part}"])


def accuracy(record: Json) -> str:
    """With its interval."""
    return f"{record['test_accuracy']:.2%} ({100 * record['low']:.1f} – {100 * record['high']:.1f})"


def points(record: Json) -> str:
    """To the dense run, with the p of the test."""
    gap, p = record["points_to_dense"], record["mcnemar_p"]
    return "–" if gap is None else f"{gap:+.2f}" + ("" if p is None else f" (p = {p:.2g})")


COLUMNS: tuple[tuple[str, str, Callable[[Json], str]], ...] = (  # head, what a record calls it, how it is said
    ("run", "run", lambda record: record["run"]),
    ("what", "label", lambda record: record["label"]),
    ("test accuracy, 95 %", "test_accuracy", accuracy),
    ("to dense, points", "points_to_dense", points),
    ("an inference", "joules_inference", energy_figure("inference")),
    ("a training sample", "joules_training", energy_figure("training")),
    ("spikes per synapse", "spikes_per_synapse_inference", figure("spikes_per_synapse_inference")),
    ("training", "train_seconds", lambda record: duration(record["train_seconds"])),
    ("memory", "peak_memory_bytes", lambda record: memory(record["peak_memory_bytes"])),
    ("free steps", "free_steps", figure("free_steps")),
)
HEADS = tuple(head for head, _, _ in COLUMNS)


def cells(row: Row) -> list[str]:
    """One line of the terminal's and the report's table."""
    record = row.record()
    return [said(record) for _, _, said in COLUMNS]


def figures(row: Row) -> list[float | str | None]:
    """What ``cells`` says, to sort a table by."""
    record = row.record()
    return [record[key] for _, key, _ in COLUMNS]
