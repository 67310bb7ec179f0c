"""The scikit-learn classifier: scikit-learn's own checks, its tools, and what it makes of all kinds of input."""

import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from eqspike import EqSpikeClassifier
from eqspike.build import configure
from eqspike_seq.data.sizes import sizes
from eqspike_seq.errors import ConfigError, DataError

WORDS = {"sun": ["warm bright sky", "bright warm day"], "rain": ["wet grey cloud", "grey wet day"]}
TEXTS = [f"{text} {n % 5}" for n in range(8) for texts in WORDS.values() for text in texts]
LABELS = [label for _ in range(8) for label, texts in WORDS.items() for _ in texts]
SMALL = {"hidden": (16,), "dim": 8, "batch": 8}


def small(**given: Any) -> EqSpikeClassifier:
    return EqSpikeClassifier(**{"neuron": "sigma-delta", "epochs": 12, "settings": SMALL, **given})


@pytest.fixture(scope="module")
def fitted() -> EqSpikeClassifier:
    return small().fit(TEXTS, LABELS)


class OfNumbers(EqSpikeClassifier):
    """The same for rows of numbers, each written as a text of rounded numbers, so that scikit-learn's checks apply."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, False, True
        tags.classifier_tags.poor_score = True  # rounded numbers as words: nothing to be good at
        return tags

    def fit(self, X: Any, y: Any) -> "OfNumbers":
        X, y = validate_data(self, X, y)
        super().fit(written(X), y)
        return self

    def predict(self, X: Any) -> Any:
        check_is_fitted(self)
        return super().predict(written(validate_data(self, X, reset=False)))

    def predict_proba(self, X: Any) -> Any:
        check_is_fitted(self)
        return super().predict_proba(written(validate_data(self, X, reset=False)))


def written(X: Any) -> list[str]:
    """Rows of numbers as texts: 1.3 in column 2 is "c2x13"."""
    return [" ".join(f"c{n}x{round(10 * value)}".replace("-", "m") for n, value in enumerate(row)) for row in X]


def test_passes_the_checks_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)  # all but one: they need a 2d array
        (found,) = check_estimator(EqSpikeClassifier(), on_fail=None)
    assert found["status"] == "passed"


def test_passes_them_where_rows_of_numbers_are_written_as_texts() -> None:
    """All of them: there is no check that is expected to fail."""
    model = OfNumbers("dense", epochs=1, settings={"hidden": (4,), "dim": 4, "free_steps": 5, "nudge_steps": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(model, on_skip=None, on_fail=None)
    assert len(found) > 40
    failed = [(check["check_name"], check["exception"]) for check in found if check["status"] == "failed"]
    assert not failed, failed


def test_learns_and_gives_probabilities(fitted: EqSpikeClassifier) -> None:
    assert fitted.classes_.tolist() == ["rain", "sun"]
    assert fitted.score(TEXTS, LABELS) == 1.0
    shares = fitted.predict_proba(TEXTS)
    assert shares.shape == (len(TEXTS), 2) and (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(1), 1)
    assert (fitted.classes_[shares.argmax(1)] == fitted.predict(TEXTS)).all()


def test_answers_do_not_depend_on_what_else_is_asked(fitted: EqSpikeClassifier) -> None:
    together = fitted.predict_proba(TEXTS)
    np.testing.assert_allclose(fitted.predict_proba(TEXTS[::-1])[::-1], together, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([fitted.predict_proba([text]) for text in TEXTS]), together, atol=1e-6)


def test_texts_without_a_known_word_get_an_answer(fitted: EqSpikeClassifier) -> None:
    shares = fitted.predict_proba(["", "zzz", "warm " * 500])
    assert np.isfinite(shares).all() and np.allclose(shares.sum(1), 1)


@pytest.mark.parametrize(("backend", "neuron"), [("dense", "sigma-delta"), ("spiking", "sigma-delta")])
def test_is_the_same_for_the_same_random_state(backend: str, neuron: str) -> None:
    def shares(state: Any) -> Any:
        model = small(backend=backend, neuron=neuron, epochs=2, random_state=state)
        return model.fit(TEXTS, LABELS).predict_proba(TEXTS)

    assert (shares(3) == shares(3)).all()
    assert (shares(np.random.RandomState(3)) == shares(3)).all()
    assert (shares(3) != shares(4)).any()


@pytest.mark.parametrize("labels", [[7, -2], [True, False], ["b", "ä"], [2.0, 1.0]])
def test_takes_labels_of_any_kind(labels: list[Any]) -> None:
    given = np.array([labels[label == "sun"] for label in LABELS])
    model = small().fit(np.array(TEXTS, dtype=object), given)
    assert (model.classes_ == np.unique(given)).all()
    assert model.score(TEXTS, given) == 1.0


def test_takes_twenty_classes() -> None:
    texts = [f"word{n} again word{n}" for n in range(20) for _ in range(3)]
    labels = [n for n in range(20) for _ in range(3)]
    model = EqSpikeClassifier(backend="dense").fit(texts, labels)
    assert model.predict_proba(texts).shape == (60, 20)
    assert model.score(texts, labels) > 0.8  # always the same answer has 0.05


def test_works_with_the_tools_of_scikit_learn() -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("lower", lower), ("model", small())])
    assert cross_val_score(pipeline, TEXTS, LABELS, cv=2).mean() > 0.8
    search = GridSearchCV(small(), {"beta": [0.2, 0.5]}, cv=2, scoring="neg_log_loss").fit(TEXTS, LABELS)
    assert search.best_params_["beta"] in (0.2, 0.5) and search.score(TEXTS, LABELS) < 0
    copy = clone(small(beta=0.3, random_state=5))
    assert copy.get_params() == small(beta=0.3, random_state=5).get_params()
    with pytest.raises(NotFittedError):
        copy.predict(TEXTS)


def test_is_pickled_whole(fitted: EqSpikeClassifier) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict_proba(TEXTS) == fitted.predict_proba(TEXTS)).all()


def test_trains_in_silence_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small(epochs=1).fit(TEXTS, LABELS).predict(TEXTS)
    assert capfd.readouterr() == ("", "") and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("texts", "labels", "given", "error", "says"),
    [
        ("one text", ["a"], {}, DataError, "one string"),
        ([], [], {}, DataError, "no text"),
        (["a", 3], ["x", "y"], {}, DataError, "row 1"),
        ([["a"], ["b"]], ["x", "y"], {}, DataError, "list in row 0"),
        (["a", "b"], ["x"], {}, DataError, "2 texts and 1 labels"),
        (["a", "b"], ["x", "x"], {}, DataError, "at least two"),
        (["...", ""], ["x", "y"], {}, DataError, "holds a word"),
        (["a", "b"], [0.5, 1.7], {}, ValueError, "continuous"),
        (["a", "b"], ["x", "y"], {"backend": "analog"}, ConfigError, "analog"),
        (["a", "b"], ["x", "y"], {"neuron": "grey"}, ConfigError, "grey"),
        (["a", "b"], ["x", "y"], {"beta": 0}, ConfigError, "beta"),
        (["a", "b"], ["x", "y"], {"settings": {"betta": 1}}, ConfigError, "betta"),
        (["a", "b"], ["x", "y"], {"settings": {"beta": 1}}, ConfigError, "parameters"),
    ],
)
def test_mistakes_are_named(texts: Any, labels: Any, given: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        EqSpikeClassifier(**given).fit(texts, labels)


def test_weights_of_texts_are_refused_by_name_as_no_parameter_of_fit() -> None:
    assert not has_fit_parameter(EqSpikeClassifier(), "sample_weight")
    with pytest.raises(ConfigError, match="fit: got sample_weight.*all texts have the same weight.*Leave it out"):
        small().fit(TEXTS, LABELS, sample_weight=np.ones(len(TEXTS)))
    with pytest.raises(ValueError, match="sample_weight"):
        Pipeline([("model", small())]).fit(TEXTS, LABELS, model__sample_weight=np.ones(len(TEXTS)))


def test_sizes_are_those_of_the_presets_where_these_were_chosen() -> None:
    mini, cpu = configure("mini", "dense"), configure("imdb", "dense", "paper-small")
    few = configure("mini", "dense", **sizes([40] * 2000, 2, 2000))
    many = configure("mini", "dense", **sizes([300] * 22500, 2, 22500))
    for found, preset in ((few, mini), (many, cpu)):
        for name in ("embeddings", "dim", "min_count", "hidden", "epochs", "word_dropout"):
            assert found.settings()[name] == preset.settings()[name], name
    assert many.learning.learning_rate == pytest.approx(cpu.learning.learning_rate)
    longer = mini.data.rows / few.data.rows
    assert few.learning.learning_rate[1] == pytest.approx(mini.learning.learning_rate[1] * longer)
    assert sizes([], 2, 0)["tokens"] == 16 and sizes([3], 20, 4)["batch"] == 8


def test_is_loaded_when_asked_for_only() -> None:
    script = "import sys, eqspike_seq; print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr
    import eqspike_seq

    with pytest.raises(AttributeError, match="nothing"):
        eqspike_seq.nothing  # noqa: B018
