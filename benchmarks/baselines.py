"""What backpropagation and plain statistics reach on the same texts and split.

    python -m benchmarks.baselines imdb --json results/imdb-baselines.json

    tfidf_logistic   ``eqspike_seq.learning.baseline``: logistic regression on TF-IDF of words and word pairs
    nb_logistic      NB-LR: presence of words and word pairs, times each one's naive-Bayes log-count ratio
    logistic_mean_vectors   logistic regression on the mean of a text's word vectors
    lstm             an LSTM by backpropagation
    decomposable_attention  of pairs alone, the decomposable attention model by backpropagation

All train on the texts that EP trains on, and the first two are also refitted on those and the validation texts
together, settings fixed. Both networks learn their word vectors too, from those of the run; their epoch is chosen on
validation. Each model reads the test split once, at the end. Of pairs of texts the LSTM reads each by itself, and what
follows sees [a, b, |a − b|, a∘b] of the two states, or of the two mean vectors; decomposable attention sees the tokens
that ``eqspike run`` sees, with settings chosen on SNLI's development split.
Source of NB-LR: Wang & Manning (2012), whose r = log(p/‖p‖₁) − log(q/‖q‖₁), p and q the counts of texts of the class
and of others that hold an n-gram, plus 1; here one against the rest, with logistic regression in place of an SVM.
Source of decomposable attention: Parikh, Täckström, Das & Uszkoreit (2016), without attention inside a text.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.measure import JsonFile
from eqspike.build import configure
from eqspike_seq.config.examples import Texts
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.corpus import Corpus, Split
from eqspike_seq.data.dataset import load_dataset, load_splits
from eqspike_seq.data.tokens import TokeniserName
from eqspike_seq.files import write_json
from eqspike_seq.learning.baseline import counts, features, logistic, tfidf_logistic
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from eqspike_seq.runs.schema import Baseline

HIDDEN, RATE = 128, 1e-3  # of the LSTM
WIDTH, DROPOUT = 200, 0.2  # of decomposable attention
STRENGTHS = (0.1, 0.3, 1.0, 3.0)  # C, of those tried
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
        self.table = torch.nn.Parameter(table.clone())
        self.lstm = torch.nn.LSTM(table.shape[1], HIDDEN, batch_first=True)
        self.read = torch.nn.Linear(inputs**2 * HIDDEN, classes)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, inputs, N) ids → (B, classes) logits; padding goes first, so that the last state has read the end."""
        each = ids.flatten(0, 1)
        places = (torch.arange(each.shape[1]) - (each == 0).sum(1, keepdim=True)) % each.shape[1]
        _, (state, _) = self.lstm(self.table[each.gather(1, places)])
        return self.read(combined(state[-1].view(*ids.shape[:2], -1)))


class DecomposableAttention(torch.nn.Module):
    """Attend, compare, aggregate: F, G and H of two ReLU layers each, with dropout before each.

        e_ij = F(a_i)ᵀ F(b_j),   β_i = Σ_j softmax_j(e_ij) b_j,   α_j = Σ_i softmax_i(e_ij) a_i
        logits = W H([Σ_i G([a_i, β_i]), Σ_j G([b_j, α_j])])

    A NULL token, whose vector is row 0 of ``table``, stands before each text, so that a word can find nothing.
    """

    def __init__(self, table: Tensor, classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.table, dim = torch.nn.Parameter(table.clone()), table.shape[1]

        def two_layers(width: int) -> torch.nn.Sequential:
            first, second = torch.nn.Linear(width, hidden), torch.nn.Linear(hidden, hidden)
            drop, relu = torch.nn.Dropout(dropout), torch.nn.ReLU()
            return torch.nn.Sequential(drop, first, relu, drop, second, relu)

        self.attend, self.compare, self.aggregate = (two_layers(width) for width in (dim, 2 * dim, 2 * hidden))
        self.read = torch.nn.Linear(hidden, classes)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, 2, N) ids, 0 after a text's end → (B, classes) logits."""
        cut = [side[:, : int((side > 0).sum(1).max())] for side in ids.unbind(1)]
        sides = [pad(side, (1, 0)) for side in cut]
        here = [pad(side > 0, (1, 0), value=True) for side in cut]
        a, b = (self.table[side] for side in sides)
        asked = [of_tokens(self.attend, text, there) for text, there in zip((a, b), here, strict=True)]
        scores = asked[0] @ asked[1].mT
        found = (
            scores.masked_fill(~here[1][:, None, :], -torch.inf).softmax(2) @ b,
            scores.masked_fill(~here[0][:, :, None], -torch.inf).softmax(1).mT @ a,
        )
        compared = [
            of_tokens(self.compare, torch.cat([own, other], 2), there).sum(1)
            for own, other, there in zip((a, b), found, here, strict=True)
        ]
        return self.read(self.aggregate(torch.cat(compared, 1)))


