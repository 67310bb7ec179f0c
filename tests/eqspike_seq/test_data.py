import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eqspike.build import configure
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data import dataset as module
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.cache import cache_dir
from eqspike_seq.data.corpus import Corpus, Split
from eqspike_seq.data.dataset import limited, load_dataset, split
from eqspike_seq.data.embeddings import Embeddings, read_vectors, standardise, train_word2vec
from eqspike_seq.data.encoding import Encoded, shuffled, token_ids
from eqspike_seq.data.tokens import TokeniserName, tokenise
from eqspike_seq.data.vectors import EMBEDDINGS
from eqspike_seq.errors import DataError
from eqspike_seq.progress import Reporter


def corpus(train: list[tuple[str, int]], test: list[tuple[str, int]]) -> Corpus:
    def part(rows: list[tuple[str, int]]) -> Split:
        return Split([t for t, _ in rows], np.array([y for _, y in rows], dtype=np.int64))

    return Corpus("made up", ("negative", "positive"), part(train), part(test))


MANY = [(f"text number {i} of class {i % 2}", i % 2) for i in range(200)]


def vectors(words: str, dim: int = 3) -> Embeddings:
    names = words.split()
    return standardise(names, np.random.default_rng(0).standard_normal((len(names), dim)), "test")


def test_validation_is_a_tenth_stratified_and_the_same_every_time() -> None:
    a, b = split(corpus(MANY, [("t", 0), ("u", 1)])), split(corpus(MANY, [("t", 0), ("u", 1)]))
    assert a.validation is not None and b.validation is not None
    assert len(a.validation) == 20 and a.validation.labels.sum() == 10 and len(a.train) == 180
    assert a.validation.texts == b.validation.texts
    assert not set(a.validation.texts) & set(a.train.texts)


