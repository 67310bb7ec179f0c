"""What every data set is once it has been read: labelled texts in fixed splits."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BORDER = "\x1f"  # the unit separator: between the two texts of a pair
SPLIT_SEED = 0  # the same for every run, so that word vectors and validation texts stay comparable across seeds


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
    ``unlabelled`` texts serve the word vectors only. ``counts`` says what was dropped and why. With ``inputs`` 2 a text
    is a pair of texts, ``BORDER`` between them. With ``images`` it is an image: characters whose codes are its grey
    values.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    unlabelled: list[str] = field(default_factory=list)
    synthetic: bool = False
    inputs: int = 1
    images: bool = False
    source: str = ""
    counts: dict[str, int] = field(default_factory=dict)


def pair_of(texts: Iterable[str]) -> str:
    """Two texts as one; what stands for the border in them becomes a space."""
    return BORDER.join(text.replace(BORDER, " ") for text in texts)


def image_of(pixels: NDArray[np.uint8]) -> str:
    """Grey values, row by row, as a text."""
    return pixels.tobytes().decode("latin-1")


def without(part: Split, other: Split) -> Split:
    """``part`` less the texts that ``other`` has too."""
    seen = set(other.texts)
    return part.take(np.array([row for row, text in enumerate(part.texts) if text not in seen], dtype=np.int64))


def held_out(part: Split, share: float) -> NDArray[np.bool_]:
    """True for the rows, (n,), of a stratified ``share`` of ``part``: always the same ones, identical texts together.

    A text that makes up more than the share of its class stays where it is.
    """
    groups: dict[str, list[int]] = {}
    for row, text in enumerate(part.texts):
        groups.setdefault(text, []).append(row)
    by_label: dict[int, list[list[int]]] = {int(label): [] for label in np.unique(part.labels)}
    for rows in groups.values():
        by_label[int(part.labels[rows[0]])].append(rows)
    rng = np.random.default_rng(SPLIT_SEED)
    chosen: list[int] = []
    for label, mine in by_label.items():
        wanted, taken = round(share * int((part.labels == label).sum())), 0
        for position in rng.permutation(len(mine)):
            if taken >= wanted:
                break
            if len(mine[position]) <= wanted:
                chosen += mine[position]
                taken += len(mine[position])
    held = np.zeros(len(part), dtype=bool)
    held[chosen] = True
    return held


def parts_of(corpus: Corpus) -> dict[str, Split]:
    """The splits by name."""
    assert corpus.validation is not None
    return {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}


def single(texts: list[str], inputs: int) -> list[str]:
    """All texts one after the other, those of pairs too."""
    return texts if inputs == 1 else [one for pair in texts for one in pair.split(BORDER)]
