"""The baseline against its formula, against scikit-learn on ready-made columns, and at its edges."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.baselines import Ratios, naive_bayes
from eqspike_seq.data.corpus import BORDER, Corpus, Split
from eqspike_seq.data.patterns import counted_patterns
from eqspike_seq.learning.baseline import counts, features, tfidf_logistic, weighted
from tests.conftest import command

TEXTS = ["good good film", "bad film", "not good", "not bad film !", "good", "bad bad bad"]
LABELS = np.array([1, 0, 0, 1, 1, 0])


def corpus(*rows: tuple[str, int], inputs: int = 1) -> Corpus:
    """Train, validation and test alike."""
    part = Split([text for text, _ in rows], np.array([label for _, label in rows]))
    return Corpus("c", ("no", "yes"), part, part, validation=part, inputs=inputs)


def test_features_are_those_of_the_formula() -> None:
    split = Split(TEXTS, LABELS)
    found = weighted(*counts({"train": split, "test": split}, "unicode", 1).values())
    fitted, again = (part.toarray() for part in found)
    np.testing.assert_array_equal(fitted, again)
    grams, _, _ = counted_patterns({"train": split}, 1, "unicode", 2, 1)
    columns = {gram: place for place, gram in enumerate(grams.names())}
    pairs = [text.split() for text in TEXTS]
    documents = [[*words, *map(" ".join, zip(words, words[1:], strict=False))] for words in pairs]
    assert columns.keys() == {gram for grams in documents for gram in grams}
    assert fitted.shape == (len(TEXTS), len(columns))
    expected = np.zeros_like(fitted)
    for row, grams in enumerate(documents):
        for gram in set(grams):
            held = sum(gram in other for other in documents)
            expected[row, columns[gram]] = (1 + np.log(grams.count(gram))) * (1 + np.log((1 + 6) / (1 + held)))
    np.testing.assert_allclose(fitted, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-12)


def test_pairs_of_words_tell_what_single_words_cannot() -> None:
    """not good and not bad: two classes with the same words."""
    rows = [("it was good not bad", 1), ("it was bad not good", 0)] * 10
    assert tfidf_logistic(corpus(*rows), "unicode").test_accuracy == 1.0
    alone = CountVectorizer().fit_transform([text for text, _ in rows])
    assert (
        LogisticRegression().fit(alone, [label for _, label in rows]).score(alone, [label for _, label in rows]) == 0.5
    )


def test_each_text_of_a_pair_has_columns_of_its_own() -> None:
    """One word in the first text or in the second."""
    rows = [(f"yes{BORDER}thing", 1), (f"thing{BORDER}yes", 0)] * 10
    assert tfidf_logistic(corpus(*rows, inputs=2), "unicode").test_accuracy == 1.0


def test_each_text_of_a_pair_is_scaled_by_itself() -> None:
    """A long second text takes nothing from the first: both have unit norm, as scikit-learn gives each alone."""
    texts = Split([f"good film{BORDER}{'a long text ' * n}" for n in (1, 9)], np.array([0, 1]))
    (found,) = features({"train": texts}, "unicode", 2)
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\S+")
    for side in (0, 1):
        alone = vectorizer.fit_transform([text.split(BORDER)[side] for text in texts.texts]).toarray()
        columns = slice(0, 3) if side == 0 else slice(3, None)
        mine = found.toarray()[:, columns]
        np.testing.assert_allclose(np.sort(mine, axis=1), np.sort(alone, axis=1), rtol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(mine, axis=1), 1.0, rtol=1e-12)


def test_naive_bayes_ratios_by_hand() -> None:
    """r = log of (1 + texts of the class with the n-gram)/their sum, less the same of the others."""
    features = CountVectorizer(binary=True, analyzer=str.split).fit_transform(TEXTS).astype(float)
    model = Ratios(1.0).fit(features, LABELS)
    dense = features.toarray()
    p, q = 1 + dense[LABELS == 1].sum(0), 1 + dense[LABELS == 0].sum(0)
    np.testing.assert_allclose(model.ratios[1].diagonal(), np.log((p / p.sum()) / (q / q.sum())))
    np.testing.assert_allclose(model.ratios[0].diagonal(), -model.ratios[1].diagonal())
    rows = [("it was good not bad", 1), ("it was bad not good", 0)] * 10
    assert naive_bayes(corpus(*rows), "unicode")["test_accuracy"] == 1.0


@pytest.mark.parametrize(("dataset", "flags"), [("mini", ["--no-baseline"]), ("digits", [])])
def test_a_run_may_do_without(
    dataset: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("run", dataset, "--limit", "40", "--epochs", "1", "--out", tmp_path / "run", *flags)
    assert json.loads((tmp_path / "run/result.json").read_text())["baseline"] is None
    assert "TF-IDF" not in capsys.readouterr().out


def test_a_run_says_what_the_baseline_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the texts of the run: its split, its limit, its tokeniser."""
    rows = "".join(f"{'fine' if i % 2 else 'poor'} thing number {i},{i % 2}\n" for i in range(60))
    (tmp_path / "own.csv").write_text("text,label\n" + rows)
    command("run", tmp_path / "own.csv", "--epochs", "1", "--out", tmp_path / "run")
    found = json.loads((tmp_path / "run/result.json").read_text())["baseline"]
    assert found["test_accuracy"] == found["validation_accuracy"] == 1.0
    assert "100.00% logistic regression on TF-IDF" in " ".join(capsys.readouterr().out.split())
    command("report", tmp_path / "run", "--out", tmp_path / "report.html")
    assert "logistic regression on TF-IDF has 100.00%" in (tmp_path / "report.html").read_text()
