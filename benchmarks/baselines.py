"""What backpropagation and plain statistics reach on the same texts, vectors and split.

    python -m benchmarks.baselines imdb --json results/imdb-baselines.json

An LSTM trained by backpropagation (its epoch chosen on validation), logistic regression on mean embeddings, and
logistic regression on bags of words; each reads the test split once, at the end. Of pairs of texts the LSTM reads each
by itself, and what follows sees [a, b, |a − b|, a∘b] of the two states, or of the two mean embeddings.
"""

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

from benchmarks.measure import JsonFile
from eqspike.build import configure
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment

HIDDEN, RATE = 128, 1e-3
Part = tuple[NDArray[np.int32], NDArray[np.int64]]  # ids (n, inputs, N) as the networks see them, labels (n,)


def combined(vectors: Any) -> Any:
    """(n, inputs, D) tensor or array → (n, D), or of pairs [a, b, |a − b|, a∘b], (n, 4D)."""
    if vectors.shape[1] == 1:
        return vectors[:, 0]
    a, b = vectors[:, 0], vectors[:, 1]
    join = torch.cat if isinstance(vectors, Tensor) else np.concatenate
    return join([a, b, abs(a - b), a * b], 1)


class Classifier(torch.nn.Module):
    """An LSTM over the tokens of a text, its last state into a linear layer."""

    def __init__(self, table: Tensor, inputs: int, classes: int) -> None:
        super().__init__()
        self.table = table
        self.lstm = torch.nn.LSTM(table.shape[1], HIDDEN, batch_first=True)
        self.read = torch.nn.Linear(inputs**2 * HIDDEN, classes)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, inputs, N) ids → (B, classes) logits; padding goes first, so that the last state has read the end."""
        each = ids.flatten(0, 1)
        places = (torch.arange(each.shape[1]) - (each == 0).sum(1, keepdim=True)) % each.shape[1]
        _, (state, _) = self.lstm(self.table[each.gather(1, places)])
        return self.read(combined(state[-1].view(*ids.shape[:2], -1)))


def lstm(parts: list[Part], table: Tensor, epochs: int, batch: int, seed: int, reporter: Reporter) -> dict[str, Any]:
    """Train by backpropagation with Adam; the weights of the epoch with the best validation accuracy are tested."""
    torch.manual_seed(seed)
    (ids, labels), validation, test = parts
    model = Classifier(table, ids.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    rng, started, best, kept, chosen = np.random.default_rng(seed), time.perf_counter(), 0.0, {}, 0
    for epoch in range(1, epochs + 1):
        model.train()
        order = rng.permutation(len(ids))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            logits = model(torch.from_numpy(ids[rows]).long())
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows])).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        accuracy = accuracy_of(model, validation)
        reporter.status(f"lstm epoch {epoch}: validation {accuracy:.4f}")
        if accuracy > best:
            best, chosen = accuracy, epoch
            kept = {name: value.clone() for name, value in model.state_dict().items()}
    seconds = time.perf_counter() - started
    model.load_state_dict(kept)
    return {
        "validation_accuracy": best,
        "test_accuracy": accuracy_of(model, test),
        "epochs": epochs,
        "chosen_epoch": chosen,
        "hidden": HIDDEN,
        "learning_rate": RATE,
        "train_seconds": seconds,
    }


@torch.no_grad()
def accuracy_of(model: Classifier, part: Part) -> float:
    """Share of the texts whose label has the largest logit."""
    model.eval()
    ids, labels = part
    right = 0
    for start in range(0, len(ids), 500):
        found = model(torch.from_numpy(ids[start : start + 500]).long()).argmax(1).numpy()
        right += int((found == labels[start : start + 500]).sum())
    return right / len(ids)


def logistic(features: list[Any], parts: list[Part]) -> dict[str, Any]:
    """Logistic regression, its C chosen on validation."""
    (_, y), (_, y_validation), (_, y_test) = parts
    train, validation, test = features
    started, tried = time.perf_counter(), []
    solver = "liblinear" if len(np.unique(y)) == 2 else "lbfgs"
    for c in (0.01, 0.1, 1.0):
        model = LogisticRegression(C=c, solver=solver, max_iter=1000).fit(train, y)
        tried.append((model.score(validation, y_validation), c, model))
    accuracy, c, model = max(tried, key=lambda entry: entry[0])
    return {
        "validation_accuracy": accuracy,
        "test_accuracy": model.score(test, y_test),
        "c": c,
        "train_seconds": time.perf_counter() - started,
    }


def mean_vectors(part: Part, table: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean vector of each text's tokens, (n, D); of pairs ``combined``."""
    ids, _ = part
    counts = np.maximum((ids > 0).sum(2, keepdims=True), 1)
    pieces = [table[ids[i : i + 1000]].sum(2) for i in range(0, len(ids), 1000)]
    return combined((np.concatenate(pieces) / counts).astype(np.float32))


def bags(part: Part, words: int) -> csr_matrix:
    """How often each word occurs in each text, (n, V); of pairs in one and in the other, (n, 2V)."""
    ids, _ = part
    rows, sides, places = np.nonzero(ids)
    columns = ids[rows, sides, places] + words * sides
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(ids), ids.shape[1] * words))


def main(
    dataset: tyro.conf.Positional[Literal["imdb", "snli", "mini"]],
    json_file: JsonFile,
    epochs: int = 6,
    seed: int = 0,
    data_dir: Path | None = None,
) -> None:
    """Measure the baselines on a data set.

    Args:
        dataset: imdb, snli or mini.
        json_file: Where the figures go.
        epochs: Passes of the LSTM.
        seed: Seed of the LSTM.
        data_dir: Where the data lies.
    """
    reporter = Reporter()
    config = configure(dataset, "dense", data_dir=data_dir)
    data = load_dataset(config.data, reporter.status)
    table = data.embeddings.table
    gather = Batches.of(config, data)
    splits = (data.train, data.validation, data.test)
    parts: list[Part] = [(gather.ids(part, np.arange(len(part))), part.labels) for part in splits]
    found: dict[str, Any] = {
        "format": FORMAT,
        "dataset": dataset,
        "seed": seed,
        "preset": config.run.preset,
        "environment": environment(),
        "n_test": len(data.test),
        "logistic_bag_of_words": logistic([bags(part, len(table)) for part in parts], parts),
        "logistic_mean_vectors": logistic([mean_vectors(part, table) for part in parts], parts),
        "lstm": lstm(parts, gather.table, epochs, config.learning.batch, seed, reporter),
    }
    write_json(json_file, found)
    for name in ("logistic_bag_of_words", "logistic_mean_vectors", "lstm"):
        scores = found[name]
        reporter.out.print(
            f"{name}: validation {scores['validation_accuracy']:.4f}, test {scores['test_accuracy']:.4f}"
        )


if __name__ == "__main__":
    tyro.cli(main)
