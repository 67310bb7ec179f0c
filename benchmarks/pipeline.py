"""IMDB from raw text to a tested model: eqspike beside what one would take in its place, and where its time goes.

    python -m benchmarks.pipeline --json results/pipeline.json

**Whole.** Each in a process of its own with one thread and an empty cache, from the file of reviews to accuracy on the
test split; Python's start, reading, splitting into words and n-grams, and saving are all counted:

    dense, sigma-delta   ``eqspike run imdb --no-baseline``
    bptt                 the network of ``dense``, its start and its optimisers, in plain PyTorch: ``SWEEPS`` sweeps
                         from rest unrolled, errors propagated back by autograd
    tfidf                scikit-learn: TF-IDF of words and word pairs, logistic regression, C chosen on validation
    lstm                 ``benchmarks.baselines``: an LSTM of 128 units over 256 tokens, its word vectors learnt from
                         random ones, the best of ``LSTM_EPOCHS`` epochs on validation

Settings of the first three are those of the preset, chosen on validation before.

**Batches.** The first --batches training batches of dense EP, sigma-delta and BPTT in turn, of the same texts, each
network learning: ratios of all their processor seconds. BPTT runs with the buckets of EP (texts by length), and as
*padded*: each batch cut to its longest text, as a plain program would.

**Parts.** Processor seconds of the parts of a dense batch, from the time inside the functions that do them.
"""

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from benchmarks.baselines import Passes, lstm
from benchmarks.measure import JsonFile, command, in_fresh_process
from eqspike.build import configure, make_backend
from eqspike_seq.config.examples import Texts
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.batches import Batches, CountedBatches
from eqspike_seq.data.dataset import Dataset, load_dataset, load_splits
from eqspike_seq.files import read_json, write_json
from eqspike_seq.learning import estimators, trainer
from eqspike_seq.learning.estimators import Estimate
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.optimisers import RowDescent
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.ledger import Ledger
from eqspike_seq.memory import keep_freed_memory, resident
from eqspike_seq.model.batch import Batch, Lookup
from eqspike_seq.model.network import Network, Shape, sigma
from eqspike_seq.model.synapses import RowProduct
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation import dense as relaxed
from eqspike_seq.relaxation.buckets import buckets
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.equilibrium import Backend
from eqspike_seq.relaxation.stack import ROUNDS
from eqspike_seq.runs.environment import environment

SWEEPS = 5  # that BPTT unrolls: what the free phase of the trained network takes
LSTM_EPOCHS = 2
WARM = 5  # batches that are not timed
REST = "all else"
PARTS = (  # where, name, what it is
    (CountedBatches, "lookup", "gather: patterns of a batch, some left out"),
    (Lookup, "take", "gather: their vectors, less a text's own part in the ratios"),
    (DenseBackend, "free", "relax: free phase"),
    (DenseBackend, "nudge", "relax: both nudges"),
    (estimators, "learnt", "gradients of all weights and patterns"),
    (trainer, "multiplied_out", "scatter: adding up by pattern"),
    (RowDescent, "step", "step of the patterns"),
    (relaxed, "dense_ledger", "counting events"),
    (trainer, "training_ledger", "counting events"),
)


def loss_of(shape: Shape, parameters: dict[str, Tensor], batch: Batch, x: Tensor) -> Tensor:
    """½‖y − sⁿ‖² of all texts after ``SWEEPS`` sweeps, in plain PyTorch; a network with one hidden layer."""
    q, w2, b2, w3, b3 = (parameters[name] for name in ("q", "w2", "b2", "w3", "b3"))
    assert batch.counts is not None
    bias = batch.counts[:, 0].clamp(min=1).log().masked_fill(~batch.mask[:, 0], -1e9).unsqueeze(1)
    s2, s3 = x.new_full((len(x), len(b2)), 0.5), x.new_full((len(x), len(b3)), 0.5)
    for _ in range(SWEEPS):
        query = q[0] + (s2 @ w2 / shape.temperature).view(-1, shape.rows, shape.dim)
        s1 = torch.softmax(query / math.sqrt(shape.dim) @ x.mT + bias, -1) @ x
        current = s1.flatten(1) @ w2.T + b2
        for _ in range(ROUNDS):
            s3 = sigma(s2 @ w3.T + b3)
            s2 = sigma(current + s3 @ w3)
    return 0.5 * (F.one_hot(batch.labels, len(b3)) - sigma(s2 @ w3.T + b3)).square().sum()