def of_tokens(layers: torch.nn.Module, x: Tensor, here: Tensor) -> Tensor:
    """``layers`` of x (B, N, K) where a token is ``here`` (B, N), 0 elsewhere: padding costs nothing."""
    found = layers(x[here])
    return found.new_zeros(*here.shape, found.shape[1]).masked_scatter(here[:, :, None], found)


@dataclass(frozen=True)
class Passes:
    """How a network is trained: passes over the texts, texts a step, step size of Adam, seed of their order."""

    epochs: int
    batch: int
    rate: float
    seed: int


def trained(model: torch.nn.Module, parts: list[Part], how: Passes, reporter: Reporter) -> dict[str, Any]:
    """Train all of ``model``, a map of ids to logits, its ``table`` of word vectors included, by backpropagation of the
    cross-entropy with Adam; the weights of the epoch with the best validation accuracy are tested."""
    (ids, labels), validation, test = parts
    optimizer = torch.optim.Adam(model.parameters(), lr=how.rate)
    rng, started, best, kept, chosen = np.random.default_rng(how.seed), time.perf_counter(), 0.0, {}, 0
    for epoch in range(1, how.epochs + 1):
        model.train()
        order = rng.permutation(len(ids))
        for start in range(0, len(order), how.batch):
            rows = order[start : start + how.batch]
            logits = model(torch.from_numpy(ids[rows]).long())
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows])).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        accuracy = accuracy_of(model, validation)
        reporter.status(f"{type(model).__name__} epoch {epoch}: validation {accuracy:.4f}")
        if accuracy > best:
            best, chosen = accuracy, epoch
            kept = {name: value.clone() for name, value in model.state_dict().items()}
    seconds = time.perf_counter() - started
    model.load_state_dict(kept)
    return {
        "validation_accuracy": best,
        "test_accuracy": accuracy_of(model, test),
        "epochs": how.epochs,
        "chosen_epoch": chosen,
        "batch": how.batch,
        "learning_rate": how.rate,
        "word_vectors": "learnt",
        "train_seconds": seconds,
    }


def lstm(parts: list[Part], table: Tensor, how: Passes, reporter: Reporter) -> dict[str, Any]:
    """The LSTM, ``HIDDEN`` units."""
    torch.manual_seed(how.seed)
    (ids, labels), *_ = parts
    model = Classifier(table, ids.shape[1], int(labels.max()) + 1)
    return {"hidden": HIDDEN, **trained(model, parts, how, reporter)}


def decomposable_attention(parts: list[Part], table: Tensor, seed: int, reporter: Reporter) -> dict[str, Any]:
    """The decomposable attention model, with the settings chosen on the development split of SNLI."""
    torch.manual_seed(seed)
    (ids, labels), *_ = parts
    model, how = DecomposableAttention(table, int(labels.max()) + 1, WIDTH, DROPOUT), Passes(12, 64, 5e-4, seed)
    about = {"hidden": WIDTH, "dropout": DROPOUT, "tokens": ids.shape[2]}
    return {**about, **trained(model, parts, how, reporter)}


@torch.no_grad()
def accuracy_of(model: torch.nn.Module, part: Part) -> float:
    """Share of the texts whose label has the largest logit."""
    model.eval()
    ids, labels = part
    right = 0
    for start in range(0, len(ids), 500):
        found = model(torch.from_numpy(ids[start : start + 500]).long()).argmax(1).numpy()
        right += int((found == labels[start : start + 500]).sum())
    return right / len(ids)


class Ratios:
    """NB-LR: logistic regression on features times their log-count ratios, one class against the rest."""

    def __init__(self, c: float) -> None:
        self.c, self.ratios, self.models = c, list[Any](), list[LogisticRegression]()

    def fit(self, features: csr_matrix, labels: NDArray[np.int64]) -> "Ratios":
        """``features`` (n, columns) 0 or 1."""
        for label in range(int(labels.max()) + 1):
            mine = labels == label
            p, q = (np.asarray(1 + features[rows].sum(0)).ravel() for rows in (mine, ~mine))
            self.ratios.append(diags(np.log(p / p.sum()) - np.log(q / q.sum())))
            model = LogisticRegression(C=self.c, solver="liblinear", dual=True, max_iter=1000, random_state=0)
            self.models.append(model.fit(features @ self.ratios[-1], mine))
        return self

    def score(self, features: csr_matrix, labels: NDArray[np.int64]) -> float:
        """Share of the texts whose class has the largest score."""
        scored = [m.decision_function(features @ r) for r, m in zip(self.ratios, self.models, strict=True)]
        return float((np.argmax(scored, 0) == labels).mean())


