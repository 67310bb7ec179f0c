"""What backpropagation and plain statistics reach on the same texts, vectors and split.

    python -m benchmarks.baselines imdb --json results/imdb-baselines.json

An LSTM trained by backpropagation (its epoch chosen on validation), logistic regression on mean embeddings, and
logistic regression on bags of words; each reads the test split once, at the end.
"""

import json
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from eqspike_seq.config import from_preset
from eqspike_seq.data.dataset import Dataset, Encoded, load_dataset
from eqspike_seq.progress import Reporter
from eqspike_seq.runs import environment

HIDDEN, RATE = 128, 1e-3


class Classifier(torch.nn.Module):
    """An LSTM over the tokens of a text, its last state into a linear layer."""

    def __init__(self, table: Tensor, classes: int) -> None:
        super().__init__()
        self.table = table
        self.lstm = torch.nn.LSTM(table.shape[1], HIDDEN, batch_first=True)
        self.read = torch.nn.Linear(HIDDEN, classes)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, N) ids → (B, classes) logits; padding is skipped."""
        lengths = (ids > 0).sum(1).clamp(min=1).cpu()
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            self.table[ids], lengths, batch_first=True, enforce_sorted=False
        )
        _, (state, _) = self.lstm(packed)
        return self.read(state[-1])


def lstm(data: Dataset, epochs: int, batch: int, seed: int, reporter: Reporter) -> dict[str, Any]:
    """Train by backpropagation with Adam; the weights of the epoch with the best validation accuracy are tested."""
    torch.manual_seed(seed)
    model = Classifier(torch.from_numpy(data.embeddings.table), len(data.corpus.classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    rng, started, best, kept, chosen = np.random.default_rng(seed), time.perf_counter(), 0.0, {}, 0
    for epoch in range(1, epochs + 1):
        model.train()
        order = rng.permutation(len(data.train))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            ids, labels = torch.from_numpy(data.train.ids[rows]).long(), torch.from_numpy(data.train.labels[rows])
            loss = torch.nn.functional.cross_entropy(model(ids), labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        accuracy = _accuracy(model, data.validation)
        reporter.status(f"lstm epoch {epoch}: validation {accuracy:.4f}")
        if accuracy > best:
            best, chosen = accuracy, epoch
            kept = {name: value.clone() for name, value in model.state_dict().items()}
    seconds = time.perf_counter() - started
    model.load_state_dict(kept)
    return {
        "validation_accuracy": best,
        "test_accuracy": _accuracy(model, data.test),
        "epochs": epochs,
        "chosen_epoch": chosen,
        "hidden": HIDDEN,
        "learning_rate": RATE,
        "train_seconds": seconds,
    }


@torch.no_grad()
def _accuracy(model: Classifier, part: Encoded) -> float:
    model.eval()
    right = 0
    for start in range(0, len(part), 500):
        ids = torch.from_numpy(part.ids[start : start + 500]).long()
        right += int((model(ids).argmax(1).numpy() == part.labels[start : start + 500]).sum())
    return right / len(part)


def logistic(features: list[Any], data: Dataset) -> dict[str, Any]:
    """Logistic regression, its C chosen on validation."""
    train, validation, test = features
    started, fitted = time.perf_counter(), []
    for c in (0.01, 0.1, 1.0, 10.0):
        model = LogisticRegression(C=c, max_iter=2000).fit(train, data.train.labels)
        fitted.append((model.score(validation, data.validation.labels), c, model))
    accuracy, c, model = max(fitted, key=lambda entry: entry[0])
    return {
        "validation_accuracy": accuracy,
        "test_accuracy": model.score(test, data.test.labels),
        "c": c,
        "train_seconds": time.perf_counter() - started,
    }


def mean_vectors(part: Encoded, table: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean vector of each text's tokens, (n, D)."""
    counts = np.maximum((part.ids > 0).sum(1, keepdims=True), 1)
    pieces = [table[part.ids[i : i + 1000]].sum(1) for i in range(0, len(part), 1000)]
    return (np.concatenate(pieces) / counts).astype(np.float32)


def bags(part: Encoded, words: int) -> csr_matrix:
    """How often each word occurs in each text, (n, V)."""
    rows, columns = np.nonzero(part.ids)
    return csr_matrix((np.ones(len(rows)), (rows, part.ids[rows, columns])), shape=(len(part), words))


def main(
    dataset: tyro.conf.Positional[Literal["imdb", "mini"]],
    json_file: Path,
    epochs: int = 6,
    seed: int = 0,
    data_dir: Path | None = None,
) -> None:
    """Measure the baselines on a data set.

    Args:
        dataset: imdb or mini.
        json_file: Where the figures go.
        epochs: Passes of the LSTM.
        seed: Seed of the LSTM.
        data_dir: Where the data lies.
    """
    reporter = Reporter()
    config = from_preset(dataset, "dense", data_dir=data_dir)
    data = load_dataset(config, reporter.status)
    parts = (data.train, data.validation, data.test)
    table = data.embeddings.table
    found: dict[str, Any] = {
        "format": 1,
        "dataset": dataset,
        "seed": seed,
        "preset": config.preset,
        "environment": environment(),
        "n_test": len(data.test),
        "logistic_bag_of_words": logistic([bags(part, len(table)) for part in parts], data),
        "logistic_mean_vectors": logistic([mean_vectors(part, table) for part in parts], data),
        "lstm": lstm(data, epochs, config.batch, seed, reporter),
    }
    json_file.write_text(json.dumps(found, indent=2) + "\n")
    for name in ("logistic_bag_of_words", "logistic_mean_vectors", "lstm"):
        reporter.out.print(
            f"{name}: validation {found[name]['validation_accuracy']:.4f}, test {found[name]['test_accuracy']:.4f}"
        )


if __name__ == "__main__":
    tyro.cli(main)
