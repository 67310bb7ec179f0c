"""The strongest simple baseline: logistic regression on TF-IDF of words and word pairs, in seconds.

A text is a row of unit norm with a column for each word and each pair of neighbouring words (n-gram) of the training
texts; one that occurs f times in a text and in d of n training texts has there, before the norm,

    (1 + ln f) (1 + ln((1 + n)/(1 + d)))

Of pairs of texts each side has columns of its own, and unit norm by itself. Words are those of the run's tokeniser. C,
the inverse strength of the L2 penalty, is chosen on validation; the test split is read once. Source: scikit-learn's
TfidfVectorizer and LogisticRegression.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from eqspike_seq.data.corpus import BORDER, Corpus, Split, parts_of
from eqspike_seq.data.dataset import Dataset
from eqspike_seq.data.encoding import Encoded
from eqspike_seq.data.patterns import counted_patterns
from eqspike_seq.data.sizes import fewest
from eqspike_seq.data.tokens import TokeniserName
from eqspike_seq.runs.schema import Baseline

STRENGTHS = (1.0, 10.0)  # C, of those tried
LARGEST = 2**21  # weights of all classes, from which on each class has a model of its own: one of all takes 20 times
# as much memory
Rows = NDArray[np.int64]


def counts(parts: dict[str, Split], tokeniser: TokeniserName, inputs: int) -> dict[str, csr_matrix]:
    """How often each word and word pair occurs in each example of each part, (texts, columns), those of "train"; its
    ``inputs`` texts have columns of their own. Raises DataError where no training text has a word."""
    sides = by_side(parts, tokeniser, inputs)
    return {name: csr_matrix(hstack([side[name] for side in sides])) for name in parts}


def by_side(parts: dict[str, Split], tokeniser: TokeniserName, inputs: int) -> list[dict[str, csr_matrix]]:
    """The same for each of the ``inputs`` texts of an example by itself."""
    sides = []
    for side in range(inputs):
        mine = parts
        if inputs > 1:
            mine = {
                name: Split([text.split(BORDER)[side] for text in part.texts], part.labels)
                for name, part in parts.items()
            }
        grams, encoded, _ = counted_patterns(mine, 1, tokeniser, 2, fewest(len(parts["train"])))
        sides.append({name: matrix(part, len(grams)) for name, part in encoded.items()})
    return sides


def matrix(part: Encoded, columns: int) -> csr_matrix:
    """The counts of the first ``columns`` patterns, (texts, columns)."""
    assert part.counts is not None
    kept = part.ids <= columns
    starts = np.concatenate([[0], np.cumsum(kept)])[part.starts]
    values = part.counts[kept].astype(np.float64)
    return csr_matrix((values, part.ids[kept] - 1, starts), shape=(len(part), columns))


def logistic(parts: Sequence[Any], labels: Sequence[Rows], started: float, strengths: Sequence[float]) -> Baseline:
    """Logistic regression on (training, validation, test), each features (n, columns) and labels (n,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    classes = len(np.unique(labels[0]))
    apart = classes > 2 and classes * parts[0].shape[1] > LARGEST
    solver = "liblinear" if classes == 2 or apart else "lbfgs"
    tried = []
    for c in strengths:
        one = LogisticRegression(C=c, solver=solver, max_iter=1000)
        model = (OneVsRestClassifier(one) if apart else one).fit(parts[0], labels[0])
        tried.append((float(model.score(parts[1], labels[1])), c, model))
    accuracy, c, model = max(tried, key=lambda entry: entry[0])
    tested = float(model.score(parts[2], labels[2]))
    return Baseline(validation_accuracy=accuracy, test_accuracy=tested, c=c, seconds=time.perf_counter() - started)


def weighted(fitted: csr_matrix, *others: csr_matrix) -> list[csr_matrix]:
    """Counts, which are overwritten, as TF-IDF, by the document frequencies of those ``fitted``."""
    from sklearn.feature_extraction.text import TfidfTransformer

    transform = TfidfTransformer(sublinear_tf=True).fit(fitted)
    return [transform.transform(part, copy=False) for part in (fitted, *others)]


def features(parts: dict[str, Split], tokeniser: TokeniserName, inputs: int) -> list[csr_matrix]:
    """TF-IDF of each part, (examples, columns), by the document frequencies of "train", which comes first."""
    sides = [weighted(*side.values()) for side in by_side(parts, tokeniser, inputs)]
    return [csr_matrix(hstack(side)) for side in zip(*sides, strict=True)]


def tfidf_logistic(corpus: Corpus, tokeniser: TokeniserName) -> Baseline:
    """The baseline on a corpus that has been split. Raises DataError where no training text holds a word."""
    started, parts = time.perf_counter(), parts_of(corpus)
    return logistic(
        features(parts, tokeniser, corpus.inputs), [part.labels for part in parts.values()], started, STRENGTHS
    )


def tfidf_logistic_of(dataset: Dataset) -> Baseline:
    """The same on texts that have been read as counted patterns, of which longer n-grams are left out."""
    assert dataset.grams is not None
    started, splits = time.perf_counter(), (dataset.train, dataset.validation, dataset.test)
    columns = len(dataset.grams.words) + sum(len(codes) for codes, _ in dataset.grams.levels[:1])
    found = [matrix(part, columns) for part in splits]
    return logistic(weighted(*found), [part.labels for part in splits], started, STRENGTHS)
