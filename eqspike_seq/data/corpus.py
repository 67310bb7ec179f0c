"""What every data set is once it has been read: labelled texts in fixed splits."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Texts and their labels, row by row; ``labels`` has shape (n,), int64, values 0 … classes − 1."""

    texts: list[str]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: NDArray[np.int64]) -> "Split":
        """The rows named, in the order named."""
        return Split([self.texts[row] for row in rows], self.labels[rows])


@dataclass(frozen=True)
class Corpus:
    """A data set as its source gives it.

    ``validation`` is None where the source has none: it is then cut from ``train``.
    ``unlabelled`` texts serve the word vectors only. ``counts`` says what was dropped and why. With ``images`` a text
    is an image: characters whose codes are its grey values.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    unlabelled: list[str] = field(default_factory=list)
    synthetic: bool = False
    images: bool = False
    source: str = ""
    counts: dict[str, int] = field(default_factory=dict)
