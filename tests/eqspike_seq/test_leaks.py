"""Texts on two sides of a cut that are nearly the same are counted: planted ones are found, others are not."""

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from eqspike.build import configure
from eqspike_seq.data import leaks
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.data.encoding import Encoded
from tests.conftest import command

WORDS = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "nrstpx"]


def encoded(texts: list[list[int]], inputs: int = 1) -> Encoded:
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    ids = np.array([word for text in texts for word in text], dtype=np.int32)
    return Encoded.of(ids, lengths, np.zeros(len(texts) // inputs, dtype=np.int64), inputs)


def shingles(text: list[int]) -> set[tuple[int, ...]]:
    return {(word,) for word in text} | {*pairwise([*text, 0])}


@pytest.mark.parametrize("inputs", [1, 2])
def test_near_texts_are_those_of_a_jaccard_similarity_from_0_8(inputs: int) -> None:
    """Against all pairs compared by sets; of similarities just above the bound few may be missed, none invented."""
    rng = np.random.default_rng(0)
    training = [rng.integers(1, 200, rng.integers(1, 60)).tolist() for _ in range(120 * inputs)]
    asked = []
    for text in training:
        rate = rng.choice([0.0, 0.03, 0.1, 0.5])
        changed = [w if rng.random() >= rate else int(rng.integers(1, 200)) for w in text]
        asked.append(changed if rng.random() < 0.9 else [])

    def whole(texts: list[list[int]], row: int) -> set[tuple[int, ...]]:
        sides = range(inputs)
        return {
            (side, *shingle) for side in sides for shingle in shingles(texts[row * inputs + side]) if shingle != (0,)
        }

    rows = range(len(training) // inputs)
    exact = 0
    for row in rows:
        mine = whole(asked, row) if any(asked[row * inputs : (row + 1) * inputs]) else set()
        best = max(len(mine & whole(training, other)) / len(mine | whole(training, other)) for other in rows)
        exact += best >= leaks.NEAR
    found = leaks.near_training(
        {
            "train": encoded(training, inputs),
            "validation": encoded(asked, inputs),
            "test": encoded([[]] * inputs, inputs),
        },
        200,
    )
    assert 20 < exact < 110 and exact - 3 <= found["validation"] <= exact and found["test"] == 0


def texts(number: int, rng: np.random.Generator) -> list[list[str]]:
    return [[str(word) for word in rng.choice(WORDS, 24)] for _ in range(number)]


@pytest.mark.parametrize("network", ["pooling", "tokens"])
def test_planted_near_duplicates_are_counted_and_told_of(
    tmp_path: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    training, test, valid = texts(60, rng), texts(20, rng), texts(10, rng)
    for place in range(7):  # one word of 24 is another
        test[place] = [*training[place]]
        test[place][10] = "another"
    valid[0] = [*training[50], "more"]
    for name, part in (("train", training), ("test", test), ("valid", valid)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([" ".join(words), "ab"[row % 2]] for row, words in enumerate(part))
    counts = load_dataset(configure(str(tmp_path), "dense", network=network).data).counts
    assert (counts["test_texts_near_training"], counts["validation_texts_near_training"]) == (7, 1)
    if network == "pooling":
        out = tmp_path / "run"
        command("run", tmp_path, "--epochs", 1, "--out", out)
        said = " ".join(capsys.readouterr().err.split())
        assert "warning: 1 validation texts (10.0%) and 7 test texts (35.0%) nearly repeat a training text" in said
        assert json.loads((out / "environment.json").read_text())["counts"]["test_texts_near_training"] == 7
