"""Where word vectors come from: the kinds of --embeddings, one entry each in ``EMBEDDINGS``, else a file."""

import os.path
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from eqspike_seq.config.section import Section
from eqspike_seq.data.corpus import Corpus
from eqspike_seq.data.embeddings import Embeddings, google_news, random_vectors, read_vectors, train_word2vec
from eqspike_seq.data.encoding import Progress
from eqspike_seq.data.tokens import TokeniserName, tokenise

Dim = Annotated[int, Field(ge=1, le=10_000)]


class Vectors(Section):
    """A source of word vectors."""

    def embed(self, corpus: Corpus, tokeniser: TokeniserName, min_count: int, progress: Progress) -> Embeddings:
        """Vectors of the words that occur ``min_count`` times, made from training and unlabelled texts, never from
        test. Raises DataError."""
        raise NotImplementedError


@dataclass(frozen=True)
class Word2VecVectors(Vectors):
    """Trained on the training texts (Mikolov et al. 2013)."""

    name: ClassVar[str] = "word2vec"
    dim: Dim = 100
    """D, the components of a word vector."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Threads that train word vectors: one repeats itself, more are faster and give others each time."""

    def embed(self, corpus: Corpus, tokeniser: TokeniserName, min_count: int, progress: Progress) -> Embeddings:
        """Skip-gram with negative sampling."""
        texts = corpus.train.texts + corpus.unlabelled
        return train_word2vec(texts, self.dim, min_count, tokeniser, progress, self.workers)


@dataclass(frozen=True)
class RandomVectors(Vectors):
    """Standard normal."""

    name: ClassVar[str] = "random"
    dim: Dim = 100
    """D, the components of a word vector."""

    def embed(self, corpus: Corpus, tokeniser: TokeniserName, min_count: int, progress: Progress) -> Embeddings:
        """Drawn from a fixed seed."""
        return random_vectors(corpus.train.texts, self.dim, min_count, tokeniser)


@dataclass(frozen=True)
class GoogleNewsVectors(Vectors):
    """Those of Google News, 300 components, downloaded."""

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
    """Those of a gensim KeyedVectors file (.kv), which is a pickle."""

    trust_pickle: bool = False
    """Read gensim KeyedVectors (.kv) given with --embeddings; such a file can run any code, so only your own."""

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