class PlainBPTT:
    """Gradients of the mean loss by autograd, in place of an estimator of ours; by length, or ``padded``."""

    def __init__(self, padded: bool = False) -> None:
        self.padded = padded

    @torch.enable_grad()
    def __call__(self, backend: Backend, network: Network, batch: Batch | Lookup) -> Estimate:
        named = {name: tensor.detach().requires_grad_() for name, tensor in network.named()}
        found, patterns = {name: torch.zeros_like(tensor) for name, tensor in named.items()}, []
        assert isinstance(batch, Lookup)
        pieces = [batch.whole()] if self.padded else [part for _, _, part in buckets(backend, network, batch)]
        for part in pieces:
            x = part.x[:, 0].detach().requires_grad_()
            loss = loss_of(network.shape, named, part, x) / len(batch)
            *gradients, at_x = torch.autograd.grad(loss, [*named.values(), x])
            for name, gradient in zip(named, gradients, strict=True):
                found[name] += gradient
            assert part.ids is not None
            patterns.append(RowProduct.of(part.ids.flatten(), at_x.flatten(0, 1)))
        return Estimate({**found, "X": RowProduct.joined(patterns)}, [])


def as_bptt(made: Trainer, padded: bool = False) -> Trainer:
    """``made`` with ``PlainBPTT``, and nothing counted."""
    made.estimator = PlainBPTT(padded)  # type: ignore[assignment]
    made.window.add = lambda *_: None  # type: ignore[method-assign]
    return made


def plain(config: RunConfig, data: Dataset, padded: bool = False) -> Trainer:
    """A trainer by ``PlainBPTT``, which counts nothing."""
    made = Trainer(config, data, make_backend(config))
    made.estimator = PlainBPTT(padded)  # type: ignore[assignment]
    made.window.add = lambda *_: None  # type: ignore[method-assign]
    return made


def uncounted(step: Callable[[], None]) -> Callable[[], None]:
    """``step`` without a ledger."""

    def run() -> None:
        with patch.object(trainer, "training_ledger", lambda *_: Ledger()):
            step()

    return run


@torch.no_grad()
def run_bptt(_: str) -> dict[str, Any]:
    """Train and test the network of the preset by BPTT."""
    keep_freed_memory()
    config = configure("imdb", "dense", precision="float32")
    data = load_dataset(config.data)
    made = plain(config, data)
    step = uncounted(made.train_batch)
    while not made.ended:
        step()
    found = [
        evaluate(made.backend, made.network, made.gather, part, config.learning.batch).accuracy
        for part in (data.validation, data.test)
    ]
    return {"validation_accuracy": found[0], "test_accuracy": found[1]}


def run_lstm(_: str) -> dict[str, Any]:
    """Train and test the LSTM."""
    config = configure("imdb", "dense", "paper-small", embeddings="random", precision="float32")
    data = load_dataset(config.data)
    gather = Batches.of(config, data)
    every = [(gather.ids(part, np.arange(len(part))), part.labels) for part in (data.train, data.validation, data.test)]
    found = lstm(every, gather.table, Passes(LSTM_EPOCHS, 64, 1e-3, 0), Reporter(quiet=True))
    return {name: found[name] for name in ("validation_accuracy", "test_accuracy")}


