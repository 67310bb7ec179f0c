"""eqspike from Python: docstring examples run, a saved classifier answers as before, runs open and compare."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import eqspike
from analysis.energy import part_of
from eqspike import classifier, datasets, opening
from eqspike.prediction import Predictor
from eqspike_seq.errors import ConfigError, DataError
from eqspike_seq.runs.archive import models
from neuromorphic.pricing import read_table
from tests.conftest import command
from tests.eqspike.test_classifier import LABELS, TEXTS, small


@pytest.mark.parametrize("module", [classifier, datasets, opening])
def test_examples_of_docstrings_say_what_they_print(module: object) -> None:
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)  # type: ignore[arg-type]
    assert found.attempted > 2 and not found.failed


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ({}, LABELS),
        ({"backend": "dense"}, [int(label == "sun") for label in LABELS]),
        ({"settings": {"network": "tokens", "hidden": (8,), "dim": 8, "tokens": 6, "embeddings": "random"}}, LABELS),
    ],
)
def test_a_saved_classifier_answers_as_before(tmp_path: Path, given: dict[str, object], labels: list[object]) -> None:
    model = small(epochs=2, **given).fit(TEXTS, labels)
    model.save(tmp_path / "model.zip")
    again = eqspike.EqSpikeClassifier.load(tmp_path / "model.zip")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), model.predict_proba(TEXTS))
    assert (
        again.predict(TEXTS).tolist() == model.predict(TEXTS).tolist() and again.classes_.dtype == model.classes_.dtype
    )
    assert (again.backend, again.neuron, again.beta, again.epochs) == (model.backend, model.neuron, model.beta, 2)
    (by_command,) = {Predictor.open(tmp_path / "model.zip").predict(TEXTS[0]).label}
    assert by_command == str(model.predict(TEXTS[:1])[0])
    refitted = again.fit(TEXTS, labels)
    assert refitted.network_.shape == model.network_.shape
    with pytest.raises(NotFittedError):
        small().save(tmp_path / "none.zip")
    with pytest.raises(ConfigError, match="no finished run"):  # it has reached nothing on a test split
        eqspike.open(tmp_path / "model.zip")


def test_a_classifier_says_why_and_what_it_costs() -> None:
    model = small().fit(TEXTS, LABELS)
    ((first, *others),) = model.explain(["warm bright sky today"])
    names = {name for name, _ in (first, *others)}
    assert names == {"warm", "bright", "sky", "warm bright", "bright sky"}
    assert first[1] > 0 and sum(abs(share) for _, share in (first, *others)) == pytest.approx(1)
    both, one, other = (model.energy(texts, "loihi").value for texts in (TEXTS[:2], TEXTS[:1], TEXTS[1:2]))
    assert both == pytest.approx((one + other) / 2) and one > 0  # a mean over texts
    with pytest.raises(ConfigError, match="pooling queries"):
        tokens = {"network": "tokens", "hidden": (8,), "dim": 8, "tokens": 6, "embeddings": "random"}
        small(epochs=1, settings=tokens).fit(TEXTS, LABELS).explain(TEXTS)


def test_the_shipped_model_is_a_run_like_others() -> None:
    assert models() == ["imdb-small"]
    model = eqspike.open("imdb-small")
    assert model.accuracy > 0.9 and model.run.result.n_test == 25_000
    ledger = model.run.ledgers.inference
    assert model.energy("loihi").value == part_of(ledger, read_table("loihi"))["joules"]["value"]
    assert model.energy(part="training").value > model.energy().value
    assert model.predict(["a dull, overlong film", "zzzz"]) == ["negative", None]
    (why,) = model.explain(["a dull, overlong film"])
    assert {name for name, _ in why.patterns[:2]} == {"dull", "overlong"} and why.confidence > 0.9
    table = eqspike.compare([model, "imdb-small"])
    heads, *rows = str(table).splitlines()
    assert heads.startswith("run") and len(rows) == 2 and all(row.startswith("imdb-small") for row in rows)
    assert table.records[0]["test_accuracy"] == model.accuracy
    html = table._repr_html_()
    assert html.count("<tr>") == 3 and html.count("<td>") == 2 * len(table.heads) and model._repr_html_()
    with pytest.raises(TypeError, match="a list of texts"):
        model.predict("a dull film")


def test_it_answers_right_after_installation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command("predict", "a dull, overlong film")
    answer, because, cost = capsys.readouterr().out.splitlines()
    assert answer.startswith("negative  confidence ") and "spikes" in cost and "J on 45 nm digital" in cost
    assert because.startswith("  because of dull ") and "overlong" in because and "%" in because
    command("predict", "imdb-small", "superb")
    assert capsys.readouterr().out.startswith("positive")
    (tmp_path / "texts").write_text("one of the best\na dull film\n")
    command("predict", "--file", tmp_path / "texts")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["positive", "negative"]
    for path in ("runs/none", "none.zip", "superb"):
        with pytest.raises(SystemExit):
            command("predict", path)
        assert f"{path}: no such run; expected " in (said := capsys.readouterr().err)
        assert "eqspike predict imdb-small TEXT" in said
    command("predict", "")
    assert capsys.readouterr().out == "–  (no word)\n"
    command("models")
    assert "imdb-small" in (shown := capsys.readouterr().out) and "90.96%" in shown
    command("energy", "imdb-small", "--hardware", "loihi")
    assert "5.25 µJ" in capsys.readouterr().out  # as its card says


def test_an_answer_loads_no_library_that_it_does_without() -> None:
    """How long it takes from start to answer is measured by ``benchmarks.shipped``."""
    asked = (
        "import sys; from eqspike.cli import main; sys.argv = ['eqspike', 'predict', 'a dull, overlong film']; main(); "
    )
    heavy = ("sklearn", "scipy", "matplotlib", "gensim", "brian2", "pandas", "numba", "snntorch", "pyarrow", "optuna")
    loaded = subprocess.check_output([sys.executable, "-c", asked + "print(sorted(set(sys.modules)))"], text=True)
    assert "'torch'" in loaded and not [name for name in heavy if f"'{name}'" in loaded]


def test_data_sets_by_name() -> None:
    texts, labels = datasets.load("mini", "validation")
    assert len(texts) == len(labels) == 500 and set(labels) == {"negative", "positive"}
    with pytest.raises(DataError, match="images"):
        datasets.load("digits")
    with pytest.raises(DataError, match="expected one of train"):
        datasets.load("mini", "dev")  # type: ignore[arg-type]
    for load in (datasets.load, eqspike.open):
        with pytest.raises(ConfigError, match="nothing"):
            load("nothing")
