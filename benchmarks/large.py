"""Large sets of texts of one's own: how much memory and time reading, training and testing take.

    python -m benchmarks.large --json results/large.json

Two CSV files are generated, and each is read, trained on and tested as ``eqspike run FILE`` does, in a process of its
own, with the settings that eqspike chooses, by three-phase EP on dense rates:

    texts       500,000 texts of 20 classes
    patterns    fewer texts of two classes with rarer words and --min-texts 1: some millions of patterns, at D = 16

Words are drawn from Zipf's law; a fifth of a text's words are of its class alone. Training stops after --batches
batches, whose memory does not grow with their number: ``batches`` holds what is resident after each quarter of them.
``stages`` holds seconds and peak memory of each stage, Python and its libraries included.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.measure import JsonFile, command, in_fresh_process
from eqspike.build import configure, make_backend
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.learning.training import baseline
from eqspike_seq.memory import keep_freed_memory, release_freed_memory, resident
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment

AT_ONCE = 10_000  # texts that are generated together
OWN = 0.2  # of a text's words that its class alone has


def generate(path: Path, texts: int, classes: int, words: int, length: int) -> int:
    """Write ``texts`` texts of about ``length`` words, of ``words`` different ones, as CSV; returns its bytes."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, words + 1)
    cumulative = np.cumsum(weights / weights.sum())
    with path.open("w") as file:
        file.write("text,label\n")
        for start in range(0, texts, AT_ONCE):
            count = min(AT_ONCE, texts - start)
            labels, lengths = rng.integers(classes, size=count), rng.poisson(length, count) + 1
            owner = np.repeat(labels, lengths)
            drawn = np.searchsorted(cumulative, rng.random(len(owner)))
            own = rng.random(len(owner)) < OWN
            names = np.where(own, owner * 1000 + drawn % 1000, drawn).tolist()
            tokens = [f"{'own' if mine else 'w'}{name}" for name, mine in zip(names, own.tolist(), strict=True)]
            ends = np.cumsum(lengths)
            for label, end, size in zip(labels.tolist(), ends.tolist(), lengths.tolist(), strict=True):
                file.write(f"{' '.join(tokens[end - size : end])},topic{label}\n")
    return path.stat().st_size


@torch.no_grad()
def measured(file: str, settings: dict[str, Any], batches: int, simple: bool) -> dict[str, Any]:
    """Stages of a run; to be called in a fresh process."""
    torch.set_num_threads(1)
    keep_freed_memory()
    stages: dict[str, dict[str, float]] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
        seconds, processor = time.perf_counter(), time.process_time()
        yield
        taken = {"seconds": time.perf_counter() - seconds, "processor_seconds": time.process_time() - processor}
        stages[name] = {**taken, "peak_bytes": resident()}
        release_freed_memory()
        print(f"{name:10} {stages[name]}", flush=True)

    with stage("sizes"):
        config = configure(file, "dense", **settings, precision="float32")
    with stage("reading"):
        data = load_dataset(config.data)
    resident_after = []
    with stage("training"):
        trainer = Trainer(config, data, make_backend(config))
        for number in range(1, batches + 1):
            trainer.train_batch()
            if number % max(1, batches // 4) == 0:
                resident_after.append(resident("VmRSS"))
    with stage("testing"):
        found = evaluate(trainer.backend, trainer.network, trainer.gather, data.validation, config.learning.batch)
    with stage("saving"):
        saved = trainer.checkpoint()
        del saved
    tfidf = None
    if simple:
        with stage("baseline"):
            tfidf = baseline(config, data, Reporter(quiet=True))
    patterns = len(data.embeddings.table) - 1
    sizes = {"patterns": patterns, "train_texts": len(data.train), "occurrences": len(data.train.ids)}
    return {
        **sizes,
        "settings": settings,
        "dim": data.embeddings.dim,
        "batches": batches,
        "batch": config.learning.batch,
        "resident_after": resident_after,
        "validation_accuracy": found.accuracy,
        "baseline": None if tfidf is None else tfidf.validation_accuracy,
        "peak_bytes": max(stage["peak_bytes"] for stage in stages.values()),
        "stages": stages,
    }


def main(
    json_file: JsonFile, texts: int = 500_000, rare_texts: int = 300_000, batches: int = 400, simple: bool = True
) -> None:
    """Generate both files and measure.

    Args:
        json_file: Where the figures go.
        texts: Texts of the first file.
        rare_texts: Texts of the second file.
        batches: Of training, on each.
        simple: Fit logistic regression on TF-IDF too, as a run does at its end.
    """
    sets: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
        "texts": ({"texts": texts, "classes": 20, "words": 50_000, "length": 40}, {}),
        "patterns": (
            {"texts": rare_texts, "classes": 2, "words": 1_000_000, "length": 20},
            {"min_texts": 1, "dim": 16},
        ),
    }
    found: dict[str, Any] = {"format": FORMAT, "command": command(), "environment": environment(), "sets": {}}
    with tempfile.TemporaryDirectory() as place:
        os.environ["EQSPIKE_CACHE"] = place
        for name, (sizes, given) in sets.items():
            file = Path(place) / f"{name}.csv"
            size = generate(file, **sizes)
            print(name, f"{size:,} bytes", flush=True)
            row = in_fresh_process(measured, str(file), given, batches, simple)
            found["sets"][name] = {**sizes, "file_bytes": size, **row}
            write_json(json_file, found)


if __name__ == "__main__":
    tyro.cli(main)
