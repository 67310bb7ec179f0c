"""Whether a run has learnt anything: its accuracy beside that of always giving the same answer.

Of n texts k are right, and s is the share of their largest class, the most that always giving one answer gets right.
There is a sign of learning if Wilson's score interval of k/n, at the confidence 1 − 0.05/m, lies above s, on validation
and on test. m is 1, or on validation the number of epochs from which the one with the highest k was taken: the best of
m looks at chance is above chance (Bonferroni). Source: Wilson (1927), JASA 22, 209.
"""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eqspike_seq.runs.schema import Baseline, Beside, Chance

if TYPE_CHECKING:
    from eqspike_seq.data.dataset import Dataset
    from eqspike_seq.learning.evaluation import Evaluation

MISTAKEN = 0.05  # how often an interval may miss
FEW = 200  # texts, below which a small gain does not show


def interval(right: int, texts: int, looks: int = 1) -> tuple[float, float]:
    """Wilson's score interval of an accuracy, 95 %, or so that all of several ``looks`` are within theirs."""
    from scipy.stats import binomtest

    found = binomtest(right, texts).proportion_ci(1 - MISTAKEN / looks, method="wilson")
    return float(found.low), float(found.high)


def chance(dataset: "Dataset", accuracy: float, looks: int, test: "Evaluation", baseline: Baseline | None) -> Chance:
    """The accuracies on validation, the best of ``looks``, and on test against always answering the largest class.

    Where there is no sign of learning, a note says what was found, what may be the cause and what to do.
    """
    found = beside(accuracy, dataset.validation.labels, looks)
    tested = beside(test.accuracy, dataset.test.labels)
    splits = {"validation": (found, dataset.validation), "test": (tested, dataset.test)}
    weak = {name: (of, part.labels) for name, (of, part) in splits.items() if of.low <= of.largest_class}
    whole = Chance(validation=found, test=tested, epochs=looks, note=None)
    if not weak:
        return whole
    what = "images" if dataset.images else "texts"
    said = [
        f"no sign of learning: {name} accuracy {of.accuracy:.2%} of {len(labels):,} {what}"
        f"{f', the best of {looks} epochs' if name == 'validation' and looks > 1 else ''} (interval {of.low:.1%} to "
        f"{of.high:.1%}) is not above the {of.largest_class:.2%} of always answering "
        f"{dataset.classes[largest(labels)]}."
        for name, (of, labels) in weak.items()
    ][:1]
    if len(np.unique(test.predicted)) == 1:
        said.append(f"Every test {what[:-1]} gets the same answer, {dataset.classes[int(test.predicted[0])]}.")
    if baseline is not None:
        theirs = baseline.validation_accuracy
        simple = beside(theirs, dataset.validation.labels)
        if simple.low > simple.largest_class:
            said.append(
                f"Logistic regression gets {theirs:.2%} of validation, so the texts do tell the classes apart: give "
                "more --epochs, or another --learning-rate."
            )
        else:
            said.append(
                f"Nor does logistic regression learn ({theirs:.2%} of validation): the labels may be wrong, or the "
                "texts may not say enough."
            )
    if any(len(labels) < FEW for _, labels in weak.values()):
        said.append(f"With so few {what} only a large gain shows; more of them would tell.")
    return whole.model_copy(update={"note": " ".join(said)})


def largest(labels: NDArray[np.int64]) -> int:
    """The class that most of the texts are of."""
    return Counter(labels.tolist()).most_common(1)[0][0]


def beside(accuracy: float, labels: NDArray[np.int64], looks: int = 1) -> Beside:
    """An accuracy on texts with these ``labels`` (n,)."""
    low, high = interval(round(accuracy * len(labels)), len(labels), looks)
    return Beside(accuracy=accuracy, largest_class=float((labels == largest(labels)).mean()), low=low, high=high)
