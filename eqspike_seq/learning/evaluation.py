"""A trained network on a split: accuracy, decisions over time, events."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eqspike_seq.config.presets import preset_settings
from eqspike_seq.config.section import made
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.encoding import Encoded
from eqspike_seq.errors import DivergenceError
from eqspike_seq.learning.cost import training_ledger
from eqspike_seq.learning.estimators import make_estimator
from eqspike_seq.learning.precision import product_dtype
from eqspike_seq.ledger import Ledger
from eqspike_seq.meter import Meter
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.relaxation.buckets import free_by_bucket, free_by_length, most_texts, spans, trimmed
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.equilibrium import Backend
from eqspike_seq.runs.schema import Curves, DenseLedgers

REFERENCE = 512  # texts


@dataclass(frozen=True)
class Evaluation:
    """Free phases of every text of a split, rows in the split's order.

    ``predicted``, ``stable`` (steps until the decision no longer changed), ``steps`` are (n,); ``rates`` (n, C);
    ``right`` and ``events`` (R, n) belong to R readings, ``reading_steps`` apart.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    rates: NDArray[np.float32]
    stable: NDArray[np.int64]
    steps: NDArray[np.int64]
    converged: float
    right: NDArray[np.bool_]
    events: NDArray[np.float64]
    reading_steps: int
    ledger: Ledger
    seconds: float
    joules: float | None

    @property
    def accuracy(self) -> float:
        """Share of texts whose label is predicted."""
        return float((self.predicted == self.labels).mean())

    @property
    def error(self) -> float:
        """½‖y − sⁿ‖², mean over the texts."""
        target = np.eye(self.rates.shape[1], dtype=np.float32)[self.labels]
        return float(0.5 * np.square(target - self.rates).sum(1).mean())

    def mistakes(self, most: int) -> NDArray[np.int64]:
        """Rows of at most so many wrong answers, those first whose rate is furthest above that of the right answer."""
        rows = np.flatnonzero(self.predicted != self.labels)
        ahead = self.rates[rows, self.predicted[rows]] - self.rates[rows, self.labels[rows]]
        return rows[np.argsort(-ahead, kind="stable")[:most]]

    def curves(self) -> Curves:
        """Accuracy and mean events a text against free-phase steps."""
        return Curves(
            steps=[self.reading_steps * (i + 1) for i in range(len(self.right))],
            accuracy=self.right.mean(1).tolist(),
            events_per_text=self.events.mean(1).tolist(),
        )


@torch.no_grad()
def evaluate(
    backend: Backend,
    network: Network,
    gather: Batches,
    part: Encoded,
    batch: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Relax every text of ``part`` and read the output; ``advance`` gets the number of texts that were done.

    Raises DivergenceError where an output is not finite.
    """
    started, meter = time.perf_counter(), Meter.begin(gather.table.device.type)
    network = replace(network, large=network.w2(backend.dtype))
    lengths, device = part.lengths(), gather.table.device
    order, most = np.argsort(-lengths, kind="stable"), min(batch, most_texts(backend, network.shape, device.type))

    def pieces() -> Iterator[tuple[Tensor, Network, Batch]]:
        for span in spans(network.shape, torch.from_numpy(lengths[order]), most, device.type):
            rows = order[span]
            yield torch.from_numpy(rows).to(device), *trimmed(network, gather.lookup(part, rows))
            advance(len(rows))

    found = free_by_bucket(backend, network, pieces())
    if not bool(found.outputs.isfinite().all()):
        raise DivergenceError(
            "training diverged: outputs of the network are not finite. Lower --learning-rate, or raise --beta."
        )
    reading_steps, steps = found.reading_steps, found.steps.cpu().numpy()
    decisions = found.outputs.argmax(2).cpu().numpy()
    return Evaluation(
        labels=part.labels,
        predicted=decisions[-1].astype(np.int64),
        rates=found.outputs[-1].float().cpu().numpy(),
        stable=stable_after(decisions, reading_steps, steps),
        steps=steps,
        converged=float(found.converged.double().mean()),
        right=decisions == part.labels,
        events=found.events.double().cpu().numpy(),
        reading_steps=reading_steps,
        ledger=found.ledger,
        seconds=time.perf_counter() - started,
        joules=meter.read(),
    )


def stable_after(decisions: NDArray[np.int64], reading_steps: int, steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Steps until the decision no longer changed, (n,), of ``decisions`` (R, n) read every ``reading_steps`` of
    ``steps`` (n,)."""
    stable = len(decisions) - (decisions[::-1] == decisions[-1]).cumprod(0).sum(0) + 1
    return np.minimum(stable * reading_steps, steps)


def as_dense(config: RunConfig) -> DenseBackend:
    """The dense backend, which relaxes as the run's preset says."""
    preset = preset_settings(config.data.dataset, "dense", config.run.preset, {})
    return replace(made(DenseBackend, preset, {}), dtype=product_dtype(config))


@torch.no_grad()
def dense_reference(config: RunConfig, network: Network, gather: Batches, part: Encoded) -> DenseLedgers:
    """What the dense backend, at its preset's settings, takes for this network, over training texts, ``part``.

    With whole texts for inference, and with words left out as in training for a training sample.
    """
    backend, learning = as_dense(config), config.learning
    rows = np.sort(np.random.default_rng(0).permutation(len(part))[:REFERENCE])
    inference, training, rng = Ledger(), Ledger(), np.random.default_rng(config.run.seed)
    for chunk in np.array_split(rows, math.ceil(len(rows) / learning.batch)):
        inference += free_by_length(backend, network, gather.lookup(part, chunk)).ledger
        batch = gather.lookup(part, chunk, learning.word_dropout, rng)
        phases = (found.ledger for found in make_estimator(learning)(backend, network, batch).equilibria)
        training += training_ledger(network.shape, batch.mask, phases, learning.optimizer)
    return DenseLedgers(training_texts=len(rows), inference=inference, training=training)


def prediction_columns(evaluation: Evaluation, texts: list[str], classes: tuple[str, ...]) -> dict[str, Any]:
    """The columns of ``predictions.parquet``."""
    hashes = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() for text in texts]
    rates = {f"rate_{name}": evaluation.rates[:, i] for i, name in enumerate(classes)}
    return {
        "row": np.arange(len(texts)),
        "text_sha256": hashes,
        "label": evaluation.labels,
        "predicted": evaluation.predicted,
        **rates,
        "stable_steps": evaluation.stable,
    }
