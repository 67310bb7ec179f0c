"""What comes before the first batch: starting up, splitting texts into words, training word vectors, caching.

python -m benchmarks.startup --json results/startup.json

``first_batch`` is seconds from the start of a process of ``eqspike run mini`` to its first batch, caches warm, and how
much of it goes by until torch is there. Word vectors are those of ``texts`` IMDB reviews: as eqspike trains them with
one thread and with all, beside gensim fed with lists of words by all threads, its usual way. ``cached`` is the whole
data set read with everything in the cache.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import tyro

from benchmarks.measure import JsonFile, command
from eqspike.build import configure
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data import embeddings
from eqspike_seq.data.dataset import load_corpus, load_dataset
from eqspike_seq.data.tokens import tokenise
from eqspike_seq.files import write_json
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment

FIRST_BATCH = """
import os, sys, time
import torch
started = float(sys.argv[1])
ready = time.time() - started
from eqspike_seq.learning.trainer import Trainer
def begun(_):
    print(ready, time.time() - started)
    sys.stdout.flush()
    os._exit(0)
Trainer.train_batch = begun
sys.argv = ["eqspike", "run", "mini", "--backend", "spiking", "--out", sys.argv[2]]
from eqspike.cli import main
main()
"""


def main(json_file: JsonFile, texts: int = 10_000, repeats: int = 5) -> None:
    """Measure and write.

    Args:
        json_file: Where the figures go.
        texts: IMDB training reviews for the word vectors.
        repeats: Starts of a process.
    """
    reporter = Reporter()
    found: dict[str, Any] = {"first_batch": first_batch(repeats)}
    load_dataset(configure("imdb", preset="paper-small").data, reporter.status)
    found["cached"] = seconds(lambda: load_dataset(configure("imdb", preset="paper-small").data))
    reviews = load_corpus(configure("imdb", preset="paper-small").data).train.texts[:texts]
    found["tokenise"] = seconds(lambda: [tokenise(text, "ascii") for text in reviews])
    threads = os.cpu_count() or 1
    for name, workers in (("one_thread", 1), ("all_threads", threads)):
        reporter.status(f"word vectors, {workers} threads")
        found[f"word2vec_{name}"] = seconds(lambda workers=workers: ours(reviews, workers))  # type: ignore[misc]
    reporter.status("word vectors, gensim fed with lists of words")
    found["gensim_all_threads"] = seconds(lambda: gensim(reviews, threads))
    for name, value in found.items():
        reporter.out.print(f"{name:24} {value}")
    about = {"command": command(), "environment": environment(), "texts": texts, "threads": threads}
    ratio = found["gensim_all_threads"] / found["word2vec_all_threads"]
    write_json(json_file, {"format": FORMAT, **about, "seconds": found, "ratio_to_gensim": ratio})


def first_batch(repeats: int) -> dict[str, float]:
    """Medians of seconds until torch is imported, and until the first batch."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for run in range(repeats + 1):  # the first warms up
            start = [sys.executable, "-c", FIRST_BATCH, str(time.time()), f"{folder}/{run}"]
            done = subprocess.run(start, capture_output=True, text=True, check=True)
            rows.append([float(value) for value in done.stdout.split()])
    torch_there, begun = (statistics.median(column) for column in zip(*rows[1:], strict=True))
    return {"torch_imported": torch_there, "begins": begun}


def ours(reviews: list[str], workers: int) -> None:
    """The vectors of eqspike, into a cache of their own."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"EQSPIKE_CACHE": folder}):
        embeddings.train_word2vec(reviews, 100, 5, "ascii", workers=workers)


def gensim(reviews: list[str], workers: int) -> None:
    """The same settings, given lists of words."""
    from gensim.models.word2vec import Word2Vec

    words = [tokenise(text, "ascii") for text in reviews]
    Word2Vec(words, vector_size=100, min_count=5, seed=0, workers=workers, **embeddings.WORD2VEC)


def seconds(task: Callable[[], Any]) -> float:
    """Of one call."""
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


if __name__ == "__main__":
    tyro.cli(main)
