"""A run in a few figures, each with what it is: the end of ``eqspike run``, and a run's card in a report."""

from dataclasses import dataclass

from analysis.comparison import Row, comparable
from analysis.energy import part_of
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
        found.append(Fact("energy", text_of(row.joules["inference"]["value"]), energy(row, table)))
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


def energy(row: Row, table: CostTable) -> str:
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
