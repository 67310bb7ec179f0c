"""Pairs of texts: SNLI in its forms, two columns of one's own, and the whole path to an answer."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from analysis.folders import open_run
from eqspike.build import configure
from eqspike.commands.export import trained
from eqspike.prediction import Predictor
from eqspike_seq.data import download
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset, shape_of
from eqspike_seq.data.download import Source
from eqspike_seq.data.encoding import Encoded
from eqspike_seq.data.own import load_own
from eqspike_seq.data.snli import CLASSES, find_snli, load_snli
from eqspike_seq.errors import ConfigError, DataError, RunError
from eqspike_seq.learning.closeup import attention_of
from eqspike_seq.model.network import Network
from eqspike_seq.relaxation.dense import DenseBackend
from tests.conftest import command

ZIP = "snli_1.0.zip"
PLACES, DOINGS = ("park", "street", "garden"), ("sleeps", "eats", "runs", "sings")
Pair = tuple[str, str, str]


@pytest.fixture(autouse=True)
def no_other_data(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "real_data" not in request.fixturenames:
        monkeypatch.delenv("EQSPIKE_DATA", raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda _: None)


def pairs(number: int, split: str) -> list[Pair]:
    """The second text repeats, denies or leaves open what the first one says."""
    found = []
    for i in range(number):
        doing, place = DOINGS[i % 4], PLACES[i // 4 % 3]
        first = f"{split} man {i} {doing} in the {place}"
        seconds = (f"a man {doing}", f"a man {doing} with a friend", f"nobody {doing}")
        found.append((first, seconds[i % 3], CLASSES[i % 3]))
    return found


def json_lines(rows: list[Pair], undecided: int = 2) -> bytes:
    every = [*rows, *[("one", "another", "-")] * undecided]
    keys = ("sentence1", "sentence2", "gold_label")
    return "".join(json.dumps({"pairID": "7", **dict(zip(keys, row, strict=True))}) + "\n" for row in every).encode()


SPLITS = {"train": pairs(120, "young"), "dev": pairs(30, "old"), "test": pairs(30, "tall")}


def archive(changes: dict[str, bytes] | None = None) -> bytes:
    members = {f"snli_1.0/snli_1.0_{name}.jsonl": json_lines(rows) for name, rows in SPLITS.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {"__MACOSX/x": b"", "../climbs.txt": b"out", **members, **(changes or {})}.items():
            file.writestr(name, content)
    return buffer.getvalue()


GOOD = archive()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Source]:
    """The archive on a server of this machine."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / ZIP).write_bytes(GOOD)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{ZIP}"
        yield Source(url, ZIP, len(GOOD), hashlib.sha256(GOOD).hexdigest())
        server.shutdown()


