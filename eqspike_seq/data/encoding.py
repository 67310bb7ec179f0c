"""Texts as token ids, end to end."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eqspike_seq.data.cache import Arrays, cache_dir, kept
from eqspike_seq.data.corpus import SPLIT_SEED
from eqspike_seq.data.embeddings import Embeddings
from eqspike_seq.data.tokens import TokeniserName, letters, normalised
from eqspike_seq.data.tokens import split as split_into_tokens
from eqspike_seq.files import sha256_of

Progress = Callable[[str], None]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """A split as token ids: those of all texts end to end, number i from ``starts[i]`` to ``starts[i + 1]``.

    A pair is two such texts, ``inputs`` 2. ``ids`` int32 (all tokens,), ``starts`` int64 (n · inputs + 1,), ``labels``
    int64 (n,). Of counted patterns ``ids`` are the different ones of each text, and ``counts`` int32 goes with them;
    ``in_ratios``: vectors start at class ratios in which the labels of these texts have a part.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    inputs: int = 1
    counts: NDArray[np.int32] | None = None
    in_ratios: bool = False

    @classmethod
    def of(
        cls,
        ids: NDArray[np.int32],
        lengths: Ints,
        labels: Ints,
        inputs: int = 1,
        counts: NDArray[np.int32] | None = None,
    ) -> "Encoded":
        """From the tokens, or counted patterns, of each text, (n · inputs,)."""
        return cls(ids, np.concatenate([[0], np.cumsum(lengths)]), labels, inputs, counts)

    def __len__(self) -> int:
        return len(self.labels)

    def lengths(self) -> NDArray[np.int64]:
        """Tokens or patterns of each text, or of the longer one of a pair, (n,)."""
        return np.diff(self.starts).reshape(-1, self.inputs).max(1)

    def text(self, row: int, place: int = 0) -> NDArray[np.int32]:
        """The ids of one text, or of the text at ``place`` of a pair, (tokens,)."""
        first = row * self.inputs + place
        return self.ids[self.starts[first] : self.starts[first + 1]]


class Statistics(NamedTuple):
    """Of the texts of a split: their tokens, how many of these are not known; their letters, how many no token has."""

    tokens: int
    unknown: int
    letters: int
    lost: int


@dataclass(frozen=True)
class Words:
    """Texts as numbers of words: ``ids`` of all words end to end, 0 for one that is not known, ``lengths`` (n,) of each
    text; how many letters the texts have, and how many of them are ``lost``: in no word."""

    ids: NDArray[np.int32]
    lengths: Ints
    letters: int
    lost: int

    def statistics(self) -> Statistics:
        """What became of the words."""
        return Statistics(len(self.ids), int((self.ids == 0).sum()), self.letters, self.lost)

    def known(self, labels: Ints, inputs: int = 1) -> Encoded:
        """The words that are known, as a split with these ``labels`` (n / inputs,)."""
        known, owner = self.ids > 0, np.repeat(np.arange(len(self.lengths)), self.lengths)
        return Encoded.of(self.ids[known], np.bincount(owner[known], minlength=len(self.lengths)), labels, inputs)

    def check(self, texts: int, words: int) -> None:
        """Raises ValueError unless these can be so many texts in so many different words."""
        ids, lengths = self.ids, self.lengths
        whole = (ids.dtype, lengths.dtype, ids.ndim, lengths.shape) == (np.int32, np.int64, 1, (texts,))
        if not whole or not 0 <= self.lost <= self.letters or (lengths < 0).any() or lengths.sum() != len(ids):
            raise ValueError("the ids are not those of the texts")
        if len(ids) and not 0 <= ids.min() <= ids.max() <= words:
            raise ValueError(f"ids from {ids.min()} to {ids.max()}, expected 0 to {words}")


def token_ids(
    texts: list[str], embeddings: Embeddings, tokeniser: TokeniserName, progress: Progress = lambda _: None
) -> Words:
    """``as_words`` of those that have a vector, cached by content."""
    key = sha256_of([tokeniser.encode(), embeddings.digest.encode(), *(text.encode() for text in texts)])

    def make() -> Arrays:
        return {name: np.asarray(value) for name, value in vars(as_words(texts, tokeniser, embeddings.index)).items()}

    def read(arrays: Arrays) -> Words:
        found = Words(arrays["ids"], arrays["lengths"], int(arrays["letters"]), int(arrays["lost"]))
        found.check(texts=len(texts), words=len(embeddings.index))
        return found

    return kept(cache_dir() / "words" / f"{key[:32]}.npz", make, read, progress)


def as_words(texts: list[str], tokeniser: TokeniserName, known: dict[str, int], grow: bool = False) -> Words:
    """Texts as numbers of the words that are ``known``; with ``grow`` new ones are added to them."""
    ids, lengths, written, held = array("i"), np.zeros(len(texts), dtype=np.int64), 0, 0
    for row, text in enumerate(texts):
        text = normalised(text, tokeniser)
        tokens = split_into_tokens(text, tokeniser)
        lengths[row], written, held = len(tokens), written + letters([text]), held + letters(tokens)
        if grow:
            ids.extend([known.setdefault(token, len(known) + 1) for token in tokens])
        else:
            ids.extend([known.get(token, 0) for token in tokens])
    return Words(np.array(ids, dtype=np.int32), lengths, written, written - held)


def shuffled(part: Encoded) -> Encoded:
    """The same texts, each with its words in random order."""
    rng = np.random.default_rng(SPLIT_SEED)
    texts = [rng.permutation(part.ids[start:end]) for start, end in pairwise(part.starts)]
    return replace(part, ids=np.concatenate(texts))
