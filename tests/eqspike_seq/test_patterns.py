"""Words and n-grams as counted patterns: against counting by hand and scikit-learn, and batches of them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from eqspike_seq.data import patterns
from eqspike_seq.data.batches import CountedBatches, thinned
from eqspike_seq.data.corpus import Split
from eqspike_seq.data.encoding import Encoded, as_words
from eqspike_seq.data.naive_bayes import NaiveBayes
from eqspike_seq.data.patterns import NGrams, class_counts, counted, counted_patterns, spread
from eqspike_seq.errors import DataError
from eqspike_seq.files import read_arrays, save_arrays

TEXTS = ["not good not bad", "good film", "", "a b c a b c a b", "not good", "Ünïcode 电影 good 👍 👍"]


def grams_of(words: list[str], longest: int) -> Counter[str]:
    """Every n-gram of a text, written out."""
    return Counter(" ".join(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1))


def read(texts: list[str], longest: int, least: int) -> tuple[NGrams, dict[str, Encoded]]:
    part = Split(texts, np.arange(len(texts)) % 2)
    grams, encoded, _ = counted_patterns({"train": part, "test": part}, 1, "unicode", longest, least)
    return grams, encoded


def as_counters(grams: NGrams, part: Encoded) -> list[Counter[str]]:
    """What is encoded, as n-grams and counts."""
    names = grams.names()
    assert part.counts is not None
    pairs = [(names[number - 1], int(count)) for number, count in zip(part.ids, part.counts, strict=True)]
    return [Counter(dict(pairs[start:end])) for start, end in zip(part.starts, part.starts[1:], strict=False)]


words = st.lists(st.sampled_from("abcde"), max_size=9)


@given(st.lists(words, min_size=1, max_size=8), st.integers(1, 3), st.integers(1, 3))
def test_patterns_are_the_n_grams_that_enough_texts_hold(texts: list[list[str]], longest: int, least: int) -> None:
    every = [grams_of(text, longest) for text in texts]
    held = Counter(gram for grams in every for gram in grams)
    expected = {gram for gram, number in held.items() if number >= least}
    joined = [" ".join(text) for text in texts]
    if not expected:
        with pytest.raises(DataError, match="word"):
            read(joined, longest, least)
        return
    grams, encoded = read(joined, longest, least)
    assert set(grams.names()) == expected and len(grams) == len(expected)
    kept = [Counter({gram: n for gram, n in each.items() if gram in expected}) for each in every]
    assert as_counters(grams, encoded["train"]) == kept
    assert as_counters(grams, encoded["test"]) == kept  # by another way: words that are looked up
    again = NGrams.of(grams.names())
    ids, counts, lengths = counted(again, as_words(joined, "unicode", again.words))
    np.testing.assert_array_equal(ids, encoded["train"].ids)
    np.testing.assert_array_equal(counts, encoded["train"].counts)
    np.testing.assert_array_equal(lengths, np.diff(encoded["train"].starts))


def test_they_are_those_of_scikit_learn() -> None:
    vectoriser = CountVectorizer(analyzer=lambda text: list(grams_of(text.lower().split(), 3).elements()), min_df=2)
    expected = vectoriser.fit_transform(TEXTS)
    grams, encoded = read(TEXTS, 3, 2)
    assert set(vectoriser.get_feature_names_out()) == set(grams.names())
    assert int(encoded["train"].counts.sum()) == int(expected.sum())  # type: ignore[union-attr]


def test_common_patterns_have_small_numbers_and_longer_ones_come_after() -> None:
    names = read(TEXTS, 2, 1)[0].names()
    assert names[0] == "good" and [" " in name for name in names] == sorted(" " in name for name in names)
    assert names[len(read(TEXTS, 1, 1)[0])] == "not good"


@pytest.mark.parametrize("names", [["a b"], ["a", "a"], ["a", "a b"], ["a", "b", "a b c"], ["a", "a a", "b"]])
def test_names_that_are_no_vocabulary_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="word|part"):
        NGrams.of(names)


def test_ratios_are_those_of_wang_and_manning_for_equal_classes() -> None:
    """r = ln((1 + texts of class 1 with it)/(1 + of class 0)), up to the one factor; 0 where it says nothing."""
    texts = ["good", "good", "good bad", "bad", "bad film", "film"]
    part = Split(texts, np.array([1, 1, 1, 0, 0, 0]))
    grams, encoded, _ = counted_patterns({"train": part}, 1, "unicode", 1, 1)
    counts, totals = class_counts(encoded["train"], 2, len(grams))
    found = dict(zip(grams.names(), NaiveBayes.of(counts, totals, 1.0, 1.0, 1).vectors()[1:, 0].tolist(), strict=True))
    expected = {"good": np.log(4), "bad": np.log(2 / 3), "film": np.log(1 / 3)}
    scale = found["good"] / expected["good"]
    for word, ratio in expected.items():
        assert found[word] == pytest.approx(scale * ratio)
    assert np.mean([value**2 for value in found.values()]) == pytest.approx(1)


def test_a_pattern_that_says_nothing_has_no_ratio_however_unequal_the_classes() -> None:
    """Held by the same share of each of three classes; and one that nobody holds."""
    totals = torch.tensor([10.0, 100.0, 1000.0])
    counts = torch.stack([torch.zeros(3), totals / 10, torch.zeros(3), totals])
    ratios = NaiveBayes(counts, totals, 1.0, 1.0, 1).vectors()
    torch.testing.assert_close(ratios, torch.zeros_like(ratios), rtol=0, atol=1e-5)


def test_ratios_are_finite_where_a_class_has_one_text_or_none() -> None:
    totals = torch.tensor([1.0, 0.0, 100.0])
    counts = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 7], [1, 0, 100]])
    ratios = NaiveBayes(counts, totals, 1.0, 1.0, 1)
    assert bool(ratios.vectors().isfinite().all())
    own = ratios.own(torch.tensor([[[1, 3, 0]], [[2, 3, 0]]]), torch.tensor([0, 2]))
    assert bool(own.isfinite().all()) and not own[:, :, 2].any()


@pytest.mark.parametrize("classes", [2, 3])
def test_a_text_has_the_ratios_of_all_others(classes: int) -> None:
    """What the training texts without it give, counted again."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefgh"), 4)) for _ in range(12)]
    labels = np.arange(12) % classes
    part = Split(texts, labels)
    grams, encoded, _ = counted_patterns({"train": part}, 1, "unicode", 2, 1)
    train = encoded["train"]
    whole = NaiveBayes.of(*class_counts(train, classes, len(grams)), 0.7, 3.0, 2)
    for row in range(12):
        others = [i for i in range(12) if i != row]
        kept = np.concatenate([train.ids[train.starts[i] : train.starts[i + 1]] for i in others])
        rest = Encoded.of(kept, np.diff(train.starts)[others], labels[others])
        without = replace(whole, counts=class_counts(rest, classes, len(grams))[0])
        without = replace(without, totals=class_counts(rest, classes, len(grams))[1])
        ids = torch.from_numpy(train.text(row).astype(np.int64)).view(1, 1, -1)
        own = whole.own(ids, torch.tensor([labels[row]]))[0, 0]
        expected = without.vectors()[ids[0, 0]]
        torch.testing.assert_close(whole.vectors()[ids[0, 0]] + own, expected, rtol=1e-4, atol=1e-4)


