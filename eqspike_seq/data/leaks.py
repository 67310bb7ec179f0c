"""Near duplicates: validation and test texts that nearly repeat a training text.

A text is the set of its different words and word pairs, as the network reads them (of a pair each side has its own).
Two are near if their Jaccard similarity J = |a ∩ b|/|a ∪ b| is at least ``NEAR``. MinHash finds them: under a random
hash the least element of two sets is the same with probability J. Texts are compared where all ROWS least elements of
one of BANDS bands agree, as they do in a share 1 − (1 − Jʳ)ᵇ of pairs: 98.5 % at J = 0.8, all but one in 10,000 at 0.9.
Source: Broder (1997), Compression and Complexity of Sequences; Leskovec, Rajaraman & Ullman, Mining of Massive
Datasets, chapter 3.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eqspike_seq.data.encoding import Encoded

NEAR = 0.8
BANDS, ROWS = 8, 4
LIKELY = 0.5  # agreement of two signatures from which texts are compared; at J = 0.8 less comes once in 10,000
MOST = 50  # training texts in a bucket that a text is compared with
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Signed:
    """A split with hashes of its elements (tokens,), the ``rows`` that have one, and the least of each by each hash."""

    part: Encoded
    hashed: list[Hashes]
    rows: NDArray[np.int64]
    least: NDArray[np.uint32]

    @classmethod
    def of(cls, part: Encoded, words: int) -> "Signed":
        """Ids are at most ``words``."""
        hashed = elements(part, words)
        return cls(part, hashed, *signatures(part, hashed))

    def example(self, place: int) -> Hashes:
        """The different elements of the example of ``rows[place]``."""
        first = int(self.rows[place]) * self.part.inputs
        start, end = self.part.starts[first], self.part.starts[first + self.part.inputs]
        return np.unique(np.concatenate([each[start:end] for each in self.hashed]))


def near_training(encoded: dict[str, Encoded], words: int) -> dict[str, int]:
    """How many examples of validation and of test are near one of training; ``words`` is the largest id there is."""
    training = Signed.of(encoded["train"], words)
    return {name: near(Signed.of(encoded[name], words), training) for name in ("validation", "test")}


def near(mine: Signed, training: Signed) -> int:
    """How many examples are near a training text."""
    bands = [slice(first, first + ROWS) for first in range(0, BANDS * ROWS, ROWS)]
    pairs = np.unique(np.concatenate([matches(mine.least[:, b], training.least[:, b]) for b in bands]), axis=0)
    agreement = (mine.least[pairs[:, 0]] == training.least[pairs[:, 1]]).mean(1)
    likely = np.argsort(-agreement, kind="stable")[: int((agreement >= LIKELY).sum())]
    found: set[int] = set()
    for one, other in pairs[likely].tolist():
        if one not in found and jaccard(mine.example(one), training.example(other)) >= NEAR:
            found.add(one)
    return len(found)


def jaccard(one: Hashes, other: Hashes) -> float:
    """|a ∩ b|/|a ∪ b| of two sets."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def elements(part: Encoded, words: int) -> list[Hashes]:
    """Hashes of the words and, unless n-grams are counted already, of each word with the next one; each (tokens,)."""
    ids = part.ids.astype(np.uint64)
    side = np.repeat(np.arange(len(part.starts) - 1) % part.inputs, np.diff(part.starts)).astype(np.uint64)
    found = [mixed(ids * np.uint64(part.inputs) + side)]
    if part.counts is None:
        after = np.append(ids[1:], np.uint64(0))
        after[part.starts[1:][np.diff(part.starts) > 0] - 1] = 0  # the end of a text
        found.append(mixed(((after + np.uint64(1)) * np.uint64(words + 1) + ids) * np.uint64(part.inputs) + side))
    return found


def mixed(codes: Hashes) -> Hashes:
    """Numbers that look random, the same for the same. Source: Steele, Lea & Flood (2014), SplitMix64."""
    codes = codes + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        codes ^= codes >> np.uint64(shift)
        codes *= np.uint64(factor)
    codes ^= codes >> np.uint64(31)
    return codes


def signatures(part: Encoded, hashed: list[Hashes]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """(the n examples that have an element, the least element of each by each of BANDS · ROWS hashes, (n, …))."""
    starts = part.starts[:: part.inputs]
    rows = np.flatnonzero(np.diff(starts))
    factors = np.random.default_rng(0).integers(0, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    found = np.zeros((len(rows), len(factors)), dtype=np.uint32)
    for place, factor in enumerate(factors if len(rows) else ()):
        least = [np.minimum.reduceat(each * factor >> np.uint64(32), starts[rows]) for each in hashed]
        found[:, place] = np.minimum.reduce(least)
    return rows, found


def matches(mine: NDArray[np.uint32], theirs: NDArray[np.uint32]) -> NDArray[np.int64]:
    """(m, 2): the rows of ``mine`` and of ``theirs`` that are the same, for each of mine at most ``MOST``."""
    wanted, keys = mixed_rows(mine), mixed_rows(theirs)
    order = np.argsort(keys, kind="stable")
    first, last = (np.searchsorted(keys[order], wanted, side=side) for side in ("left", "right"))
    many = np.minimum(last - first, MOST)
    rows = np.repeat(np.arange(len(wanted)), many)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
    return np.stack([rows, order[first[rows] + place]], axis=1)


def mixed_rows(band: NDArray[np.uint32]) -> Hashes:
    """A number for each row, (n,), the same for the same rows."""
    found = np.zeros(len(band), dtype=np.uint64)
    for column in band.T:
        found = mixed(found + column)
    return found
