"""Batches: rows of a split as vectors."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eqspike_seq.config.examples import Texts
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.dataset import Dataset
from eqspike_seq.data.encoding import Encoded
from eqspike_seq.model.network import Batch


def fit(text: NDArray[np.int32], tokens: int, keep: str) -> NDArray[np.int32]:
    """At most ``tokens`` ids of a text: its ends, head or tail where it is longer."""
    if len(text) <= tokens:
        return text
    head = {"head": tokens, "tail": 0, "ends": tokens - tokens // 2}[keep]
    return np.concatenate([text[:head], text[len(text) - (tokens - head) :]])


@dataclass(frozen=True)
class Batches:
    """Gathers X for rows of a split: ``table`` (V + 1, D) on the device, N ``tokens`` a text, ``keep`` as ``fit``.

    What is left out of a text leaves no gap; with ``images`` it is 0, and all else stays in its place.
    """

    table: torch.Tensor
    tokens: int
    keep: str
    images: bool = False

    @classmethod
    def of(cls, config: RunConfig, dataset: Dataset, device: torch.device | str = "cpu") -> "Batches":
        """Those of a data set, as ``config`` wants them."""
        table = torch.from_numpy(dataset.embeddings.table).to(device)
        keep = config.data.keep if isinstance(config.data, Texts) else "ends"
        return cls(table, config.data.tokens, keep, dataset.images)

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

    def __call__(
        self,
        part: Encoded,
        rows: NDArray[np.int64],
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
        share: slice = slice(None),
    ) -> Batch:
        """The texts ``rows`` of ``part`` as x (B, inputs, N, D), mask (B, inputs, N), labels (B,).

        Seeded by ``rng`` or row. Of them the ``share``, as it is in the whole batch.
        """
        found = self.ids(part, rows, dropout, rng)[share]
        ids = torch.from_numpy(found).to(self.table.device).long()
        labels = torch.from_numpy(part.labels[rows[share]]).to(self.table.device)
        seed = int(rows[0]) if rng is None else int(rng.integers(2**62))
        return Batch(self.table[ids], ids > 0, labels, seed)


def random_batch(config: RunConfig, dataset: Dataset, texts: int) -> Batch:
    """Training texts drawn by the seed of ``config``, to look at a network with."""
    rows = np.random.default_rng(config.run.seed).permutation(len(dataset.train))[:texts]
    return Batches.of(config, dataset)(dataset.train, rows)
