"""Where word vectors come from: the kinds of --embeddings, one entry each in ``EMBEDDINGS``, else a file."""

import os.path
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from eqspike_seq.config.section import Section
from eqspike_seq.data.corpus import SPLIT_SEED, Corpus
from eqspike_seq.data.embeddings import Embeddings, google_news, random_vectors, read_vectors, train_word2vec
from eqspike_seq.data.encoding import Progress
from eqspike_seq.data.patterns import NGrams
from eqspike_seq.data.tokens import TokeniserName, tokenise

Dim = Annotated[int, Field(ge=1, le=10_000)]


class Vectors(Section):
    """A source of word vectors."""

    def embed(self, corpus: Corpus, tokeniser: TokeniserName, min_count: int, progress: Progress) -> Embeddings:
        """Vectors of the words that occur ``min_count`` times, made from training and unlabelled texts, never from
        test. Raises DataError."""
        raise NotImplementedError

    def patterns(
        self, grams: NGrams, corpus: Corpus, tokeniser: TokeniserName, min_texts: int, progress: Progress
    ) -> tuple[NDArray[np.float32], str]:
        """(vectors (V + 1, D) of words and n-grams that ``min_texts`` hold, about of unit variance; row 0, padding, is
        0; where they are from). That of an n-gram is the sum of those of its words. Raises DataError."""
        words = self.embed(corpus, tokeniser, min_texts, progress)
        table = np.zeros((len(grams) + 1, words.dim), dtype=np.float32)
        for word, number in grams.words.items():
            table[number] = words.table[words.index.get(word, 0)]
        for ids, first, last in grams.parts():
            table[ids] = table[first] + table[last]
        for ids, _, _ in grams.parts():
            table[ids] /= (table[ids].std() if len(ids) else 0.0) or 1.0
        return table, words.source


@dataclass(frozen=True)
class Word2VecVectors(Vectors):
    """Trained on the training texts (Mikolov et al. 2013)."""

    name: ClassVar[str] = "word2vec"
    dim: Dim = 100
    """D, the number of components of a word vector."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Threads that train word vectors. One is reproducible; more are faster, but differ each time."""

    def embed(self, corpus: Corpus, tokeniser: TokeniserName, min_count: int, progress: Progress) -> Embeddings:
        """Skip-gram with negative sampling."""
        texts = corpus.train.texts + corpus.unlabelled
        return train_word2vec(texts, self.dim, min_count, tokeniser, progress, self.workers)


@dataclass(frozen=True)
class RandomVectors(Vectors):
    """Standard normal."""

    name: ClassVar[str] = "random"
    dim: Dim = 100
    """D, the number of components of a word vector."""

    def embed(self, corpus: Corpus, tokeniser: TokeniserName, min_count: int, progress: Progress) -> Embeddings:
        """Drawn from a fixed seed."""
        return random_vectors(corpus.train.texts, self.dim, min_count, tokeniser)

    def patterns(
        self, grams: NGrams, corpus: Corpus, tokeniser: TokeniserName, min_texts: int, progress: Progress
    ) -> tuple[NDArray[np.float32], str]:
        """Each pattern drawn by itself."""
        drawn = np.random.default_rng(SPLIT_SEED).standard_normal((len(grams) + 1, self.dim), dtype=np.float32)
        drawn[0] = 0
        return drawn, f"random, seed {SPLIT_SEED}"


@dataclass(frozen=True)
class GoogleNewsVectors(Vectors):
    """Word vectors of Google News with 300 components, downloaded."""

    name: ClassVar[str] = "google-news"

    def embed(self, corpus: Corpus, tokeniser: TokeniserName, min_count: int, progress: Progress) -> Embeddings:
        """Downloaded once."""
        return google_news(vocabulary(corpus, tokeniser, min_count))


@dataclass(frozen=True)
class FileVectors(Vectors):
    """Those of a file, which is the kind's ``name``."""

    name: Annotated[str, AfterValidator(os.path.abspath)] = ""  # type: ignore[misc]

    def embed(self, corpus: Corpus, tokeniser: TokeniserName, min_count: int, progress: Progress) -> Embeddings:
        """Read from the file."""
        return read_vectors(Path(self.name), vocabulary(corpus, tokeniser, min_count))


@dataclass(frozen=True)
class PickledVectors(FileVectors):
    """Word vectors from a gensim KeyedVectors file (.kv), which is a pickle."""

    trust_pickle: bool = False
    """Read gensim KeyedVectors (.kv) given with --embeddings. Such a file can run any code: use it for your own
    only."""

    def embed(self, corpus: Corpus, tokeniser: TokeniserName, min_count: int, progress: Progress) -> Embeddings:
        """Read from the file, if it is to be trusted."""
        if self.trust_pickle:
            progress(f"warning: --trust-pickle: whatever code is in {self.name} runs when it is read")
        return read_vectors(Path(self.name), vocabulary(corpus, tokeniser, min_count), self.trust_pickle)


def vocabulary(corpus: Corpus, tokeniser: TokeniserName, min_count: int) -> list[str]:
    """The words that occur ``min_count`` times in the training texts."""
    counted = Counter(token for text in corpus.train.texts for token in tokenise(text, tokeniser))
    return [word for word, count in counted.items() if count >= min_count]


EMBEDDINGS: dict[str, type[Vectors]] = {
    "word2vec": Word2VecVectors,
    "random": RandomVectors,
    "google-news": GoogleNewsVectors,
}
