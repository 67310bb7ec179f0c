"""What to know first of a few runs: who is right most often, what an answer takes, and whether that pays."""

from analysis.comparison import Row, comparable
from analysis.energy import energy
from analysis.energy_text import headline
from analysis.folders import Json
from eqspike_seq.data.registry import pixels_of
from neuromorphic.pricing import CostTable


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
