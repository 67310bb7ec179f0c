"""Word vectors: trained by gensim on the training texts, read from a file, drawn at random, or downloaded.

Whatever their origin they are standardised: zero mean and unit variance in each component over the vocabulary
(σ needs inputs of that size to be driven at all).
"""

import gzip
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqspike_seq.data.cache import Arrays, cache_dir, kept
from eqspike_seq.data.corpus import SPLIT_SEED
from eqspike_seq.data.tokens import TokeniserName, tokenise
from eqspike_seq.errors import DataError
from eqspike_seq.files import LARGEST_ARRAYS, read_arrays, sha256_of, temporary

LARGEST_VALUE = 1e30  # of a vector; its square is still a number
WORD2VEC: dict[str, Any] = dict(sg=1, window=10, negative=5, sample=1e-4)
PASSES, LETTERS = (5, 20), 80_000_000  # of word2vec over the texts: as many as read so many letters, within these


@dataclass(frozen=True)
class Embeddings:
    """``table`` (V + 1, D) float32, row 0 zeros (padding); ``index`` word → row, n-grams not among them; ``digest`` of
    both."""

    table: NDArray[np.float32]
    index: dict[str, int]
    digest: str
    source: str

    @property
    def dim(self) -> int:
        """D, the components of a vector."""
        return int(self.table.shape[1])


def grey_values() -> Embeddings:
    """Grey values as words of one component, v/255; 0, black, takes the place of padding."""
    table = (np.arange(256) / 255).astype(np.float32)[:, None]
    return Embeddings(table, {str(v): v for v in range(1, 256)}, sha256_of([table.tobytes()]), "grey values")


def standardise(words: list[str], vectors: NDArray[Any], source: str) -> Embeddings:
    """Zero mean, unit variance in each component over the vocabulary; a constant component becomes 0."""
    if len(words) == 0 or vectors.ndim != 2 or len(words) != len(vectors):
        raise DataError(
            f"word vectors from {source}: got {len(words)} words and an array of shape {vectors.shape}, "
            "expected one vector a word"
        )
    if vectors.dtype.kind not in "fiu" or not (np.abs(vectors) <= LARGEST_VALUE).all():
        raise DataError(
            f"word vectors from {source}: NaN, infinite or other values ({vectors.dtype}); expected numbers "
            f"from -{LARGEST_VALUE:g} to {LARGEST_VALUE:g}"
        )
    vectors = vectors.astype(np.float64)
    spread = vectors.std(0)
    scaled = (vectors - vectors.mean(0)) / np.where(spread > 0, spread, 1.0)
    table = np.concatenate([np.zeros((1, vectors.shape[1])), scaled]).astype(np.float32)
    digest = sha256_of(["\n".join(words).encode(), table.tobytes()])
    return Embeddings(table, {word: row for row, word in enumerate(words, start=1)}, digest, source)


def train_word2vec(
    texts: list[str],
    dim: int,
    min_count: int,
    tokeniser: TokeniserName,
    progress: Callable[[str], None] = lambda _: None,
    workers: int = 1,
) -> Embeddings:
    """Skip-gram with negative sampling (Mikolov et al. 2013) on ``texts``, cached by their content and the settings.

    Few texts are read more often. With one worker the same texts give the same vectors; with more they differ from time
    to time. Raises DataError where no word occurs ``min_count`` times.
    """
    passes = math.ceil(LETTERS / max(1, sum(map(len, texts))))
    epochs = min(max(passes, PASSES[0]), PASSES[1])
    settings = {**WORD2VEC, "epochs": epochs, "workers": workers, "vector_size": dim, "min_count": min_count}
    settings["seed"] = SPLIT_SEED
    # ascii, the only one at first, is not in the key: vectors of recorded runs take minutes and stay found
    asked = settings if tokeniser == "ascii" else {**settings, "tokeniser": tokeniser}
    key = sha256_of([json.dumps(asked, sort_keys=True).encode(), *(text.encode() for text in texts)])
    source = f"word2vec trained on {len(texts):,} training and unlabelled texts"
    if workers > 1:
        source += f" by {workers} threads, which do not repeat themselves"
    path = cache_dir() / "embeddings" / f"{key[:32]}.npz"

    def make() -> Arrays:
        progress(f"word2vec: splitting {len(texts):,} texts into words")
        with temporary(path) as corpus:
            with corpus.open("w", encoding="utf-8") as file:
                for text in texts:
                    if tokens := tokenise(text, tokeniser):
                        print(*tokens, file=file)
            if corpus.stat().st_size == 0:
                raise no_word("--min-count", min_count, any_word=False)
            words, vectors = _fit(corpus, len(texts), settings, progress)
        return {"words": np.array(words), "vectors": vectors}

    def read(arrays: Arrays) -> Embeddings:
        return standardise([str(word) for word in arrays["words"]], arrays["vectors"], source)

    return kept(path, make, read, progress)