def test_the_official_archive_is_fetched_checked_and_run(
    served: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = load_snli(source=served)
    assert corpus.train.texts[1] == "young man 1 eats in the park\x1fa man eats with a friend"
    assert corpus.train.labels.tolist() == [0, 1, 2] * 40 and corpus.inputs == 2
    assert [len(part) for part in (corpus.train, corpus.validation or [], corpus.test)] == [120, 30, 30]
    assert {name: count for name, count in corpus.counts.items() if "without" in name} == {
        f"{name}_pairs_without_label": 2 for name in SPLITS
    }
    kept = tmp_path / "cache" / "data" / ZIP
    assert kept.read_bytes() == GOOD and not list(tmp_path.rglob("climbs.txt"))
    kept.write_bytes(GOOD + b"x")
    with pytest.raises(DataError, match="SHA-256"):
        load_snli(source=served)
    kept.write_bytes(GOOD)
    monkeypatch.setattr("eqspike_seq.data.snli.OFFICIAL", served)
    monkeypatch.setattr(load_snli, "__defaults__", (None, served))
    monkeypatch.setattr(find_snli, "__defaults__", (served,))
    command("run", "snli", *quick(tmp_path / "run"))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["n_test"] == 30 and result["complete"]


def quick(out: Path) -> list[str]:
    """Flags of a run of a second or two."""
    given = "--tokens 8 --dim 8 --embeddings random --min-count 1 --hidden 16 --batch 10 --epochs 2"
    return [*given.split(), "--learning-rate", "1e-2", "--out", str(out)]


def test_archive_folder_and_parquet_are_one_corpus(tmp_path: Path) -> None:
    (tmp_path / ZIP).write_bytes(GOOD)
    first = load_snli(tmp_path)
    (tmp_path / "a" / "snli_1.0").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    for name, rows in SPLITS.items():
        (tmp_path / "a" / "snli_1.0" / f"snli_1.0_{name}.jsonl").write_bytes(json_lines(rows))
        a, b, labels = zip(*rows, ("one", "another", "-"), strict=True)
        columns = {"premise": a, "hypothesis": b, "label": [*map(CLASSES.index, labels[:-1]), -1]}
        pq.write_table(pa.table(columns), tmp_path / "b" / f"snli_{name}.parquet")
    for place in (tmp_path / ZIP, tmp_path / "a", tmp_path / "a" / "snli_1.0", tmp_path / "b"):
        other = load_snli(place)
        assert other.train.texts == first.train.texts and other.test.texts == first.test.texts
        assert (other.train.labels == first.train.labels).all()
    assert other.counts["dev_pairs_without_label"] == 1 and "part" not in other.source
    (tmp_path / "b" / "snli_train.parquet").rename(tmp_path / "b" / "snli_train_partial.parquet")
    assert "part of the training pairs" in load_snli(tmp_path / "b").source


DEV = "snli_1.0/snli_1.0_dev.jsonl"
BAD = {
    "half": (GOOD[: len(GOOD) // 2], "not a whole archive"),
    "no archive": (b"<html>", "not a whole archive"),
    "odd label": (archive({DEV: json_lines([("a", "b", "maybe")])}), "row 1 has the label 'maybe'"),
    "one class": (archive({DEV: json_lines([("a", "b", "neutral")])}), "1 class"),
    "no JSON": (archive({DEV: b"{"}), "row 1 is not JSON"),
    "no UTF-8": (archive({DEV: b"\xff"}), "not a whole archive"),
    "half a character": (archive({DEV: json_lines([("a \ud800", "b", "neutral")])}), "row 1 holds half a character"),
    "no text": (
        archive({DEV: json.dumps({"sentence1": 7, "sentence2": "b", "gold_label": "neutral"}).encode()}),
        "row 1",
    ),
}


@pytest.mark.parametrize(("content", "says"), BAD.values(), ids=BAD.keys())
def test_archives_that_will_not_do(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / ZIP).write_bytes(content)
    with pytest.raises(DataError, match=says):
        load_snli(tmp_path)


@pytest.mark.parametrize(("limit", "says"), [("snli.LARGEST_FILE", "unpacks to"), ("tables.LARGEST_LINE", "is longer")])
def test_a_split_beyond_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, says: str) -> None:
    monkeypatch.setattr(f"eqspike_seq.data.{limit}", 100)
    (tmp_path / ZIP).write_bytes(GOOD)
    with pytest.raises(DataError, match=says):
        load_snli(tmp_path)


def test_both_texts_keep_their_places() -> None:
    """x of a pair is (2, N, D): each text by itself, padded by itself, words left out of each."""
    part = Encoded.of(np.array([1, 2, 3, 4, 5], dtype=np.int32), np.array([2, 1, 0, 2]), np.array([0, 1]), 2)
    table = torch.arange(6.0).unsqueeze(1)
    gather, rows = Batches(table, 2, "head"), np.array([1, 0])
    assert gather.ids(part, rows).tolist() == [[[0, 0], [4, 5]], [[1, 2], [3, 0]]]
    batch = gather(part, rows)
    assert batch.x.shape == (2, 2, 2, 1) and batch.x[1, 0, :, 0].tolist() == [1, 2]
    assert batch.mask.tolist() == [[[False, False], [True, True]], [[True, True], [True, False]]]
    assert part.lengths().tolist() == [2, 2] and batch.labels.tolist() == [1, 0]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of one's own with two columns of text, one cell with the character that stands between texts."""
    rows = [(a.replace("man 3 ", "man\x1f3 "), b, label) for a, b, label in pairs(90, "young")]
    columns = dict(zip(("claim", "said", "verdict"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "claims.parquet")
    return tmp_path / "claims.parquet"


def test_two_columns_make_pairs(own: Path) -> None:
    corpus = load_own(own, ("claim", "said"), "verdict")
    assert corpus.inputs == 2 and all(text.count("\x1f") == 1 for text in corpus.train.texts)
    columns = {name: [*own_columns(own)[name][:30], None] for name in ("claim", "said", "verdict")}
    columns["said"][4] = None
    pq.write_table(pa.table(columns), own)
    said: list[str] = []
    assert load_own(own, ("claim", "said"), "verdict", False, said.append).counts["texts"] == 29
    assert said == ["claims.parquet: left out 1 of 30 rows with a blank text or label: row 5"]
    with pytest.raises(DataError, match="1 row has no text or no label .*row 5"):
        load_own(own, ("claim", "said"), "verdict", strict=True)
    with pytest.raises(DataError, match="column 'sad'"):
        load_own(own, ("claim", "sad"), "verdict")


def own_columns(path: Path) -> dict[str, list[Any]]:
    return dict(pq.read_table(path).to_pydict())


RATES = "--backend spiking --neuron if"


@pytest.mark.parametrize("flags", ["--backend dense", "--network tokens", "--backend spiking", RATES])
def test_from_file_to_answer(own: Path, tmp_path: Path, flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The second text decides here, so an ordinary network learns it; the answer to a pair is the run's own."""
    out = tmp_path / "run"
    given = ["--text-column", "claim", "said", "--label-column", "verdict", "--precision", "float32", *flags.split()]
    if flags == RATES:
        given += ["--free-steps", "40", "--nudge-steps", "40", "--window", "20", "--epochs", "2"]
    command("run", own, *given, "--batch", "8", "--out", out)
    result = json.loads((out / "result.json").read_text())
    assert result["test_accuracy"] >= 0.9 or flags == RATES
    tokens_ask = flags == "--network tokens"  # a projection layer for each way; else a token layer for two
    predictor = Predictor.open(out)
    data = load_dataset(predictor.config.data)
    saved = pq.read_table(out / "predictions.parquet").to_pydict()
    for row, text in enumerate(data.test_texts):
        found = predictor.predict(*text.split("\x1f"), explain=True)
        assert predictor.classes.index(str(found.label)) == saved["predicted"][row]
        assert found.words[: found.first] == tuple(text.split("\x1f")[0].split())
        assert sum(found.attention) == pytest.approx(len(found.read), rel=1e-4)
    samples, tokens = open_run(out).samples, 2 * predictor.config.data.rows
    assert samples["attention"].shape[1:] == (tokens, tokens) and samples["mask"].shape[1] == tokens
    looks = samples["attention"][samples["mask"]].sum(-1)
    assert np.allclose(looks, 2 if tokens_ask else 1, atol=1e-2)  # of each token, one in each key text it asks
    dim = predictor.config.settings()["dim"]
    assert trained(out)[1].asking.shape == (4 if tokens_ask else 1, dim, dim)
    capsys.readouterr()
    command("predict", out, "young man 1 eats in the park", "nobody eats", "--explain")
    assert "contradiction" in capsys.readouterr().out.split("(")[0] or flags == RATES
    four = ("young man 1 eats in the park", "nobody eats", "young man 2 eats in the park", "a man eats")
    command("predict", out, *four)
    answers = capsys.readouterr().out.splitlines()
    assert len(answers) == 4 and all("decided after" in cost for cost in answers[1::2])
    for number in (1, 3):
        with pytest.raises(SystemExit):
            command("predict", out, *four[:number])
        assert f"got {number} text(s), expected 2" in capsys.readouterr().err
    with pytest.raises(RunError, match="expected 2"):
        predictor.predict("one text only")


def test_projections_can_be_left_out() -> None:
    config = configure("snli", "dense", projections=("ab", "bb"))
    assert config.network.layout == ((0, 1), (1, 1)) and configure("mini", "dense").network.layout == ((0, 0),)
    for wrong in ({"projections": ()}, {"projections": ("ab", "ab")}, {"text_column": ("a", "b")}):
        with pytest.raises(ConfigError):
            configure("snli", "dense", **wrong)
    with pytest.raises(ConfigError, match="--network: got 'pooling', expected one of tokens, token-layer"):
        configure("snli", "dense", network="pooling")
    with pytest.raises(ConfigError, match="pairs of texts only"):
        configure("imdb", "dense", projections=("ab",))


def test_attention_of_pairs_is_where_its_projection_puts_it() -> None:
    """A block of the whole matrix for each projection; where there is none, nothing."""
    generator = torch.Generator().manual_seed(0)
    config = configure("snli", tokens=3, hidden=(4,), learning_rate=(1e-3,), projections=("ab",))
    data = type("Data", (), {"embeddings": type("E", (), {"dim": 2}), "classes": CLASSES})
    network = Network.create(shape_of(config, data), generator)  # type: ignore[arg-type]
    gather = Batches(torch.randn(6, 2, generator=generator), 3, "head")
    batch = gather.one(np.array([1, 2, 3], dtype=np.int32), np.array([1, 2]))
    attention = attention_of(network, batch, DenseBackend().free(network, batch))[0]
    assert attention.shape == (6, 6) and attention[0, 3:5].sum() == pytest.approx(1)
    assert attention[3:].abs().sum() == 0 and attention[:, :3].abs().sum() == 0


def test_the_real_pairs(real_data: Path) -> None:
    if not (real_data / "snli_test.parquet").is_file():
        pytest.skip(f"no snli_test.parquet in EQSPIKE_DATA ({real_data})")
    corpus = load_snli(real_data)
    assert corpus.validation is not None
    assert (len(corpus.validation), len(corpus.test)) == (9_842, 9_824)
    assert np.bincount(corpus.test.labels).tolist() == [3_368, 3_219, 3_237]
