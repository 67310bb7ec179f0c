"""Texts of one's own with the settings that eqspike chooses, beside logistic regression on TF-IDF of the same split.

    python -m benchmarks.own_data --json results/own-data.json

Each set is a CSV file that is made here and then given to ``eqspike run FILE``, with nothing set:

    imdb-500, imdb-2000, imdb-8000   that many film reviews, two classes
    imdb-stars         8,000 reviews by their stars, eight classes
    imdb-sentences     the first sentences of 8,000 reviews
    snli-hypotheses    8,000 hypotheses of SNLI without their premises, three classes
    generated-order    which of two words comes first; generated, as no real text is
    generated-topics   words of one of twelve topics among common ones; generated

All are drawn from training splits by --draw, of which settings were tuned on others. Seeds are those of the weights.
"""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import tyro

from benchmarks.measure import JsonFile
from eqspike.build import configure, run
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.files import write_json
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment

Rows = tuple[list[str], list[Any]]  # texts, labels
SENTENCE = re.compile(r".{15,}?[.!?](?=\s|$)", re.DOTALL)


def sets(data: Path, draw: int) -> Iterator[tuple[str, bool, Rows]]:
    """(name, whether it is real, texts and labels) of each set."""
    rng = np.random.default_rng(draw)
    reviews = pq.read_table(data / "imdb_train.parquet").to_pydict()
    pairs = pq.read_table(data / "snli_train_partial.parquet").to_pydict()
    order, others = rng.permutation(len(reviews["text"])), rng.permutation(len(pairs["label"]))

    def drawn(column: str, label: str, count: int) -> Rows:
        return [reviews[column][row] for row in order[:count]], [reviews[label][row] for row in order[:count]]

    for count in (500, 2000, 8000):
        yield f"imdb-{count}", True, drawn("text", "label", count)
    yield "imdb-stars", True, drawn("text", "rating", 8000)
    texts, labels = drawn("text", "label", 8000)
    yield "imdb-sentences", True, ([first_sentence(text) for text in texts], labels)
    some = others[:8000]
    yield "snli-hypotheses", True, ([pairs["hypothesis"][row] for row in some], [pairs["label"][row] for row in some])
    yield "generated-order", False, orders(rng, 3000)
    yield "generated-topics", False, topics(rng, 3000)


def first_sentence(text: str) -> str:
    """The first sentence of a review, of at most 400 characters."""
    plain = text.replace("<br />", " ")
    found = SENTENCE.match(plain)
    return (found[0] if found else plain)[:400]


def orders(rng: np.random.Generator, count: int) -> Rows:
    """The same words in both classes: in one a word follows the other, in the other it comes before."""
    labels = rng.integers(2, size=count)
    filler = [f"word{number}" for number in range(200)]

    def text(label: int) -> str:
        middle = "alpha beta" if label else "beta alpha"
        return " ".join([*rng.choice(filler, rng.integers(3, 12)), middle, *rng.choice(filler, rng.integers(3, 12))])

    return [text(label) for label in labels], labels.tolist()


def topics(rng: np.random.Generator, count: int) -> Rows:
    """Three words of one of twelve topics, of thirty each, among twenty common ones."""
    labels = rng.integers(12, size=count)
    common = [f"common{number}" for number in range(300)]

    def text(label: int) -> str:
        own = [f"topic{label}x{number}" for number in rng.integers(30, size=3)]
        return " ".join(rng.permutation([*own, *rng.choice(common, 20)]))

    return [text(label) for label in labels], [f"topic {label}" for label in labels]


def main(data_dir: Path, json_file: JsonFile, seeds: tuple[int, ...] = (0, 1, 2), draw: int = 0) -> None:
    """Run every set with each seed.

    Args:
        data_dir: A folder with imdb_train.parquet and snli_train_partial.parquet.
        json_file: Where the figures go.
        seeds: Seeds of the weights.
        draw: Which texts are drawn.
    """
    out, rows = Reporter().out, []
    with tempfile.TemporaryDirectory() as place:
        for name, real, (texts, labels) in sets(data_dir, draw):
            file = Path(place) / f"{name}.csv"
            csv.write_csv(pa.table({"text": texts, "label": labels}), file)
            results = [
                run(configure(str(file), "dense", seed=seed, out=Path(place) / f"{name}-{seed}"), Reporter(quiet=True))
                for seed in seeds
            ]
            row: dict[str, Any] = {"set": name, "real": real, "texts": len(texts), "classes": len(set(labels))}
            row["test_texts"] = results[0]["n_test"]
            row["test_accuracy"] = [result["test_accuracy"] for result in results]
            row["train_seconds"] = [result["train_seconds"] for result in results]
            row["baseline"] = results[0]["baseline"]
            row["points"] = 100 * (mean(row["test_accuracy"]) - row["baseline"]["test_accuracy"])
            rows.append(row)
            out.print(
                f"{name}: {mean(row['test_accuracy']):.2%}, baseline {row['baseline']['test_accuracy']:.2%} "
                f"({row['points']:+.2f} points), {mean(row['train_seconds']):.0f} s of training"
            )
    real_rows = [row for row in rows if row["real"]]
    found = {
        "format": FORMAT,
        "draw": draw,
        "seeds": list(seeds),
        "environment": environment(),
        "mean_points_of_real_sets": mean(row["points"] for row in real_rows),
        "rows": rows,
    }
    write_json(json_file, found)
    out.print(f"mean of the real sets: {found['mean_points_of_real_sets']:+.2f} points")


if __name__ == "__main__":
    tyro.cli(main)