def test_copies_alternate_in_sign_and_padding_is_zero() -> None:
    counts, totals = torch.tensor([[0.0, 0], [3, 1], [0, 2]]), torch.tensor([4.0, 4])
    one, four = (NaiveBayes.of(counts, totals, 1.0, 2.0, copies).vectors() for copies in (1, 4))
    torch.testing.assert_close(four, one * torch.tensor([1.0, -1, 1, -1]))
    assert not four[0].any()


def test_batches_hold_each_pattern_with_its_count() -> None:
    grams, encoded = read(TEXTS, 2, 1)
    table = torch.randn(len(grams) + 1, 3)
    batch = CountedBatches(table).lookup(encoded["train"], np.array([3, 2, 0])).whole()
    names = ["", *grams.names()]
    assert batch.ids is not None and batch.counts is not None
    for row, text in enumerate((TEXTS[3], TEXTS[2], TEXTS[0])):
        real = batch.mask[row, 0]
        found = zip(batch.ids[row, 0][real].tolist(), batch.counts[row, 0][real].tolist(), strict=True)
        assert Counter({names[number]: count for number, count in found}) == grams_of(text.split(), 2)
        torch.testing.assert_close(batch.x[row, 0][real], table[batch.ids[row, 0][real]])
    assert batch.labels.tolist() == [1, 0, 0]


