"""A trained network on a split: accuracy, decisions over time, events, and 16 texts in full detail."""

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
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.encoding import Encoded
from eqspike_seq.errors import DivergenceError
from eqspike_seq.learning.estimators import make_estimator
from eqspike_seq.learning.precision import product_dtype
from eqspike_seq.ledger import Ledger, training_ledger
from eqspike_seq.meter import Meter
from eqspike_seq.model.attention import hopattn_and_weights
from eqspike_seq.model.network import Batch, Network
from eqspike_seq.model.projection import Layer
from eqspike_seq.phases import RELAXED
from eqspike_seq.relaxation.buckets import free_by_bucket, free_by_length, most_texts, trimmed
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.equilibrium import Backend, Equilibrium
from eqspike_seq.runs.schema import Curves, DenseLedgers

SAMPLES = 16
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
    order = np.argsort(-part.lengths(), kind="stable")
    most, device = min(batch, most_texts(backend, network.shape, gather.table.device.type)), gather.table.device

    def pieces() -> Iterator[tuple[Tensor, Network, Batch]]:
        for rows in np.array_split(order, math.ceil(len(order) / most)):
            yield torch.from_numpy(rows).to(device), *trimmed(network, gather(part, rows))
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
        inference += free_by_length(backend, network, gather(part, chunk)).ledger
        batch = gather(part, chunk, learning.word_dropout, rng)
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


@torch.no_grad()
def samples(
    backend: Backend, network: Network, gather: Batches, part: Encoded, words: list[str], beta: float
) -> dict[str, NDArray[Any]]:
    """What ``samples.npz`` holds: 16 fixed texts through all three phases, attention at the end of the free one.

    Raises DivergenceError where a number is not finite.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(part))[:SAMPLES])
    batch = gather(part, rows)
    free = backend.free(network, batch, record=True)
    plus, minus = backend.nudge(network, batch, free, (beta, -beta), record=True)
    arrays: dict[str, NDArray[Any]] = {
        "format": np.array(FORMAT),
        "rows": rows,
        "labels": part.labels[rows],
        "tokens": np.array([[words[i] for i in text] for text in gather.ids(part, rows).reshape(len(rows), -1)]),
        "mask": batch.mask.flatten(1).cpu().numpy(),
        "reading_steps": np.array(free.reading_steps),
    }
    if network.shape.attention:
        arrays["attention"] = attention_of(network, batch, free).cpu().numpy().astype(np.float16)
    for phase, found in zip(RELAXED, (free, plus, minus), strict=True):
        arrays[f"{phase}_outputs"] = found.outputs.cpu().numpy()
        for name, values in found.trace.items():
            arrays[f"{phase}_{name}"] = values.cpu().numpy()
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DivergenceError(f"training diverged: {name} of test texts is not finite. Lower --learning-rate.")
    return arrays


def attention_of(network: Network, batch: Batch, free: Equilibrium) -> Tensor:
    """softmax(q Kᵀ/√d) at an equilibrium, (B, N, N).

    Of pairs (B, 2N, 2N): both texts end to end as queries and as patterns; 0 where there is no such projection.
    """
    layer = Layer.of(network, batch, network.w1.dtype)
    _, shares = hopattn_and_weights(
        layer.full_query(free.rates.layers[0]), layer.inputs.patterns, layer.inputs.bias, layer.full
    )
    count, sides, tokens = batch.mask.shape
    whole = shares.new_zeros(count, sides, tokens, sides, tokens)
    for place, (query, key) in enumerate(network.shape.projections):
        whole[:, query, :, key] = shares[:, place]
    return whole.flatten(3).flatten(1, 2)