def joined(one: Split, other: Split) -> Split:
    """The texts of both."""
    return Split(one.texts + other.texts, np.concatenate([one.labels, other.labels]))


def tfidf(corpus: Corpus, tokeniser: TokeniserName) -> dict[str, Any]:
    """The baseline of every run, and refitted."""
    found, both = tfidf_logistic(corpus, tokeniser), joined(corpus.train, corpus.validation or corpus.test)
    train, test = features({"train": both, "test": corpus.test}, tokeniser, corpus.inputs)
    again = logistic([train, test, test], labels_of(both, corpus), 0.0, [found.c])
    return written(found, again.test_accuracy)


def naive_bayes(corpus: Corpus, tokeniser: TokeniserName) -> dict[str, Any]:
    """NB-LR, its C chosen on validation, and refitted."""
    validation, both = corpus.validation or corpus.test, joined(corpus.train, corpus.validation or corpus.test)
    started = time.perf_counter()

    def present(**parts: Split) -> list[csr_matrix]:
        return [part.sign() for part in counts(parts, tokeniser, corpus.inputs).values()]

    train, held, test = present(train=corpus.train, validation=validation, test=corpus.test)
    models = {c: Ratios(c).fit(train, corpus.train.labels) for c in STRENGTHS}
    accuracies = {c: model.score(held, validation.labels) for c, model in models.items()}
    c = max(accuracies, key=lambda strength: accuracies[strength])
    tested = models[c].score(test, corpus.test.labels)
    seconds = time.perf_counter() - started
    train, test = present(train=both, test=corpus.test)
    refitted = Ratios(c).fit(train, both.labels).score(test, corpus.test.labels)
    found = Baseline(validation_accuracy=accuracies[c], test_accuracy=tested, c=c, seconds=seconds)
    return written(found, refitted)


def labels_of(both: Split, corpus: Corpus) -> list[NDArray[np.int64]]:
    """Of what is fitted, and twice those of the test split: with one C there is nothing to choose."""
    return [both.labels, corpus.test.labels, corpus.test.labels]


def written(found: Baseline, refitted: float) -> dict[str, Any]:
    """As the file has it."""
    about = {"test_accuracy_refitted": refitted, "train_seconds": found.seconds}
    return {**found.model_dump(exclude={"seconds"}), **about}


def mean_vectors(part: Part, table: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean vector of each text's tokens, (n, D); of pairs ``combined``."""
    ids, _ = part
    counts = np.maximum((ids > 0).sum(2, keepdims=True), 1)
    pieces = [table[ids[i : i + 1000]].sum(2) for i in range(0, len(ids), 1000)]
    return combined((np.concatenate(pieces) / counts).astype(np.float32))


def means(parts: list[Part], table: NDArray[np.float32]) -> dict[str, Any]:
    """Logistic regression on mean vectors, its C chosen on validation."""
    started, means = time.perf_counter(), [mean_vectors(part, table) for part in parts]
    found = logistic(means, [labels for _, labels in parts], started, STRENGTHS)
    return {**found.model_dump(exclude={"seconds"}), "train_seconds": found.seconds}


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
        seed: Seed of the networks.
        data_dir: Where the data lies.
    """
    reporter = Reporter()
    config = configure(dataset, "dense", network="tokens", data_dir=data_dir)
    data = load_dataset(config.data, reporter.status)
    table, corpus = data.embeddings.table, load_splits(config.data)
    assert isinstance(config.data, Texts)
    splits = (data.train, data.validation, data.test)

    def read(gather: Batches) -> list[Part]:
        return [(gather.ids(part, np.arange(len(part))), part.labels) for part in splits]

    gather = Batches.of(config, data)
    parts, how = read(gather), Passes(epochs, config.learning.batch, RATE, seed)
    models: dict[str, dict[str, Any]] = {
        "tfidf_logistic": tfidf(corpus, config.data.tokeniser),
        "nb_logistic": naive_bayes(corpus, config.data.tokeniser),
        "logistic_mean_vectors": means(parts, table),
        "lstm": lstm(parts, gather.table, how, reporter),
    }
    if corpus.inputs == 2:
        whole = Batches.of(configure(dataset, "dense", data_dir=data_dir), data)
        models["decomposable_attention"] = decomposable_attention(read(whole), whole.table, seed, reporter)
    about = {
        "format": FORMAT,
        "dataset": dataset,
        "seed": seed,
        "preset": config.run.preset,
        "environment": environment(),
        "n_test": len(data.test),
    }
    write_json(json_file, {**about, **models})
    for name, scores in models.items():
        reporter.out.print(
            f"{name}: validation {scores['validation_accuracy']:.4f}, test {scores['test_accuracy']:.4f}"
        )


if __name__ == "__main__":
    tyro.cli(main)