def test_only_texts_in_the_ratios_have_those_of_others() -> None:
    grams, encoded = read(TEXTS, 1, 1)
    ratios = NaiveBayes.of(*class_counts(encoded["train"], 2, len(grams)), 1.0, 1.0, 2)
    table = torch.zeros(len(grams) + 1, 5)
    table[:, :2] = ratios.vectors()
    gather, rows = CountedBatches(table, ratios=ratios), np.arange(len(TEXTS))
    tested = gather.lookup(encoded["train"], rows).whole()
    trained = gather.lookup(replace(encoded["train"], in_ratios=True), rows).whole()
    assert trained.ids is not None
    own = ratios.own(trained.ids, trained.labels)
    torch.testing.assert_close(trained.x[..., :2], tested.x[..., :2] + own)
    assert bool(own.any()) and torch.equal(trained.x[..., 2:], tested.x[..., 2:])


def test_counts_are_thinned_as_equal_patterns_one_by_one() -> None:
    """Mean c(1 − r), variance c r (1 − r)."""
    counts = np.repeat(np.array([1, 2, 5], dtype=np.int32), 20_000)
    found = thinned(counts, 0.3, np.random.default_rng(0)).reshape(3, -1)
    np.testing.assert_allclose(found.mean(1), 0.7 * np.array([1, 2, 5]), rtol=0.02)
    np.testing.assert_allclose(found.var(1), 0.21 * np.array([1, 2, 5]), rtol=0.05)
    assert (found <= np.array([[1], [2], [5]])).all()


def test_a_share_of_a_batch_is_that_part_of_it() -> None:
    grams, encoded = read(TEXTS, 2, 1)
    gather, rows = CountedBatches(torch.randn(len(grams) + 1, 3)), np.array([5, 0, 3, 1])
    whole, part = (
        gather.lookup(encoded["train"], rows, 0.4, np.random.default_rng(1), share)
        for share in (slice(None), slice(2, 4))
    )
    assert torch.equal(part.ids, whole.ids[2:4]) and torch.equal(part.labels, whole.labels[2:4])
    assert part.counts is not None and whole.counts is not None and torch.equal(part.counts, whole.counts[2:4])


def test_what_was_counted_is_found_again_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, said = Split(TEXTS, np.arange(len(TEXTS)) % 2), list[str]()
    asked = ({"train": part, "test": part.take(np.array([0, 3]))}, 1, "unicode", 3, 1, said.append)
    first = counted_patterns(*asked)  # type: ignore[arg-type]
    (file,) = (tmp_path / "cache/patterns").glob("*.npz")
    with monkeypatch.context() as patch:
        patch.setattr(patterns, "_counted", None)  # nothing is counted again
        second = counted_patterns(*asked)  # type: ignore[arg-type]
    assert first[0].names() == second[0].names() and first[2] == second[2]
    for name, mine in first[1].items():
        for field in ("ids", "counts", "starts", "labels"):
            np.testing.assert_array_equal(getattr(second[1][name], field), getattr(mine, field))
    arrays = read_arrays(file)
    save_arrays(file, {**arrays, "train_ids": arrays["train_ids"] + 1000})  # damaged: counted again
    assert counted_patterns(*asked)[0].names() == first[0].names()  # type: ignore[arg-type]


def test_shares_of_patterns_are_spread_over_their_words() -> None:
    """not good not bad: not (2), good, bad, not good, good not, not bad, with a share of 1/7 each or 2/7."""
    grams, encoded = read(["not good not bad"], 2, 1)
    part = encoded["train"]
    assert part.counts is not None
    share = (part.counts / part.counts.sum())[None]
    numbers = np.array([grams.words[word] for word in "not good not bad".split()])
    found = spread(grams, numbers, part.ids.astype(np.int64), share)[0]
    np.testing.assert_allclose(found, np.array([1.5, 2, 2, 1.5]) / 7)
    assert found.sum() == pytest.approx(1)
