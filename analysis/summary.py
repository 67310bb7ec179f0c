"""What to know of a run, in a few figures or sentences.

``facts``: figures, each with what it is; the end of ``eqspike run``, and a run's card in a report. ``verdicts``: of a
few runs, which is right most often, what an answer takes, and whether that pays.
"""

from dataclasses import dataclass

from analysis.comparison import Row, comparable
from analysis.energy import energy, part_of
from analysis.energy_text import headline
from analysis.folders import Json
from analysis.units import beside, duration, memory, rounded, text_of
from eqspike_seq.data.registry import pixels_of
from neuromorphic.pricing import CostTable


@dataclass(frozen=True)
class Fact:
    """A figure with its unit, and in a few words what else to know of it."""

    name: str
    figure: str
    detail: str = ""


def facts(row: Row, table: CostTable) -> list[Fact]:
    """Accuracy with its interval, a warning where nothing seems learnt, the baseline, energy on ``table``, spikes, time
    and memory; what there is of them."""
    result = row.run.result
    what = "images" if pixels_of(result.dataset) else "texts"
    found = [
        Fact(
            "test accuracy",
            f"{result.test_accuracy:.2%}",
            f"of {result.n_test:,} {what}; 95 % interval {100 * row.low:.1f} to {row.high:.1%}",
        )
    ]
    found.append(Fact("validation", f"{result.validation_accuracy:.2%}", "compare settings by this one"))
    if result.chance is not None and result.chance.note is not None:
        figure, _, detail = result.chance.note.partition(": ")
        found.append(Fact("warning", f"{figure}:", detail))
    if (simple := result.baseline) is not None:
        how = f"logistic regression on TF-IDF, trained in {duration(simple.seconds)}"
        found.append(Fact("baseline", f"{simple.test_accuracy:.2%}", how))
    if row.joules is not None:
        found.append(Fact("energy", text_of(row.joules["inference"]["value"]), energy_of(row, table)))
    if result.spikes_per_inference is not None:
        synapse = (
            ""
            if result.spikes_per_synapse_per_inference is None
            else (f", {rounded(result.spikes_per_synapse_per_inference)} a synapse")
        )
        graded = result.graded_events_per_inference
        more = f"; and {graded:,.0f} real-valued events" if graded else ""
        found.append(Fact("spikes", f"{result.spikes_per_inference:,.0f}", f"an inference{synapse}{more}"))
    testing = f"training; testing {duration(result.test_seconds)}; {memory(result.peak_memory_bytes)} of memory"
    found.append(Fact("time", duration(result.train_seconds), testing))
    return found


def energy_of(row: Row, table: CostTable) -> str:
    """Of an inference of a run that has a price: on which hardware, and beside dense EP of the same network."""
    assert row.joules is not None
    said, mine = f"an inference on {table.title}", row.joules["inference"]["value"]
    if (theirs := dense(row, table)) is None or not mine or not theirs:
        return said
    return f"{said}; {beside(mine / theirs, 'dense EP')}"


def dense(row: Row, table: CostTable) -> float | None:
    """Joules an inference of the dense run of the same network, or of dense EP with the weights of a spiking run."""
    if comparable(row):
        assert row.against is not None
        ledger = row.against.ledgers.inference
    elif row.run.ledgers.dense is not None:
        ledger = row.run.ledgers.dense.inference
    else:
        return None
    value: float = part_of(ledger, table)["joules"]["value"]
    return value


def verdicts(rows: list[Row], table: CostTable) -> list[list[str]]:
    """At most three sentences for each data set."""
    sets = dict.fromkeys(row.run.result.dataset for row in rows)
    return [verdict([row for row in rows if row.run.result.dataset == name], table) for name in sets]


def verdict(rows: list[Row], table: CostTable) -> list[str]:
    """Of runs on one data set: the accuracy of the best, the energy of the thriftiest, the cheapest classifier."""
    best = max(rows, key=lambda row: row.run.result.test_accuracy)
    priced = [row for row in rows if row.joules is not None]
    said = [accuracy(best, of=len(rows))]
    if not priced:
        return [*said, "What they take is not known: no ledger that can be priced is left."]
    least = min(priced, key=lambda row: row.joules["inference"]["value"])  # type: ignore[index]
    first, *more = headline(beside_dense(least, table), "this run" if len(rows) == 1 else least.run.name)
    if len(rows) > 1:
        first = f"{least.run.name} takes least energy: {first[0].lower()}{first[1:]}"
    return [*said, first, *more]


def accuracy(row: Row, of: int) -> str:
    """How often a run is right, beside the baseline; ``of`` how many it is the best."""
    result = row.run.result
    what = "images" if pixels_of(result.dataset) else "texts"
    said = (
        f"{row.run.name} ({row.run.label}) is right on {result.test_accuracy:.2%} of {result.n_test:,} test {what} of "
    )
    said += f"{result.dataset}" if of == 1 else f"{result.dataset}, the most of {of} runs"
    if row.against is not None:
        gap = 100 * (result.test_accuracy - row.against.result.test_accuracy)
        sure = "" if row.test is None else ", more than chance would do" if row.test[2] < 0.05 else ", as chance may do"
        said += f", {abs(gap):.2f} points {'below' if gap < 0 else 'above'} dense EP{sure}"
    if (simple := result.baseline) is not None:
        said += f"; logistic regression on TF-IDF has {simple.test_accuracy:.2%}"
    return said + "."


def beside_dense(row: Row, table: CostTable) -> Json:
    """``energy`` of a run that has a ledger, against the dense run it is compared with or its own weights."""
    against = row.against if comparable(row) else None
    return energy(row.run.path, [table], None if against is None else against.path, None)
