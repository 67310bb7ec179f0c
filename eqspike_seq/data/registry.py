"""The data sets that have a name: one entry each, and nothing else to touch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eqspike_seq.data.cache import Found
from eqspike_seq.data.corpus import Corpus
from eqspike_seq.data.images import find_mnist, load_digits, load_mnist
from eqspike_seq.data.imdb import find_imdb, load_imdb
from eqspike_seq.data.mini import load_mini
from eqspike_seq.data.snli import find_snli, load_snli


@dataclass(frozen=True)
class DataSet:
    """``load`` takes the folder of --data-dir; ``find`` too, and says where the data lies, for `eqspike data`.

    ``preset`` is the default one, ``tokens`` that with token queries if another, ``about`` a few words for the help,
    ``contents`` more of them for `eqspike data`, ``download`` its size. ``inputs`` texts make an example, or the
    ``pixels`` of an image.
    """

    load: Callable[[Path | None], Corpus]
    preset: str
    about: str
    contents: str
    find: Callable[[Path | None], Found | None] | None = None
    download: str = ""
    inputs: int = 1
    pixels: int = 0
    embedded: bool = False  # comes with eqspike: nothing is looked for
    tokens: str = ""
    tokeniser: str = "unicode"  # "ascii" where results were recorded with it


DATASETS = {
    "imdb": DataSet(
        load_imdb,
        "imdb",
        "50,000 film reviews",
        "25,000 + 25,000 film reviews, 50,000 unlabelled (Maas et al. 2011)",
        find_imdb,
        "84 MB",
        tokens="paper-small",
        tokeniser="ascii",
    ),
    "snli": DataSet(
        load_snli,
        "snli",
        "570,000 pairs of sentences",
        "550,000 + 10,000 + 10,000 pairs of sentences (Bowman et al. 2015)",
        find_snli,
        "95 MB",
        inputs=2,
        tokens="snli-cpu",
        tokeniser="ascii",
    ),
    "mini": DataSet(
        lambda _: load_mini(),
        "mini",
        "synthetic reviews, embedded",
        "2,000 + 500 + 500 synthetic reviews, from a seed",
        embedded=True,
        tokeniser="ascii",
    ),
    "mnist": DataSet(
        load_mnist,
        "mnist",
        "70,000 digits, whose pixels are the first layer",
        "60,000 + 10,000 digits of 28 × 28 pixels (LeCun et al. 1998)",
        find_mnist,
        "12 MB",
        pixels=28 * 28,
    ),
    "digits": DataSet(
        lambda _: load_digits(),
        "digits",
        "1,797 smaller ones, embedded",
        "1,797 digits of 8 × 8 pixels, with scikit-learn (Alpaydin & Kaynak 1998)",
        pixels=8 * 8,
        embedded=True,
    ),
}


def pixels_of(dataset: str) -> int:
    """The pixels of an image of the data set; 0 where it is texts."""
    return DATASETS[dataset].pixels if dataset in DATASETS else 0
