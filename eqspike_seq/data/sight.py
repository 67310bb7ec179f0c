"""What the network sees of a text: its tokens in their order, or all its words and n-grams with their counts."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from eqspike_seq.config.section import Needs, Positive, Section
from eqspike_seq.data.corpus import Corpus, parts_of, single
from eqspike_seq.data.embeddings import Embeddings
from eqspike_seq.data.encoding import Encoded, Progress, Statistics, as_words, shuffled, token_ids
from eqspike_seq.data.naive_bayes import NaiveBayes
from eqspike_seq.data.patterns import NGrams, class_counts, counted, counted_patterns
from eqspike_seq.data.tokens import TokeniserName
from eqspike_seq.data.vectors import Vectors
from eqspike_seq.errors import DataError
from eqspike_seq.files import sha256_of

WITH_RATIOS = Needs("--naive-bayes above 0", lambda settings: settings.get("naive_bayes", 0) > 0)


def silent(_: str) -> None:
    """No progress is shown."""


@dataclass(frozen=True)
class Reading:
    """The splits of a corpus by name, what became of their words, and the vectors of words or patterns; of patterns
    maybe the ``ratios`` that some components start at."""

    embeddings: Embeddings
    encoded: dict[str, Encoded]
    statistics: dict[str, Statistics]
    ratios: NaiveBayes | None = None
    grams: NGrams | None = None

    def names(self) -> list[str]:
        """The words, or the words and n-grams, by id from 1."""
        return list(self.embeddings.index) if self.grams is None else self.grams.names()


class Sight(Section):
    """What the network sees of a text. ``rows`` of it ask."""

    rows: ClassVar[int] = 0

    def read(self, corpus: Corpus, tokeniser: TokeniserName, vectors: Vectors, progress: Progress | None) -> Reading:
        """All splits as ids, with the vectors of these; without ``progress`` no ids are kept in the cache. Raises
        DataError."""
        raise NotImplementedError

    def encode(self, texts: list[str], reading: Reading, tokeniser: TokeniserName) -> Encoded:
        """Other texts, as single ones and without labels, as the ids of ``reading``."""
        raise NotImplementedError


@dataclass(frozen=True)
class TokenSequence(Sight):
    """The tokens of a text in their order, each of which asks."""

    tokens: Annotated[int, Field(ge=1, le=100_000)] = 256
    """N, the maximum number of tokens that the network reads of a text."""
    keep: Literal["ends", "head", "tail"] = "ends"
    """Which tokens of a longer text to keep. ends: the first and last half of N. head: the first N. tail: the last
    N."""
    shuffle_words: bool = False
    """Put the words of every text in random order (a control without word order)."""
    min_count: Positive = 5
    """Words that occur less often than this in the training texts get no vector."""

    @property
    def rows(self) -> int:  # type: ignore[override]
        """N."""
        return self.tokens

    def read(self, corpus: Corpus, tokeniser: TokeniserName, vectors: Vectors, progress: Progress | None) -> Reading:
        """Each text as the ids of those of its tokens that have a vector."""
        embeddings = vectors.embed(corpus, tokeniser, self.min_count, progress or silent)
        encoded, statistics = {}, {}
        for name, part in parts_of(corpus).items():
            texts = single(part.texts, corpus.inputs)
            if progress is None:
                words = as_words(texts, tokeniser, embeddings.index)
            else:
                words = token_ids(texts, embeddings, tokeniser, progress)
            found, statistics[name] = words.known(part.labels, corpus.inputs), words.statistics()
            encoded[name] = shuffled(found) if self.shuffle_words else found
        return Reading(embeddings, encoded, statistics)

    def encode(self, texts: list[str], reading: Reading, tokeniser: TokeniserName) -> Encoded:
        """Each text as the ids of those of its tokens that have a vector."""
        return as_words(texts, tokeniser, reading.embeddings.index).known(np.zeros(len(texts), dtype=np.int64))


@dataclass(frozen=True)
class CountedPatterns(Sight):
    """All words and n-grams of a text, each with its count."""

    ngrams: Annotated[int, Field(ge=1, le=3)] = 2
    """Maximum length of an n-gram, in words."""
    min_texts: Positive = 2
    """Ignore words and n-grams that occur in fewer training texts than this."""
    start_scale: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of the initial vectors."""
    naive_bayes: Annotated[float, Field(ge=0)] = 2.0
    """Root mean square of the components that start at the log-count ratios of the classes. 0: no such components."""
    naive_bayes_copies: Annotated[Positive, WITH_RATIOS] = 4
    """Number of components for each ratio. There is one ratio for two classes, else one for each class."""
    smoothing: Annotated[float, Field(gt=0), WITH_RATIOS] = 1.0
    """Pseudo-count of the ratios: this many texts of each class are assumed to contain every pattern."""

    def read(self, corpus: Corpus, tokeniser: TokeniserName, vectors: Vectors, progress: Progress | None) -> Reading:
        """Each text as the ids of its different patterns, with their counts."""
        parts = parts_of(corpus)
        asked = (tokeniser, self.ngrams, self.min_texts, progress)
        grams, encoded, statistics = counted_patterns(parts, corpus.inputs, *asked)
        start, source = vectors.patterns(grams, corpus, tokeniser, self.min_texts, progress or silent)
        start *= self.start_scale
        ratios = None
        if self.naive_bayes:
            counts, totals = class_counts(encoded["train"], len(corpus.classes), len(grams))
            ratios = NaiveBayes.of(counts, totals, self.smoothing, self.naive_bayes, self.naive_bayes_copies)
            if ratios.components > start.shape[1]:
                raise DataError(
                    f"vectors of {start.shape[1]} components, expected at least {ratios.components}, for "
                    f"--naive-bayes-copies {self.naive_bayes_copies} of each of {ratios.ratios} class ratio(s). Raise "
                    "--dim, use longer vectors, or lower --naive-bayes-copies."
                )
            start[:, : ratios.components] = ratios.vectors().numpy()
            encoded["train"] = replace(encoded["train"], in_ratios=True)
        digest = sha256_of(["\n".join(grams.names()).encode(), start.data.cast("B")])
        return Reading(Embeddings(start, grams.words, digest, source), encoded, statistics, ratios, grams)

    def encode(self, texts: list[str], reading: Reading, tokeniser: TokeniserName) -> Encoded:
        """Each text as the ids of its different patterns, with their counts."""
        assert reading.grams is not None
        ids, counts, lengths = counted(reading.grams, as_words(texts, tokeniser, reading.grams.words))
        return Encoded.of(ids, lengths, np.zeros(len(texts), dtype=np.int64), counts=counts)