def run_tfidf(_: str) -> dict[str, Any]:
    """Scikit-learn's own splitting into words, TF-IDF and logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    corpus = load_splits(configure("imdb", "dense").data)
    assert corpus.validation is not None
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    train = vectorizer.fit_transform(corpus.train.texts)
    validation, test = (vectorizer.transform(part.texts) for part in (corpus.validation, corpus.test))
    tried: list[tuple[float, float, Any]] = []
    for c in (1.0, 10.0):
        model = LogisticRegression(C=c, solver="liblinear").fit(train, corpus.train.labels)
        tried.append((float(model.score(validation, corpus.validation.labels)), c, model))
    accuracy, c, model = max(tried)
    return {"validation_accuracy": accuracy, "test_accuracy": float(model.score(test, corpus.test.labels))}


def run_eqspike(place: str, backend: str = "dense") -> dict[str, Any]:
    """``eqspike run imdb`` in this process."""
    from eqspike.cli import main

    out = Path(place) / backend
    sys.argv = ["eqspike", "run", "imdb", "--backend", backend, "--no-baseline", "--out", str(out)]
    main()
    result = read_json(out / "result.json")
    return {name: result[name] for name in ("validation_accuracy", "test_accuracy", "train_seconds", "test_seconds")}


WHOLE: dict[str, tuple[Any, ...]] = {
    "dense": (run_eqspike, "dense"),
    "tfidf": (run_tfidf,),
    "bptt": (run_bptt,),
    "sigma-delta": (run_eqspike, "spiking"),
    "lstm": (run_lstm,),
}


def measured(way: Callable[..., dict[str, Any]], place: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    """What ``way`` returns and the peak memory; to be called in a fresh process."""
    os.environ["EQSPIKE_CACHE"] = place
    torch.set_num_threads(1)
    return {**way(place, *arguments), "peak_bytes": resident()}


def whole(name: str) -> dict[str, Any]:
    """Seconds and processor seconds of a process that does it all, with what it reports."""
    way, arguments = WHOLE[name][0], WHOLE[name][1:]
    with tempfile.TemporaryDirectory() as place:
        before, started = os.times(), time.perf_counter()
        found = in_fresh_process(measured, way, place, arguments)
        seconds, after = time.perf_counter() - started, os.times()
    processor = after.children_user - before.children_user + after.children_system - before.children_system
    return {"seconds": seconds, "processor_seconds": processor, **found}


@torch.no_grad()
def batches(count: int) -> dict[str, Any]:
    """Processor seconds of the first batches of each way, in turn."""
    torch.set_num_threads(1)
    keep_freed_memory()
    config, spikes = (configure("imdb", backend, precision="float32") for backend in ("dense", "spiking"))
    data = load_dataset(config.data)
    steps = {
        "dense": Trainer(config, data, make_backend(config)).train_batch,
        "sigma-delta": Trainer(spikes, data, make_backend(spikes)).train_batch,
        "bptt": uncounted(plain(config, data).train_batch),
        "bptt, padded": uncounted(plain(config, data, padded=True).train_batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(count):
        for name, step in steps.items():
            started = time.process_time()
            step()
            seconds[name].append(time.process_time() - started)
    total = {name: sum(each[WARM:]) for name, each in seconds.items()}
    return {
        "batches": count - WARM,
        "seconds_a_batch": {name: value / (count - WARM) for name, value in total.items()},
        "dense_to_bptt": total["dense"] / total["bptt"],
        "dense_to_padded_bptt": total["dense"] / total["bptt, padded"],
        "sigma_delta_to_dense": total["sigma-delta"] / total["dense"],
    }


class Parts:
    """Processor seconds inside wrapped functions, less those of wrapped functions that they call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.stack, self.since = [REST], time.process_time()

    def _spend(self) -> None:
        now = time.process_time()
        self.seconds[self.stack[-1]] = self.seconds.get(self.stack[-1], 0.0) + now - self.since
        self.since = now

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, its time that of the part ``name``."""

        def timed(*arguments: Any, **named: Any) -> Any:
            self._spend()
            self.stack.append(name)
            try:
                return function(*arguments, **named)
            finally:
                self._spend()
                self.stack.pop()

        return timed


@torch.no_grad()
def parts(count: int) -> dict[str, float]:
    """Processor seconds of the parts of a dense batch; and of reading all texts, once."""
    torch.set_num_threads(1)
    keep_freed_memory()
    config, clock = configure("imdb", "dense", precision="float32"), Parts()
    began = time.process_time()
    corpus = load_splits(config.data)
    read = {"reading the file, cutting splits": time.process_time() - began}
    began = time.process_time()
    assert isinstance(config.data, Texts)
    sight = config.data.sight
    sight.read(corpus, config.data.tokeniser, config.data.embeddings, None)
    read["words and n-grams, their numbers and vectors"] = time.process_time() - began
    del corpus
    made = Trainer(config, load_dataset(config.data), make_backend(config))
    for _ in range(WARM):
        made.train_batch()
    with ExitStack() as patched:
        for where, name, part in PARTS:
            patched.enter_context(patch.object(where, name, clock.around(part, getattr(where, name))))
        made.optimizer.step = clock.around("Adam, of the weights", made.optimizer.step)  # type: ignore[method-assign]
        clock.since, clock.seconds = time.process_time(), {}
        for _ in range(count):
            made.train_batch()
        clock._spend()
    return read | {name: seconds / count for name, seconds in clock.seconds.items()}


def main(json_file: JsonFile, count: int = 355, only: tuple[str, ...] = tuple(WHOLE)) -> None:
    """Measure all three.

    Args:
        json_file: Where the figures go.
        count: Batches of each way in turn, of which the first five warm up.
        only: Which ways to do from raw text.
    """
    found: dict[str, Any] = {"format": FORMAT, "command": command(), "environment": environment(), "sweeps": SWEEPS}
    found |= {"load_before": os.getloadavg()[0], "lstm_epochs": LSTM_EPOCHS, "whole": {}}
    found["batches"] = in_fresh_process(batches, count)
    found["parts"] = in_fresh_process(parts, min(count, 100))
    print(found["batches"], found["parts"], flush=True)
    write_json(json_file, found)
    for name in only:
        found["whole"][name] = whole(name)
        print(name, found["whole"][name], flush=True)
        write_json(json_file, found)


if __name__ == "__main__":
    tyro.cli(main)
