"""Data sets by name: what there is, and its texts with their labels.

>>> from eqspike import datasets
>>> datasets.names()
['imdb', 'snli', 'mini', 'mnist', 'digits']
>>> texts, labels = datasets.load("mini", "test")
>>> len(texts), labels[0]
(500, 'negative')
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from eqspike.build import configure
from eqspike_seq.data.corpus import BORDER, parts_of
from eqspike_seq.data.dataset import load_splits
from eqspike_seq.data.registry import DATASETS
from eqspike_seq.errors import DataError

Examples = Sequence[str] | Sequence[tuple[str, ...]]


def names() -> list[str]:
    """Of the data sets that `eqspike data` lists."""
    return list(DATASETS)


def load(
    name: str, split: Literal["train", "validation", "test"] = "train", data_dir: Path | str | None = None
) -> tuple[Examples, list[str]]:
    """(texts, or pairs of them; the name of the class of each) of one split: the texts that `eqspike run` sees.

    A file or folder of one's own is a name too. Raises DataError for images, or where the data cannot be had;
    ConfigError for a name that nobody knows.
    """
    if name in DATASETS and DATASETS[name].pixels:
        raise DataError(f"{name}: these are images, expected a data set of texts; `eqspike run {name}` reads them")
    place: dict[str, Any] = {} if data_dir is None else {"data_dir": Path(data_dir)}
    corpus = load_splits(configure(name, **place).data)
    found = parts_of(corpus)
    if split not in found:
        raise DataError(f"split: got {split!r}, expected one of {', '.join(found)}")
    part = found[split]
    texts: Examples = part.texts if corpus.inputs == 1 else [tuple(text.split(BORDER)) for text in part.texts]
    return texts, [corpus.classes[label] for label in part.labels]
