"""Long work, watched: memory and file handles of 2,000 training batches and of a million answers must not grow."""

import itertools
import json
import random
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import eqspike as python
from benchmarks.measure import in_fresh_process
from eqspike.build import configure, run, varied
from eqspike.prediction import SHIPPED, TOGETHER
from eqspike_seq.data.mini import load_mini
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.progress import Reporter
from tests.stress.survival import eqspike

BATCHES, ANSWERS, MOST_ANSWERS = 2_000, 100_000, 600_000
FEWER = 10_000  # answers of a rate code, which takes 200 time steps each
MOST = 1.02  # of the memory after warming up
Samples = list[tuple[int, int]]  # (bytes resident, file handles)
DENSE: dict[str, Any] = {"backend": "dense"}
RATES: dict[str, Any] = {"backend": "spiking"}
CHANGES: dict[str, Any] = {"backend": "spiking", "neuron": "sigma-delta"}


def load(first: int = 0) -> Iterator[dict[str, Any]]:
    """All of it from the ``first`` on, an entry for each load, with what grew as ``lost``."""
    loads: list[Callable[[], dict[str, Any]]] = [
        partial(in_fresh_process, training, DENSE),
        partial(in_fresh_process, training, RATES),
        partial(predicting, CHANGES, ANSWERS),
        partial(predicting, DENSE, ANSWERS),
        partial(predicting, RATES, FEWER),
        partial(in_fresh_process, answering, MOST_ANSWERS),
        partial(piped, f"{SHIPPED}, from a pipe", SHIPPED, 2 * ANSWERS, 1),
    ]
    for task in loads[first:]:
        yield task()


def sample(process: int | str = "self") -> tuple[int, int]:
    """Bytes that a process has resident, and how many files it has open."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4096, len(list(Path(f"/proc/{process}/fd").iterdir()))


def judged(name: str, samples: Samples, seconds: float, work: int) -> dict[str, Any]:
    """Medians over the second tenth and over the last one."""
    tenth = len(samples) // 10
    first, last = (
        [statistics.median(column) for column in zip(*part, strict=True)]
        for part in (samples[tenth : 2 * tenth], samples[-tenth:])
    )
    lost = [f"memory grows {last[0] / first[0]:.3f}-fold"] if last[0] > MOST * first[0] else []
    lost += [f"{last[1]} file handles after {first[1]}"] if last[1] > first[1] else []
    return {
        "name": name,
        "work": work,
        "seconds": seconds,
        "bytes_after_warming_up": first[0],
        "bytes_at_the_end": last[0],
        "file_handles": last[1],
        "lost": lost,
    }


def training(settings: dict[str, Any]) -> dict[str, Any]:
    """Whole epochs of mini, at least ``BATCHES`` batches; to be called in a fresh process."""
    samples: Samples = []
    original = Trainer.train_batch

    def train_batch(self: Trainer) -> None:
        original(self)
        samples.append(sample())

    with tempfile.TemporaryDirectory() as place, patch.object(Trainer, "train_batch", train_batch):
        config = configure("mini", **settings, out=Path(place) / "run", epochs=1)
        epochs = -(-BATCHES // -(-2000 // config.learning.batch))
        started = time.perf_counter()
        run(varied(config, epochs=epochs), Reporter(quiet=True))
        seconds = time.perf_counter() - started
    return judged(f"training, {named(settings)}", samples, seconds, len(samples))


def named(settings: dict[str, Any]) -> str:
    """As the table calls it."""
    return str(settings.get("neuron", settings["backend"]))


def predicting(settings: dict[str, Any], asked: int) -> dict[str, Any]:
    """``piped`` for a run on mini with these settings."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        short = [word for name, value in settings.items() for word in (f"--{name}", value)]
        eqspike(Path(place) / "cache", "run", "mini", *short, "--epochs", 1, "--out", folder).communicate()
        return piped(f"predicting, {named(settings)}", folder, asked)


def texts(asked: int, longest: int) -> Iterator[str]:
    """So many, each of up to ``longest`` texts of mini."""
    some, rng = [text.replace("\n", " ") for text in load_mini().test.texts], random.Random(0)
    return (" ".join(rng.choices(some, k=rng.randint(1, longest))) for _ in range(asked))


def answering(asked: int) -> dict[str, Any]:
    """The model that comes with eqspike, asked from Python; to be called in a fresh process."""
    model, more, answers = python.open(SHIPPED), texts(asked, 1), 0
    samples: Samples = []
    started = time.perf_counter()
    while some := list(itertools.islice(more, TOGETHER)):
        answers += sum(label is not None for label in model.predict(some))
        samples.append(sample())
    found = judged(f"{SHIPPED}, from Python", samples, time.perf_counter() - started, answers)
    found["lost"] += [] if answers == asked else [f"{answers} answers to {asked} texts"]
    return found


def piped(name: str, model: Path | str, asked: int, longest: int = 3) -> dict[str, Any]:
    """``eqspike predict`` with so many lines on its standard input, each sent without waiting for answers."""
    samples: Samples = []
    with tempfile.TemporaryDirectory() as cache:
        with eqspike(Path(cache), "predict", model, "--json", stdin=subprocess.PIPE, stderr=None) as process:
            assert process.stdin and process.stdout

            def ask() -> None:
                assert process.stdin
                process.stdin.writelines(f"{text}\n" for text in texts(asked, longest))
                process.stdin.close()

            threading.Thread(target=ask, daemon=True).start()
            started, answers = time.perf_counter(), 0
            for line in process.stdout:
                answers += bool(json.loads(line)["label"])
                if answers % 100 == 0 and answers < asked:
                    samples.append(sample(process.pid))
            seconds = time.perf_counter() - started
    found = judged(name, samples, seconds, answers)
    found["lost"] += [] if answers == asked else [f"{answers} answers to {asked} texts"]
    return found