def test_identical_texts_stay_together_and_those_in_test_are_dropped() -> None:
    twins = [(f"twin {i // 5}", (i // 5) % 2) for i in range(200)]
    made = split(corpus(twins + [("in test", 0)] * 3, [("in test", 1), ("other", 0)]))
    assert made.counts["train_texts_dropped_as_in_test"] == 3
    assert made.validation is not None and not set(made.validation.texts) & set(made.train.texts)
    assert len(made.validation) + len(made.train) == 200


def test_limit_takes_classes_in_equal_numbers() -> None:
    made = limited(split(corpus(MANY, [("t", 0), ("u", 1)])), 10)
    assert len(made.train) == 10 and made.train.labels.sum() == 5


@pytest.mark.parametrize(
    ("keep", "expected"), [("ends", [1, 2, 3, 8, 9]), ("head", [1, 2, 3, 4, 5]), ("tail", [5, 6, 7, 8, 9])]
)
def test_long_texts_keep_what_was_asked_for(keep: str, expected: list[int]) -> None:
    ids = np.arange(1, 12, dtype=np.int32)
    part = Encoded(ids, np.array([0, 9, 9, 11]), np.zeros(3, dtype=np.int64))
    rows, table = np.arange(3), torch.randn(12, 4)
    assert Batches(table, 5, keep).ids(part, rows).tolist() == [[expected], [[0] * 5], [[10, 11, 0, 0, 0]]]
    assert Batches(table, 1, keep).ids(part, rows)[0, 0, 0] in (1, 9)
    batch = Batches(table, 5, keep)(part, rows)
    assert batch.x.shape == (3, 1, 5, 4) and torch.equal(batch.x[0, 0, 0], table[expected[0]])
    assert batch.mask.sum((1, 2)).tolist() == [5, 0, 2]


def test_shuffled_words_are_the_same_words() -> None:
    part = Encoded(np.arange(1, 10, dtype=np.int32), np.array([0, 9]), np.zeros(1, dtype=np.int64))
    found = shuffled(part).text(0).tolist()
    assert sorted(found) == list(range(1, 10)) != found


def test_word_dropout_leaves_out_its_share_and_closes_up() -> None:
    part = Encoded(np.arange(1, 10_001, dtype=np.int32), np.array([0, 10_000]), np.zeros(1, dtype=np.int64))
    found = Batches(torch.zeros(1, 1), 10_000, "ends").ids(part, np.arange(1), 0.3, np.random.default_rng(0))[0, 0]
    left = found[found > 0]
    assert len(left) == pytest.approx(7000, abs=150) and (np.diff(left) > 0).all() and (found[: len(left)] > 0).all()


def test_standardised_vectors_and_zero_padding() -> None:
    made = vectors("a b c d e")
    np.testing.assert_allclose(made.table[1:].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(made.table[1:].std(0), 1, atol=1e-6)
    assert (made.table[0] == 0).all() and made.index["a"] == 1


@pytest.mark.parametrize("text", ["", "unknown words only", "a", "a " * 100_000, "\ufffd\x00 b", "c" * 100_000])
@pytest.mark.parametrize("tokeniser", ["unicode", "ascii"])
def test_odd_texts_are_encoded(text: str, tokeniser: TokeniserName) -> None:
    made = vectors("a b")
    found = token_ids([text, "a b a"], made, tokeniser)
    lengths = found.known(np.zeros(2, dtype=np.int64)).lengths()
    assert len(found.ids) == found.lengths.sum() and lengths[1] == 3
    assert lengths[0] + found.statistics().unknown == len(tokenise(text, tokeniser))


def test_ids_are_cached_and_a_damaged_cache_is_made_anew() -> None:
    made = vectors("a b")
    first = token_ids(["a b x", "b"], made, "ascii")
    (file,) = (cache_dir() / "words").iterdir()
    for damage in (b"", file.read_bytes()[:60], b"PK\x03\x04 nonsense"):
        file.write_bytes(damage)
        again = token_ids(["a b x", "b"], made, "ascii")
        assert again.ids.tolist() == first.ids.tolist() == [1, 2, 0, 2]
    assert len(list((cache_dir() / "words").iterdir())) == 1


def test_what_is_cached_depends_on_the_tokeniser() -> None:
    texts = ["schöner tag", "schöne tage"] * 5
    made = {kind: train_word2vec(texts, 2, 1, kind) for kind in ("ascii", "unicode")}
    assert set(made["ascii"].index) == {"sch", "ner", "tag", "ne", "tage"}
    assert set(made["unicode"].index) == {"schöner", "tag", "schöne", "tage"}
    known = vectors("schöner tag")
    assert [token_ids(texts[:1], known, kind).ids.tolist() for kind in ("ascii", "unicode")] == [[0, 0, 2], [1, 2]]


def test_a_data_set_takes_four_bytes_a_word() -> None:
    data = load_dataset(configure("mini", "dense").data)
    for name, part in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        words = data.counts[f"{name}_tokens"] - data.counts[f"{name}_tokens_without_vector"]
        texts = 8 * len(part) + 8 * (len(part) + 1)  # a label each, and where each begins
        assert part.ids.nbytes + part.starts.nbytes + part.labels.nbytes == 4 * words + texts


def test_word2vec_is_repeatable_cached_and_mended() -> None:
    texts = [f"the film was {w} and the plot was {w} too" for w in ("good", "bad", "dull", "fine") for _ in range(9)]
    first = train_word2vec(texts, 6, 2, "ascii")
    (file,) = (cache_dir() / "embeddings").iterdir()
    stamp = file.stat().st_mtime_ns
    assert train_word2vec(texts, 6, 2, "ascii").digest == first.digest and file.stat().st_mtime_ns == stamp
    file.write_bytes(file.read_bytes()[:100])
    assert train_word2vec(texts, 6, 2, "ascii").digest == first.digest
    with pytest.raises(DataError, match="--min-count"):
        train_word2vec(texts, 6, 10_000, "ascii")


@pytest.mark.parametrize("terminal", [False, True])
def test_in_a_log_word2vec_tells_of_its_passes_once(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    said: list[str] = []
    train_word2vec(["a b c"] * 20, 2, 1, "ascii", said.append)
    assert [line.startswith("word2vec") for line in said] == [True] * (21 if terminal else 2)
    assert ("20 passes over 20 texts" in said[1]) == (not terminal)


@pytest.mark.parametrize("kind", ["random", "word2vec"])
def test_texts_without_a_word_are_not_blamed_on_rare_words(kind: str) -> None:
    for text, tokeniser, says in (("…, …", "unicode", "no word at all"), ("茶", "ascii", "--tokeniser unicode")):
        with pytest.raises(DataError, match=says):
            EMBEDDINGS[kind]().embed(corpus([(text, 0), (text, 1)], []), tokeniser, 5, lambda _: None)


def test_letters_that_no_token_holds_are_counted_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(rows: list[tuple[str, int]], tokeniser: str) -> str:
        monkeypatch.setattr(module, "load_corpus", lambda *_: corpus(rows, [("tag", 0), ("nacht", 1)]))
        data = load_dataset(configure("mini", "dense", tokeniser=tokeniser).data)
        written = sum(len(text) for text, _ in rows) + 8 if rows[0][0].isalpha() else None
        splits = ("train", "validation", "test")
        counted = [sum(data.counts[f"{s}_{what}"] for s in splits) for what in ("letters", "letters_in_no_token")]
        assert written in (None, counted[0]) and counted[1] == (200 if tokeniser == "ascii" else 0)
        Reporter().dataset(data)
        return " ".join(capsys.readouterr().err.split())

    few = [("ü" + "abcdefghijklmnopqrstuvwxyz"[i % 26] * (30 + i // 26), i % 2) for i in range(200)]  # 1 of 32 and more
    assert "warning: mini" not in told(few, "unicode") and "letters belong to no token" not in told(few, "unicode")
    line = told(few, "ascii")
    assert (
        "% of the letters belong to no token" in line and "warning" not in line.split("letters are")[0].split(".")[-2]
    )
    many = [("ü" + "abcdefghijklmnopqrstuvwxyz"[i % 26] * (3 + i // 26), i % 2) for i in range(200)]
    assert "warning: 1" in told(many, "ascii")


def test_vectors_from_files(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    np.savez(tmp_path / "v.npz", words=np.array(["a", "b", "zebra"]), vectors=table)
    (tmp_path / "v.txt").write_text(
        "3 4\n" + "".join(f"{w} {' '.join(map(str, row))}\n" for w, row in zip(["a", "b", "zebra"], table, strict=True))
    )
    from gensim.models import KeyedVectors

    keyed = KeyedVectors.load_word2vec_format(str(tmp_path / "v.txt"))
    keyed.save_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    keyed.save(str(tmp_path / "v.kv"))
    a, b = (read_vectors(tmp_path / name, ["a", "b", "c"]) for name in ("v.npz", "v.txt"))
    assert read_vectors(tmp_path / "v.bin", ["a", "b"]).digest == b.digest
    assert read_vectors(tmp_path / "v.kv", ["a", "b"], trust_pickle=True).digest == b.digest
    with pytest.raises(DataError, match="--trust-pickle"):
        read_vectors(tmp_path / "v.kv", ["a", "b"])
    assert list(a.index) == list(b.index) == ["a", "b"] and a.dim == 4
    np.testing.assert_allclose(a.table, b.table, rtol=1e-5)


def test_files_that_are_no_vectors(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickled.npz", words=np.array(["a", None], dtype=object), vectors=np.zeros((2, 3)))
    np.savez(tmp_path / "nan.npz", words=np.array(["a", "b"]), vectors=np.full((2, 3), np.nan))
    np.savez(tmp_path / "short.npz", words=np.array(["a", "b", "c"]), vectors=np.zeros((2, 3)))
    (tmp_path / "half.bin").write_bytes(b"10 300\nthe \x00\x01")
    (tmp_path / "text.txt").write_text("no vectors here")
    for name in ("pickled.npz", "nan.npz", "short.npz", "half.bin", "text.txt", "missing.npz"):
        with pytest.raises(DataError):
            read_vectors(tmp_path / name, ["a", "b"])


@pytest.mark.parametrize(
    ("train", "says"),
    [
        ([("a film", 1)] * 30, "one class only"),
        ([*MANY, ("", 0), ("", 1)], None),
    ],
)
def test_data_sets_that_teach_nothing(
    train: list[tuple[str, int]], says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"{text} {i}" if text else "", label) for i, (text, label) in enumerate(train)]
    monkeypatch.setattr(module, "load_corpus", lambda *_: corpus(rows, [("t", 0), ("u", 1)]))
    config: RunConfig = configure("mini", "dense")
    if says is None:
        assert load_dataset(config.data).counts["train_texts"] > 100  # empty texts carry a label and nothing else
        return
    with pytest.raises(DataError, match=says):
        load_dataset(config.data)
