"""From a corpus to arrays: splits, word vectors, token ids. X is gathered per batch, never built whole."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eqspike_seq.config import RunConfig, TokeniserName
from eqspike_seq.data.cache import Arrays, kept
from eqspike_seq.data.corpus import BORDER, SPLIT_SEED, Corpus, Split, held_out, without
from eqspike_seq.data.embeddings import (
    Embeddings,
    google_news,
    grey_values,
    random_vectors,
    read_vectors,
    train_word2vec,
)
from eqspike_seq.data.locate import cache_dir
from eqspike_seq.data.tokens import letters, normalised, tokenise
from eqspike_seq.data.tokens import split as split_into_tokens
from eqspike_seq.errors import DataError
from eqspike_seq.files import sha256_of
from eqspike_seq.network import Batch, Shape

VALIDATION_SHARE = 0.1
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Encoded:
    """A split as token ids: those of all texts end to end, number i from ``starts[i]`` to ``starts[i + 1]``.

    A pair is two such texts, ``inputs`` 2. ``ids`` int32 (all tokens,), ``starts`` int64 (n · inputs + 1,), ``labels``
    int64 (n,).
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    inputs: int = 1

    @classmethod
    def of(
        cls, ids: NDArray[np.int32], lengths: NDArray[np.int64], labels: NDArray[np.int64], inputs: int = 1
    ) -> "Encoded":
        """From the tokens of each text, (n · inputs,)."""
        return cls(ids, np.concatenate([[0], np.cumsum(lengths)]), labels, inputs)

    def __len__(self) -> int:
        return len(self.labels)

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, or of the longer one of a pair, (n,)."""
        return np.diff(self.starts).reshape(-1, self.inputs).max(1)

    def text(self, row: int, place: int = 0) -> NDArray[np.int32]:
        """The ids of one text, or of the text at ``place`` of a pair, (tokens,)."""
        first = row * self.inputs + place
        return self.ids[self.starts[first] : self.starts[first + 1]]


class Ids(NamedTuple):
    """Texts as numbers: ``ids`` of all their known tokens end to end, int32; ``lengths`` (n,), int64, how many of each
    text; how many tokens are ``unknown``; how many letters the texts have, and how many of them are ``lost``: in no
    token.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    unknown: int
    letters: int = 0
    lost: int = 0


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
    name, data_dir = config.dataset, config.data_dir
    if name == "mini":
        from eqspike_seq.data.mini import load_mini

        return load_mini()
    if name == "mnist":
        from eqspike_seq.data.mnist import load_mnist

        return load_mnist(data_dir)
    if name == "digits":
        from eqspike_seq.data.digits import load_digits

        return load_digits()
    if name == "snli":
        from eqspike_seq.data.snli import load_snli

        return load_snli(data_dir)
    if name == "imdb":
        from eqspike_seq.data.imdb import load_imdb

        return load_imdb(data_dir)
    from eqspike_seq.data.own import load_own, named

    corpus = load_own(Path(name), config.text_column, config.label_column, config.strict, progress)
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
            raise DataError(f"{corpus.name}: the {name} split has no text; expected at least one of each class")
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


def token_ids(
    texts: list[str], embeddings: Embeddings, tokeniser: TokeniserName, progress: Progress = lambda _: None
) -> Ids:
    """As ``known_ids``, cached by content."""
    key = sha256_of([tokeniser.encode(), embeddings.digest.encode(), *(text.encode() for text in texts)])
    path = cache_dir() / "ids" / f"{key[:32]}.npz"

    def make() -> Arrays:
        return {name: np.asarray(value) for name, value in known_ids(texts, embeddings, tokeniser)._asdict().items()}

    def read(arrays: Arrays) -> Ids:
        counts = (int(arrays[name]) for name in ("unknown", "letters", "lost"))
        found = Ids(arrays["ids"], arrays["lengths"], *counts)
        _check_ids(found, texts=len(texts), words=len(embeddings.index))
        return found

    return kept(path, make, read, progress)


def _check_ids(found: Ids, texts: int, words: int) -> None:
    """Raises ValueError unless these can be the ids of so many texts."""
    ids, lengths, unknown, letters, lost = found
    whole = (ids.dtype, lengths.dtype, ids.ndim, lengths.shape) == (np.int32, np.int64, 1, (texts,))
    if not whole or unknown < 0 or not 0 <= lost <= letters or (lengths < 0).any() or lengths.sum() != len(ids):
        raise ValueError("the ids are not those of the texts")
    if len(ids) and not 1 <= ids.min() <= ids.max() <= words:
        raise ValueError(f"ids from {ids.min()} to {ids.max()}, expected 1 to {words}")


def known_ids(texts: list[str], embeddings: Embeddings, tokeniser: TokeniserName) -> Ids:
    """Texts as the ids of those of their tokens that have a vector."""
    index, unknown, written, held = embeddings.index, 0, 0, 0
    ids = [np.zeros(0, dtype=np.int32)]
    lengths = np.zeros(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        text = normalised(text, tokeniser)
        tokens = split_into_tokens(text, tokeniser)
        written, held = written + letters([text]), held + letters(tokens)
        known = [index[token] for token in tokens if token in index]
        ids.append(np.array(known, dtype=np.int32))
        lengths[row] = len(known)
        unknown += len(tokens) - len(known)
    return Ids(np.concatenate(ids), lengths, unknown, written, written - held)


def pixels(texts: list[str]) -> Ids:
    """As ``known_ids``, of images: the grey values themselves, all known."""
    values = np.frombuffer("".join(texts).encode("latin-1"), dtype=np.uint8).astype(np.int32)
    return Ids(values, np.array([len(text) for text in texts], dtype=np.int64), 0)


def shuffled(part: Encoded) -> Encoded:
    """The same texts, each with its words in random order."""
    rng = np.random.default_rng(SPLIT_SEED)
    texts = [rng.permutation(part.ids[start:end]) for start, end in pairwise(part.starts)]
    return replace(part, ids=np.concatenate(texts))


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
        return cls(table, config.tokens, config.keep, dataset.images)

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
    rows = np.random.default_rng(config.seed).permutation(len(dataset.train))[:texts]
    return Batches.of(config, dataset)(dataset.train, rows)
