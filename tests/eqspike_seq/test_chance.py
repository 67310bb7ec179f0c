"""A run that has learnt nothing says so, and why."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eqspike_seq.data.encoding import Encoded
from eqspike_seq.learning.chance import chance, interval
from eqspike_seq.runs.schema import Baseline
from tests.conftest import command


def written(path: Path, shuffled: bool) -> Path:
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(500):
            label = row % 2
            words = [f"w{rng.integers(200)}" for _ in range(12)] + ["good fine" if label else "bad poor"]
            writer.writerow([" ".join(words), rng.integers(2) if shuffled else label])
    return path


@pytest.mark.parametrize("shuffled", [False, True])
def test_with_shuffled_labels_validation_stays_at_chance_and_the_run_says_so(
    tmp_path: Path, shuffled: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command("run", written(tmp_path / "own.csv", shuffled), "--epochs", 5, "--patience", 5, "--out", out)
    said = " ".join(capsys.readouterr().out.split())
    found = json.loads((out / "result.json").read_text())
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert found["chance"]["epochs"] == sum("validation_accuracy" in line for line in lines)
    if shuffled:
        assert last["train_accuracy"] > 0.75 and found["validation_accuracy"] < 0.7
        assert "warning no sign of learning: validation accuracy" in said
        assert "Nor does logistic regression learn" in said and found["chance"]["note"].split(": ", 1)[1] in said
        command("report", out, "--out", tmp_path / "report.html")
        assert "<strong>no sign of learning:</strong> validation accuracy" in (tmp_path / "report.html").read_text()
    else:
        assert found["validation_accuracy"] > 0.95 and "no sign of learning" not in said
        assert found["chance"]["note"] is None


def dataset(validation: list[int], test: list[int]) -> SimpleNamespace:
    """With class 1 the largest in training."""
    parts = {"train": [1, 1, 1, 0], "validation": validation, "test": test}
    none = np.zeros(0, dtype=np.int32)
    made = {name: Encoded.of(none, np.zeros(len(of), dtype=np.int64), np.array(of)) for name, of in parts.items()}
    return SimpleNamespace(**made, classes=("no", "yes"), images=False)


def test_what_is_said_names_the_cause() -> None:
    balanced = dataset([0, 1] * 50, [0, 1] * 200)
    guessing = SimpleNamespace(accuracy=0.5, predicted=np.ones(400, dtype=int))
    simple = Baseline(validation_accuracy=0.9, test_accuracy=0.9, c=1.0, seconds=0.1)
    note = chance(balanced, 0.5, 1, guessing, simple).note  # type: ignore[arg-type]
    assert note is not None and "validation accuracy 50.00% of 100 texts" in note and "answering no" in note
    assert "Every test text gets the same answer, yes." in note and "so the texts do tell the classes apart" in note
    learnt = SimpleNamespace(accuracy=0.8, predicted=np.array([0, 1] * 200))
    assert chance(balanced, 0.8, 1, learnt, None).note is None  # type: ignore[arg-type]
    lucky = chance(balanced, 0.8, 1, guessing, None).note  # type: ignore[arg-type]
    assert lucky is not None and "test accuracy 50.00% of 400" in lucky
    skewed = dataset([1] * 95 + [0] * 5, [1] * 380 + [0] * 20)
    always = SimpleNamespace(accuracy=0.95, predicted=np.ones(400, dtype=int))
    found = chance(skewed, 0.95, 1, always, None)  # type: ignore[arg-type]
    assert found.note is not None and found.validation.largest_class == found.test.largest_class == 0.95
    other = dataset([1] * 20 + [0] * 80, [1] * 80 + [0] * 320)  # constant, but not by the largest class of training
    always = SimpleNamespace(accuracy=0.8, predicted=np.zeros(400, dtype=int))
    found = chance(other, 0.8, 1, always, None)  # type: ignore[arg-type]
    assert found.note is not None and found.test.largest_class == 0.8 and "always answering no" in found.note


def test_the_best_of_many_epochs_at_chance_is_seldom_taken_for_learning() -> None:
    rng, texts, epochs = np.random.default_rng(0), 150, 20
    best = rng.binomial(texts, 0.5, (300, epochs)).max(1)
    taken = {looks: np.mean([interval(int(k), texts, looks)[0] > 0.5 for k in best]) for looks in (1, epochs)}
    assert taken[1] > 0.2 and taken[epochs] <= 0.05