def _fit(
    corpus: Path, texts: int, settings: dict[str, Any], progress: Callable[[str], None]
) -> tuple[list[str], NDArray[np.float32]]:
    """Words and their vectors; ``corpus`` holds a text a line, its words with spaces between.

    On a terminal each pass over them is told, with the time left; in a log one line serves for all.
    """
    from gensim.models.callbacks import CallbackAny2Vec
    from gensim.models.word2vec import Word2Vec

    passes = settings["epochs"]

    class Report(CallbackAny2Vec):  # type: ignore[misc]
        done, started = 0, 0.0

        def on_epoch_begin(self, model: object) -> None:
            self.started = self.started or time.perf_counter()
            spent = time.perf_counter() - self.started
            left = f", about {spent / self.done * (passes - self.done):.0f} s left" if self.done else ""
            if sys.stderr.isatty():
                progress(f"word2vec, pass {self.done + 1} of {passes} over {texts:,} texts{left}")
            elif not self.done:
                progress(f"word2vec: {passes} passes over {texts:,} texts")
            self.done += 1

    try:
        model = Word2Vec(corpus_file=str(corpus), callbacks=[Report()], **settings)
    except RuntimeError as error:
        raise no_word("--min-count", settings["min_count"]) from error
    return list(model.wv.index_to_key), model.wv.vectors


def no_word(flag: str, least: int, any_word: bool = True) -> DataError:
    """The error for training texts that leave no vocabulary: words that are too rare, or none at all."""
    if any_word:
        where = f"in {least} training texts" if flag == "--min-texts" else f"{least} times in the training texts"
        return DataError(f"no word occurs {where}. Lower {flag}, or give vectors with --embeddings.")
    return DataError(
        "the training texts contain no word at all: no letter, number or emoji that --tokeniser reads, or only words "
        "of more than 64 letters. Is it the right column? --tokeniser unicode reads every script, ascii a to z."
    )


def random_vectors(texts: list[str], dim: int, min_count: int, tokeniser: TokeniserName) -> Embeddings:
    """Standard normal vectors for every word that occurs ``min_count`` times in ``texts``. DataError without any."""
    counts = Counter(token for text in texts for token in tokenise(text, tokeniser))
    words = sorted(word for word, count in counts.items() if count >= min_count)
    if not words:
        raise no_word("--min-count", min_count, any_word=bool(counts))
    vectors = np.random.default_rng(SPLIT_SEED).standard_normal((len(words), dim))
    return standardise(words, vectors, f"random, seed {SPLIT_SEED}")


def read_vectors(path: Path, vocabulary: Iterable[str], trust_pickle: bool = False) -> Embeddings:
    """Vectors of a file: word2vec ``.bin[.gz]`` or text, ``.npz`` with ``words`` and ``vectors``, or gensim ``.kv``.

    Only words of ``vocabulary`` are kept. A ``.kv`` file (KeyedVectors) is a pickle, which can run any code when it is
    read: it is refused without ``trust_pickle``. Raises DataError for a missing, corrupt or empty file too.
    """
    if not path.is_file():
        raise DataError(
            f"--embeddings: no file {path}. Give a KeyedVectors, word2vec or .npz file, "
            "or one of: word2vec, random, google-news."
        )
    if path.suffix == ".kv" and not trust_pickle:
        raise DataError(
            f"--embeddings: {path} is a pickle and can run any code when it is read. If it is your own, add "
            "--trust-pickle; or save it with save_word2vec_format(..., binary=True) and give that."
        )
    try:
        words, vectors = _read(path)
    except Exception as error:  # gensim lets many kinds through, a pickle every kind
        raise DataError(
            f"--embeddings: {path} cannot be read as word vectors ({error}). Expected word2vec .bin, "
            ".bin.gz or text, an .npz of words (V,) and vectors (V, D), or gensim's .kv."
        ) from error
    return _select(words, vectors, vocabulary, path.name)


def _read(path: Path) -> tuple[list[str], NDArray[Any]]:
    if path.suffix == ".npz":
        arrays = read_arrays(path)
        return [str(word) for word in arrays["words"]], arrays["vectors"]
    from gensim.models import KeyedVectors

    if path.suffix != ".kv":
        _check_size(path)
    if path.suffix == ".kv":
        vectors = KeyedVectors.load(str(path))
    else:
        vectors = KeyedVectors.load_word2vec_format(str(path), binary=".bin" in path.suffixes)
    return list(vectors.index_to_key), vectors.vectors


def _check_size(path: Path) -> None:
    """Raises ValueError unless a word2vec file begins with how many vectors it has, of how many components."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        words, dim = map(int, file.readline(100).split())
    if not (words > 0 and dim > 0 and 4 * words * dim <= LARGEST_ARRAYS):
        raise ValueError(f"it begins with {words} words of {dim} components, expected at most {LARGEST_ARRAYS:,} bytes")


def google_news(vocabulary: Iterable[str]) -> Embeddings:
    """word2vec-google-news-300 (Mikolov et al. 2013) through gensim's downloader, 1.7 GB on first use."""
    import gensim.downloader

    try:
        vectors = gensim.downloader.load("word2vec-google-news-300")
    except Exception as error:  # the downloader lets every kind of network and checksum error through
        raise DataError(
            f"--embeddings google-news: the download failed ({error}). Download the file by hand and give it "
            "with --embeddings FILE, or leave the option out to train vectors on the texts."
        ) from error
    return _select(list(vectors.index_to_key), vectors.vectors, vocabulary, "google-news")


def _select(words: list[str], vectors: NDArray[Any], vocabulary: Iterable[str], source: str) -> Embeddings:
    if len(words) != len(vectors):
        raise DataError(
            f"word vectors from {source}: got {len(words)} words and {len(vectors)} vectors; they must match"
        )
    wanted = set(vocabulary)
    rows: dict[str, int] = {}  # where a word comes twice, the first counts
    for row, word in enumerate(words):
        if word in wanted:
            rows.setdefault(word, row)
    if not rows:
        raise DataError(f"word vectors from {source}: none of their {len(words):,} words occurs in the training texts")
    return standardise(list(rows), np.asarray(vectors)[list(rows.values())], source)
