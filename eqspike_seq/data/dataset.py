"""From a corpus to arrays: splits, word vectors, token ids. X is gathered per batch, never built whole."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.corpus import BORDER, SPLIT_SEED, Corpus, Split, held_out, without
from eqspike_seq.data.embeddings import (
    Embeddings,
    google_news,
    grey_values,
    random_vectors,
    read_vectors,
    train_word2vec,
)
from eqspike_seq.data.encoding import Encoded, Progress, pixels, shuffled, token_ids
from eqspike_seq.data.own import load_own, named
from eqspike_seq.data.registry import DATASETS
from eqspike_seq.data.tokens import tokenise
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

    def words(self) -> list[str]:
        """Words by id; id 0 is padding."""
        return ["", *self.embeddings.index]


def load_corpus(config: RunConfig, progress: Progress = lambda _: None) -> Corpus:
    """The data set of that name, or the one in that file or folder. Raises DataError where it cannot be had."""
    if config.dataset in DATASETS:
        return DATASETS[config.dataset].load(config.data_dir)
    corpus = load_own(Path(config.dataset), config.text_column, config.label_column, config.strict, progress)
    return named(corpus, config.class_names) if config.class_names else corpus


def load_dataset(config: RunConfig, progress: Progress = lambda _: None) -> Dataset:
    """Find, split, vectorise and encode what ``config`` names."""
    progress(f"reading {config.dataset}")
    corpus = split(load_corpus(config, progress))
    if config.limit is not None:
        corpus = limited(corpus, config.limit)
    assert corpus.validation is not None
    for name, part in (("training", corpus.train), ("validation", corpus.validation), ("test", corpus.test)):
        if len(part) == 0:
            raise DataError(
                f"{corpus.name}: the {name} split has no text; expected at least one of each class. Add texts, or "
                "give a folder with files of its own for train, valid and test."
            )
    if len(np.unique(corpus.train.labels)) < 2:
        raise DataError(
            f"{corpus.name}: the training texts hold one class only ({corpus.train.labels[0]}); "
            "expected at least two, so that there is something to tell apart"
        )
    embeddings = grey_values() if corpus.images else embed(config, corpus, progress)
    counts = dict(corpus.counts)
    encoded: dict[str, Encoded] = {}
    for name, part in (("train", corpus.train), ("validation", corpus.validation), ("test", corpus.test)):
        progress(f"encoding {len(part):,} {name} {'images' if corpus.images else 'texts'}")
        texts = part.texts if corpus.inputs == 1 else [one for pair in part.texts for one in pair.split(BORDER)]
        read = pixels(texts) if corpus.images else token_ids(texts, embeddings, config.tokeniser, progress)
        found = Encoded.of(read.ids, read.lengths, part.labels, corpus.inputs)
        counts[f"{name}_texts"] = len(part)
        counts[f"{name}_tokens"] = int(len(read.ids)) + read.unknown
        counts[f"{name}_tokens_without_vector"] = read.unknown
        if not corpus.images:
            counts[f"{name}_letters"], counts[f"{name}_letters_in_no_token"] = read.letters, read.lost
        counts[f"{name}_texts_without_known_token"] = int((found.lengths() == 0).sum())
        encoded[name] = shuffled(found) if config.shuffle_words else found
    return Dataset(
        name=corpus.name,
        classes=corpus.classes,
        synthetic=corpus.synthetic,
        source=corpus.source,
        embeddings=embeddings,
        **encoded,
        test_texts=corpus.test.texts,
        counts=counts,
        images=corpus.images,
        digest=digest_of(corpus),
    )


def digest_of(corpus: Corpus) -> str:
    """SHA-256 of the classes, and of the texts and labels of all splits."""
    parts = [part for part in (corpus.train, corpus.validation, corpus.test) if part is not None]
    texts = (text for part in parts for text in part.texts)
    encoded = (text.encode() for text in chain(corpus.classes, texts))
    return sha256_of(chain(encoded, (part.labels.tobytes() for part in parts)))


def shape_of(config: RunConfig, dataset: Dataset) -> Shape:
    """The network's shape for a data set."""
    return shape_for(config, dataset.embeddings.dim, len(dataset.classes))


def shape_for(config: RunConfig, dim: int, classes: int) -> Shape:
    """The network's shape for words of ``dim`` components."""
    return Shape(
        config.tokens,
        dim,
        config.hidden,
        classes,
        projections=config.layout(),
        attention=config.attention,
        masked=config.masked,
    )


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


def embed(config: RunConfig, corpus: Corpus, progress: Progress) -> Embeddings:
    """The word vectors that ``config`` asks for; made from training and unlabelled texts, never from test."""
    if config.embeddings == "word2vec":
        texts = corpus.train.texts + corpus.unlabelled
        return train_word2vec(texts, config.dim, config.min_count, config.tokeniser, progress, config.workers)
    if config.embeddings == "random":
        return random_vectors(corpus.train.texts, config.dim, config.min_count, config.tokeniser)
    counted = Counter(token for text in corpus.train.texts for token in tokenise(text, config.tokeniser))
    vocabulary = [word for word, count in counted.items() if count >= config.min_count]
    if config.embeddings == "google-news":
        return google_news(vocabulary)
    if config.trust_pickle:
        progress(f"warning: --trust-pickle: whatever code is in {config.embeddings} runs when it is read")
    return read_vectors(Path(config.embeddings), vocabulary, config.trust_pickle)
