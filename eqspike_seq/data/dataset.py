"""From a corpus to arrays: splits, word vectors, token ids. X is gathered per batch, never built whole."""

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from eqspike_seq.config.examples import FoundImages, FoundTexts, Images, OwnTexts, Texts
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.corpus import SPLIT_SEED, Corpus, Split, held_out, parts_of, without
from eqspike_seq.data.embeddings import Embeddings, grey_values
from eqspike_seq.data.encoding import Encoded, Progress, Statistics
from eqspike_seq.data.leaks import near_training
from eqspike_seq.data.naive_bayes import NaiveBayes
from eqspike_seq.data.own import load_own, named
from eqspike_seq.data.patterns import NGrams
from eqspike_seq.data.registry import DATASETS
from eqspike_seq.data.sight import Reading
from eqspike_seq.errors import DataError
from eqspike_seq.files import sha256_of
from eqspike_seq.model.network import Shape

VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Dataset:
    """Encoded splits, the vectors, what happened on the way (``counts``), and ``digest`` of the texts and labels."""

    name: str
    classes: tuple[str, ...]
    synthetic: bool
    source: str
    embeddings: Embeddings
    train: Encoded
    validation: Encoded
    test: Encoded
    test_texts: list[str]
    counts: dict[str, int]
    images: bool = False
    digest: str = ""
    ratios: NaiveBayes | None = None
    grams: NGrams | None = None

    def words(self) -> list[str]:
        """Words by id; id 0 is padding."""
        return ["", *(self.embeddings.index if self.grams is None else self.grams.names())]


def load_corpus(data: Images | Texts, progress: Progress = lambda _: None) -> Corpus:
    """The data set of that name, or the one in that file or folder. Raises DataError where it cannot be had."""
    if not isinstance(data, OwnTexts):
        return DATASETS[data.dataset].load(data.data_dir if isinstance(data, FoundTexts | FoundImages) else None)
    corpus = load_own(Path(data.dataset), data.text_column, data.label_column, data.strict, progress)
    return named(corpus, data.class_names) if data.class_names else corpus


def load_splits(data: Images | Texts, progress: Progress = lambda _: None) -> Corpus:
    """The corpus, validation cut from training unless it is there, at most ``data.limit`` texts of each split."""
    corpus = split(load_corpus(data, progress))
    return corpus if data.limit is None else limited(corpus, data.limit)


class LastDataset:
    """``load_dataset`` for runs that follow each other: gives the data set it read last again, where it is the same."""

    def __init__(self) -> None:
        self.last: tuple[Images | Texts, Dataset] | None = None

    def __call__(self, data: Images | Texts, progress: Progress = lambda _: None) -> Dataset:
        """The data set that ``data`` names."""
        if self.last is None or self.last[0] != data:
            self.last = None  # before another is read
            self.last = data, load_dataset(data, progress)
        return self.last[1]


def load_dataset(data: Images | Texts, progress: Progress = lambda _: None) -> Dataset:
    """Find, split, vectorise and encode what ``data`` names."""
    progress(f"reading {data.dataset}")
    corpus = load_splits(data, progress)
    assert corpus.validation is not None
    for name, part in (("training", corpus.train), ("validation", corpus.validation), ("test", corpus.test)):
        if len(part) == 0:
            raise DataError(
                f"{corpus.name}: the {name} split has no text of its own: it is empty, or all its texts are in another "
                "split too. Add texts, or give a folder with different texts in train, valid and test."
            )
    if len(np.unique(corpus.train.labels)) < 2:
        raise DataError(
            f"{corpus.name}: the training texts hold one class only ({corpus.train.labels[0]}); expected at least two"
        )
    progress(f"encoding {sum(map(len, parts_of(corpus).values())):,} {'images' if corpus.images else 'texts'}")
    if isinstance(data, Texts):
        read = data.sight.read(corpus, data.tokeniser, data.embeddings, progress)
    else:
        read = read_pixels(corpus)
    counts = corpus.counts | {"vocabulary": len(read.embeddings.table) - 1}
    if not corpus.images:
        near = near_training(read.encoded, len(read.embeddings.table) - 1)
        counts |= {f"{name}_texts_near_training": number for name, number in near.items()}
    for name, part in parts_of(corpus).items():
        found = read.statistics[name]
        counts[f"{name}_texts"] = len(part)
        counts[f"{name}_tokens"], counts[f"{name}_tokens_without_vector"] = found.tokens, found.unknown
        if not corpus.images:
            counts[f"{name}_letters"], counts[f"{name}_letters_in_no_token"] = found.letters, found.lost
        counts[f"{name}_texts_without_known_token"] = int((read.encoded[name].lengths() == 0).sum())
    return Dataset(
        name=corpus.name,
        classes=corpus.classes,
        synthetic=corpus.synthetic,
        source=corpus.source,
        embeddings=read.embeddings,
        **read.encoded,
        test_texts=corpus.test.texts,
        counts=counts,
        images=corpus.images,
        digest=digest_of(corpus),
        ratios=read.ratios,
        grams=read.grams,
    )


def read_pixels(corpus: Corpus) -> Reading:
    """Images as their grey values."""
    encoded, statistics = {}, {}
    for name, part in parts_of(corpus).items():
        grey = np.frombuffer("".join(part.texts).encode("latin-1"), dtype=np.uint8).astype(np.int32)
        lengths = np.array([len(text) for text in part.texts], dtype=np.int64)
        encoded[name], statistics[name] = Encoded.of(grey, lengths, part.labels), Statistics(len(grey), 0, 0, 0)
    return Reading(grey_values(), encoded, statistics)


def digest_of(corpus: Corpus) -> str:
    """SHA-256 of the classes, and of the texts and labels of all splits."""
    parts = [part for part in (corpus.train, corpus.validation, corpus.test) if part is not None]
    texts = (text for part in parts for text in part.texts)
    encoded = (text.encode() for text in chain(corpus.classes, texts))
    return sha256_of(chain(encoded, (part.labels.tobytes() for part in parts)))


def shape_of(config: RunConfig, dataset: Dataset) -> Shape:
    """The network's shape for a data set."""
    return config.shape(dataset.embeddings.dim, len(dataset.classes))


def split(corpus: Corpus) -> Corpus:
    """Drop training texts that occur in test; cut a stratified validation split unless there is one.

    Identical texts are kept on one side of the cut.
    """
    train = without(corpus.train, corpus.test)
    counts = {**corpus.counts, "train_texts_dropped_as_in_test": len(corpus.train) - len(train)}
    if corpus.validation is not None:
        return replace(corpus, train=train, counts=counts)
    held = held_out(train, VALIDATION_SHARE)
    return replace(
        corpus, train=train.take(np.flatnonzero(~held)), validation=train.take(np.flatnonzero(held)), counts=counts
    )


def limited(corpus: Corpus, limit: int) -> Corpus:
    """At most ``limit`` texts of each split, drawn at random, classes in equal numbers while they last."""

    def draw(part: Split) -> Split:
        rng = np.random.default_rng(SPLIT_SEED)
        order = rng.permutation(len(part))
        rank = np.zeros(len(part), dtype=np.int64)  # how many of its class come before a text
        for label in np.unique(part.labels):
            rows = order[part.labels[order] == label]
            rank[rows] = np.arange(len(rows))
        return part.take(np.sort(order[np.argsort(rank[order], kind="stable")][:limit]))

    assert corpus.validation is not None
    return replace(
        corpus,
        train=draw(corpus.train),
        validation=draw(corpus.validation),
        test=draw(corpus.test),
        unlabelled=corpus.unlabelled[:limit],
    )
