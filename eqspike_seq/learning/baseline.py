"""The strongest simple baseline: logistic regression on TF-IDF of words and word pairs, in seconds.

A text is a row of unit norm with a column for each word and each pair of neighbouring words (n-gram) of the training
texts; one that occurs f times in a text and in d of n training texts has there, before the norm,

    (1 + ln f) (1 + ln((1 + n)/(1 + d)))

Of pairs of texts each side has columns of its own. Words are those of the run's tokeniser. C, the inverse strength of
the L2 penalty, is chosen on validation; the test split is read once. Source: scikit-learn's TfidfVectorizer and
LogisticRegression.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from eqspike_seq.data.corpus import BORDER, Corpus, Split
from eqspike_seq.data.tokens import TokeniserName, tokenise
from eqspike_seq.runs.schema import Baseline

STRENGTHS = (1.0, 10.0)  # C, of those tried
FEW = 5000  # training texts from which on n-grams that occur in one of them only are left out
Rows = NDArray[np.int64]


def words_and_pairs(tokens: Sequence[str]) -> list[str]:
    """The tokens, and each with the one that follows."""
    return [*tokens, *(f"{first} {second}" for first, second in zip(tokens, tokens[1:], strict=False))]


def features(
    kind: Any, parts: Sequence[Split], tokeniser: TokeniserName, inputs: int, **settings: Any
) -> list[csr_matrix]:
    """(texts, columns) of each part, with the columns of the first, which is training's.

    ``kind`` is one of scikit-learn's vectorisers, ``inputs`` how many texts make an example.
    """
    least, columns = 2 if len(parts[0]) >= FEW else 1, []
    for side in range(inputs):
        vectoriser = kind(analyzer=lambda text: words_and_pairs(tokenise(text, tokeniser)), min_df=least, **settings)
        train, *others = (
            part.texts if inputs == 1 else [text.split(BORDER)[side] for text in part.texts] for part in parts
        )
        columns.append([vectoriser.fit_transform(train), *map(vectoriser.transform, others)])
    return [csr_matrix(hstack(sides)).sorted_indices() for sides in zip(*columns, strict=True)]


def logistic(parts: Sequence[Any], labels: Sequence[Rows], started: float, strengths: Sequence[float]) -> Baseline:
    """Logistic regression on (training, validation, test), each features (n, columns) and labels (n,)."""
    from sklearn.linear_model import LogisticRegression

    solver = "liblinear" if len(np.unique(labels[0])) == 2 else "lbfgs"
    tried = []
    for c in strengths:
        model = LogisticRegression(C=c, solver=solver, max_iter=1000).fit(parts[0], labels[0])
        tried.append((float(model.score(parts[1], labels[1])), c, model))
    accuracy, c, model = max(tried, key=lambda entry: entry[0])
    tested = float(model.score(parts[2], labels[2]))
    return Baseline(validation_accuracy=accuracy, test_accuracy=tested, c=c, seconds=time.perf_counter() - started)


def tfidf_logistic(corpus: Corpus, tokeniser: TokeniserName) -> Baseline:
    """The baseline on a corpus that has been split. Raises ValueError where no training text holds a word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    assert corpus.validation is not None
    started, parts = time.perf_counter(), (corpus.train, corpus.validation, corpus.test)
    found = features(TfidfVectorizer, parts, tokeniser, corpus.inputs, sublinear_tf=True)
    return logistic(found, [part.labels for part in parts], started, STRENGTHS)
