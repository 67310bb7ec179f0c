"""Batches: rows of a split as vectors."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eqspike_seq.config.examples import Texts
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.dataset import Dataset
from eqspike_seq.data.encoding import Encoded
from eqspike_seq.data.naive_bayes import NaiveBayes
from eqspike_seq.data.sight import TokenSequence
from eqspike_seq.model.batch import Batch, Lookup


def fit(text: NDArray[np.int32], tokens: int, keep: str) -> NDArray[np.int32]:
    """At most ``tokens`` ids of a text: its ends, head or tail where it is longer."""
    if len(text) <= tokens:
        return text
    head = {"head": tokens, "tail": 0, "ends": tokens - tokens // 2}[keep]
    return np.concatenate([text[:head], text[len(text) - (tokens - head) :]])


@dataclass(frozen=True)
class Batches:
    """Gathers X for rows of a split: ``table`` (V + 1, D) on the device, N ``tokens`` a text, ``keep`` as ``fit``.

    What is left out of a text leaves no gap; with ``images`` it is 0, and all else stays in its place. ``twice``: the
    table holds each pattern twice, see ``Lookup``.
    """

    table: torch.Tensor
    tokens: int
    keep: str = "ends"
    images: bool = False
    twice: bool = False
    ratios: NaiveBayes | None = None

    @staticmethod
    def of(config: RunConfig, dataset: Dataset, device: torch.device | str = "cpu") -> "Batches":
        """Those of a data set, as ``config`` wants them."""
        found = batches_of(config, dataset.embeddings.table, dataset.ratios, device)
        return replace(found, table=found.table.repeat(1, 2)) if found.twice else found

    def ids(
        self, part: Encoded, rows: NDArray[np.int64], dropout: float = 0.0, rng: np.random.Generator | None = None
    ) -> NDArray[np.int32]:
        """Token ids (B, inputs, N), 0 after a text's end.

        With ``rng`` each word is left out with probability ``dropout``. What remains of a text closes up, so that words
        also move a little and long texts show other words each time.
        """
        result = np.zeros((len(rows), part.inputs, self.tokens), dtype=np.int32)
        for filled, row in zip(result, rows, strict=True):
            for place in range(part.inputs):
                text = part.text(row, place)
                if rng is not None and dropout > 0:
                    kept = rng.random(len(text)) >= dropout
                    text = np.where(kept, text, 0) if self.images else text[kept]
                text = fit(text, self.tokens, self.keep)
                filled[place, : len(text)] = text
        return result

    def one(self, ids: NDArray[np.int32], lengths: NDArray[np.int64] | None = None) -> Batch:
        """A batch of one text of these token ids; of a pair, ``lengths`` of which are those of each."""
        lengths, row = np.array([len(ids)]) if lengths is None else lengths, np.zeros(1, dtype=np.int64)
        return self(Encoded.of(ids, lengths, row, len(lengths)), row)

    def __call__(self, part: Encoded, rows: NDArray[np.int64]) -> Batch:
        """The texts ``rows`` of ``part`` as x (B, inputs, N, D), mask (B, inputs, N), labels (B,)."""
        return self.lookup(part, rows).whole()

    def lookup(
        self,
        part: Encoded,
        rows: NDArray[np.int64],
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
        share: slice = slice(None),
    ) -> Lookup:
        """The same before their vectors are looked up, words left out as by ``ids``.

        Seeded by ``rng`` or row. Of them the ``share``, as it is in the whole batch. A text with a part in the ratios
        has those that all others give.
        """
        ids, counts = self.drawn(part, rows, dropout, rng)
        return Lookup(
            self.table,
            self.on_device(ids[share]).long(),
            self.on_device(part.labels[rows[share]]),
            seed_of(rows, rng),
            None if counts is None else self.on_device(counts[share]).to(self.table.dtype),
            self.ratios.own if self.ratios is not None and part.in_ratios else None,
            self.twice,
        )

    def drawn(
        self, part: Encoded, rows: NDArray[np.int64], dropout: float, rng: np.random.Generator | None
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """(ids, counts or None), each (B, inputs, N)."""
        return self.ids(part, rows, dropout, rng), None

    def on_device(self, array: NDArray[Any]) -> Tensor:
        """As a tensor where the table is."""
        return torch.from_numpy(array).to(self.table.device)


@dataclass(frozen=True)
class CountedBatches(Batches):
    """The same of counted patterns, all that a text has; ``ratios`` are among the components of their vectors."""

    tokens: int = 0

    def drawn(
        self, part: Encoded, rows: NDArray[np.int64], dropout: float, rng: np.random.Generator | None
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """With ``rng`` counts are thinned: c ← Binomial(c, 1 − dropout)."""
        assert part.counts is not None
        lengths = np.diff(part.starts).reshape(-1, part.inputs)[rows].ravel()
        owner = np.repeat(np.arange(len(lengths)), lengths)
        first = part.starts[:-1].reshape(-1, part.inputs)[rows].ravel()
        places = np.arange(len(owner)) + np.repeat(first - np.cumsum(lengths) + lengths, lengths)
        ids, counts = part.ids[places], part.counts[places]
        if rng is not None and dropout > 0:
            counts = thinned(counts, dropout, rng)
            ids, owner, counts = ids[counts > 0], owner[counts > 0], counts[counts > 0]
        lengths = np.bincount(owner, minlength=len(lengths))
        inside = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        found = np.zeros((2, len(lengths), max(1, int(lengths.max(initial=0)))), dtype=np.int64)
        found[:, owner, inside] = ids, counts
        padded = found.reshape(2, len(rows), part.inputs, -1)
        return padded[0], padded[1]


def batches_of(
    config: RunConfig,
    table: NDArray[np.float32],
    ratios: NaiveBayes | None = None,
    device: torch.device | str = "cpu",
) -> Batches:
    """Batches of vectors of ``table`` (V + 1, D), on a device (V + 1, 2 D), as ``config`` wants them."""
    vectors = torch.from_numpy(table).to(device)
    if not isinstance(config.data, Texts):
        return Batches(vectors, config.data.rows, images=True)
    if isinstance(config.data.sight, TokenSequence):
        return Batches(vectors, config.data.sight.tokens, config.data.sight.keep, twice=config.twice)
    return CountedBatches(vectors, ratios=ratios and ratios.to(device), twice=config.twice)


def thinned(counts: NDArray[np.int32], dropout: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """c ← Binomial(c, 1 − dropout): of c equal patterns each is left out by itself."""
    kept = (rng.random(len(counts)) >= dropout).astype(counts.dtype)
    several = np.flatnonzero(counts > 1)
    kept[several] = rng.binomial(counts[several], 1 - dropout)
    return kept


def seed_of(rows: NDArray[np.int64], rng: np.random.Generator | None) -> int:
    """Of a batch: drawn, or that of its first row."""
    return int(rows[0]) if rng is None else int(rng.integers(2**62))


def random_batch(config: RunConfig, dataset: Dataset, texts: int) -> Batch:
    """Training texts drawn by the seed of ``config``, to look at a network with."""
    rows = np.random.default_rng(config.run.seed).permutation(len(dataset.train))[:texts]
    return Batches.of(config, dataset)(dataset.train, rows)
