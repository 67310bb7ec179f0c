"""Settings that follow from the texts: how long they are, how many, of how many classes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 5000  # texts below which the embedded set's network serves, and word vectors are drawn at random
STEPS = 480  # of the optimiser, at least
PATTERNS_OF = 25_000  # texts, of which one more has to hold a pattern
LONG = 128  # tokens from which few texts are learnt by heart, unless words are left out


def sizes(
    lengths: Sequence[int] | NDArray[np.int64], classes: int, texts: int, inputs: int = 1, network: str = "tokens"
) -> dict[str, Any]:
    """Settings of a run for ``texts`` training texts of ``lengths`` words and so many ``classes``."""
    if network == "pooling":
        return of_patterns(classes, texts)
    if network == "token-layer":
        return of_sentences(lengths, classes, texts)
    return of_tokens(lengths, classes, texts, inputs)


def fewest(texts: int) -> int:
    """Training texts, of so many, that must hold a word or n-gram: the more texts, the more, or there are millions."""
    return 1 if texts < FEW else max(2, texts // PATTERNS_OF)


def paced(texts: int) -> dict[str, Any]:
    """How networks that learn their words go through the texts: until they get no better, in small batches."""
    batch = min(64, max(8, texts // 64))
    return {
        "batch": batch,
        "epochs": min(100, max(5, math.ceil(4 * STEPS / math.ceil(max(1, texts) / batch)))),
        "patience": 3 if texts >= FEW else 5,
        "checkpoint_every": max(50, math.ceil(texts / batch)),
    }


def of_patterns(classes: int, texts: int) -> dict[str, Any]:
    """Those of a network with pooling queries."""
    copies = 4 if classes == 2 else 1
    ratios = copies * (1 if classes == 2 else classes)
    return {
        **paced(texts),
        "embeddings": "random",
        "dim": max(32, 2 * ratios),
        "min_texts": fewest(texts),
        "naive_bayes": 8.0,
        "naive_bayes_copies": copies,
        "temperature": 32.0,
        "hidden": (max(64, 4 * classes),),
        "word_dropout": 0.5,
        "learning_rate": (1e-3, 1e-3, 1e-3),
        # of neurons that send changes: s1 is long where ratios are, and moves little in the nudges
        "projection_threshold": 1.0,
        "output_threshold": 0.25,
        "projection_nudge_threshold": 0.01,
        # of winners: queries are short, and hardly a spike of theirs would come; there are few rows
        "query_threshold": 0.0,
        "winners": 256,
    }


def of_sentences(lengths: Sequence[int] | NDArray[np.int64], classes: int, texts: int) -> dict[str, Any]:
    """Those of a network with a token layer, as the preset ``snli`` has them, smaller and longer for few texts."""
    few = texts < FEW
    return {
        **paced(texts),
        "tokens": places_for(lengths),
        "embeddings": "random" if few else "word2vec",
        "dim": 32 if few else 100,
        "min_count": 1 if few else 2,
        "compared": 64 if few else 100,
        "temperature": 8.0,
        "hidden": (max(64, 4 * classes),) if few else (max(200, 4 * classes),),
        "word_dropout": 0.1,
        "learning_rate": (2e-3 if few else 1e-3,),
        "rule": "membrane",
        # of neurons that send changes: what comes back is weakened twice on its way to s1
        "projection_threshold": 1.0,
        "output_threshold": 0.25,
        "token_nudge_threshold": 2e-4,
        "projection_nudge_threshold": 1e-4,
    }


def places_for(lengths: Sequence[int] | NDArray[np.int64]) -> int:
    """N: the length that 95 % do not exceed, a multiple of 16, at most 256."""
    longest = float(np.percentile(np.asarray(lengths), 95)) if len(lengths) else 0.0
    return min(256, max(16, 16 * math.ceil(longest / 16)))


def of_tokens(lengths: Sequence[int] | NDArray[np.int64], classes: int, texts: int, inputs: int = 1) -> dict[str, Any]:
    """Those of a network with token queries, for texts of these ``lengths``.

        N = the length that 95 % do not exceed, a multiple of 16, at most 256
        learning rate of w₂ = 2.56/(P·N·D)

    P is 1, or 4 where a text is a pair (``inputs`` 2), whose N is that of each. Adam moves each of the P·N·D weights
    into a unit by the learning rate, so their sum moves the unit by as much whatever these are. All else is that of
    the preset ``mini`` for few texts and of ``paper-small`` for many; what N and the learning rate are for ``mini`` and
    IMDB is what those presets have. Small batches and more epochs see to it that few texts, too, make ``STEPS`` steps
    (100 epochs at most). Few texts teach word2vec little: on ``mini``, neuron ``if``, random vectors gave 91.6 % on
    validation with 600 training texts, word2vec 59.0 %; with 200, 73.2 and 77.6 %.
    """
    tokens, few = places_for(lengths), texts < FEW
    batch = min(64 if few else 128, max(8, texts // 32))
    dim = 32 if few else 100
    first, rest = (8e-3, [2e-3]) if few else (1e-3, [3e-4, 3e-4])
    return {
        "tokens": tokens,
        "embeddings": "random" if few else "word2vec",
        "dim": dim,
        "min_count": 1 if few else 5,
        "hidden": (max(64, 4 * classes),) if few else (256, max(40, 4 * classes)),
        "batch": batch,
        "epochs": min(100, max(5, math.ceil(STEPS / max(1, math.ceil(texts / batch))))),
        "learning_rate": (first, 2.56 / (inputs**2 * tokens * dim), *rest),
        "word_dropout": 0.15 if not few else 0.3 if tokens >= LONG else 0.0,
    }
