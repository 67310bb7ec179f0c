"""The data set in its three forms, and a server on this machine that plays the official one."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eqspike_seq.data import download, imdb
from eqspike_seq.data.cache import Found, cache_dir, search_places
from eqspike_seq.data.download import Source
from eqspike_seq.data.imdb import find_imdb, load_imdb
from eqspike_seq.errors import DataError

REVIEWS = {
    f"{folder}/{number}_1.txt": f"{folder} review {number}".encode()
    for folder in ("train/neg", "train/pos", "train/unsup", "test/neg", "test/pos")
    for number in (0, 1, 2)
}
TAR = "aclImdb_v1.tar.gz"
TABLES = [
    ({"text": ["a", "b"]}, "no column 'label'"),
    ({"review": ["a", "b"], "label": [0, 1]}, "no column 'text'"),
    ({"text": pa.array([b"\xff", b"b"]).view(pa.string()), "label": [0, 1]}, "codec can't decode"),
    ({"text": ["a", None], "label": [0, 1]}, "row 1 has text None"),
    ({"text": ["a", "b"], "label": [0, None]}, "row 1 has label None"),
    ({"text": ["a", "b"], "label": [0, 7]}, "row 1 has label 7"),
    ({"text": ["a", "b"], "label": [1, 1]}, "1 class"),
    ({"text": pa.array([], pa.string()), "label": pa.array([], pa.int8())}, "0 texts"),
]
Serve = Callable[[bytes], Source]


@pytest.fixture(autouse=True)
def no_other_data(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "real_data" not in request.fixturenames:
        monkeypatch.delenv("EQSPIKE_DATA", raising=False)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    monkeypatch.setattr(download.time, "sleep", lambda _: None)


def tarball(changes: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in extra:
            archive.addfile(member)
        for name, content in reversed((REVIEWS | changes).items()):
            info = tarfile.TarInfo(f"aclImdb/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


GOOD = tarball({})
GONE = Source("http://127.0.0.1:9/nothing", TAR, len(GOOD), hashlib.sha256(GOOD).hexdigest())
HALF = GOOD[: len(GOOD) // 2]
DAMAGED = {"half": HALF, "no archive": b"not an archive", "empty": b"", "zeros": GOOD[:40] + b"\0" * 40}
WRONG = {"half a file": HALF, "HTML": b"<html>moved</html>", "wrong checksum": GOOD[:-1] + b"x"}


def parquet(folder: Path, train: dict[str, Any], test: dict[str, Any] | None = None) -> None:
    pq.write_table(pa.table(train), folder / "imdb_train.parquet")
    pq.write_table(pa.table(test or {"text": ["a", "b"], "label": [0, 1]}), folder / "imdb_test.parquet")


def unpack(folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(GOOD)) as archive:
        archive.extractall(folder, filter="data")


def test_archive_folder_and_parquet_are_one_corpus(tmp_path: Path) -> None:
    tar, folder, table = (tmp_path / name for name in ("tar", "folder", "table"))
    for place in (tar, folder, table):
        place.mkdir()
    (tar / TAR).write_bytes(GOOD)
    unpack(folder)
    first = load_imdb(tar)
    assert first.train.texts[::3] == ["train/neg review 0", "train/pos review 0"]
    assert first.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and len(first.unlabelled) == 3
    assert (first.counts["train_texts"], first.counts["test_texts"]) == (6, 6)
    parquet(table, *({"text": part.texts, "label": part.labels} for part in (first.train, first.test)))
    pq.write_table(pa.table({"text": first.unlabelled}), table / "imdb_unsup.parquet")
    for place in (tar / TAR, folder, folder / "aclImdb", table):
        other = load_imdb(place)
        assert other.train.texts == first.train.texts and other.test.texts == first.test.texts
        assert np.array_equal(other.train.labels, first.train.labels) and other.unlabelled == first.unlabelled


def test_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_dir() / "data"
    assert search_places(None) == [("cache", cache)] and find_imdb(None) is None
    monkeypatch.setenv("EQSPIKE_DATA", str(tmp_path))
    assert search_places(tmp_path) == [("--data-dir", tmp_path), ("EQSPIKE_DATA", tmp_path), ("cache", cache)]
    unpack(tmp_path)
    assert find_imdb(None) == Found("folder", tmp_path / "aclImdb", "EQSPIKE_DATA")
    with pytest.raises(DataError, match="--data-dir"):
        load_imdb(tmp_path / "nowhere")


def test_odd_members(tmp_path: Path) -> None:
    """Links and climbing names are passed over; bytes that are not UTF-8 are replaced and counted."""
    link = tarfile.TarInfo("aclImdb/train/pos/9_9.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    odd = {"../../train/pos/8_9.txt": b"out", "train/pos/0_1.txt": b"caf\xe9"}
    (tmp_path / TAR).write_bytes(tarball(odd, (link,)))
    corpus = load_imdb(tmp_path)
    assert len(corpus.train) == 6 and not list(tmp_path.parent.rglob("8_9.txt"))
    assert corpus.counts["undecodable_texts"] == 1 and corpus.train.texts[3] == "caf\ufffd"


@pytest.mark.parametrize("limit", ["LARGEST_REVIEW", "LARGEST_ARCHIVE"])
def test_reviews_beyond_any_size(tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imdb, limit, 10)
    (tmp_path / TAR).write_bytes(GOOD)
    with pytest.raises(DataError, match="larger than any review"):
        load_imdb(tmp_path)


def test_a_folder_with_a_review_beyond_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack(tmp_path)
    (tmp_path / "aclImdb/train/pos/9_9.txt").write_bytes(b"a" * 200)
    monkeypatch.setattr(imdb, "LARGEST_REVIEW", 199)
    with pytest.raises(DataError, match="9_9.txt is larger than any review"):
        load_imdb(tmp_path)


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("file", [TAR, "imdb_train.parquet"])
def test_damaged_files(tmp_path: Path, file: str, content: bytes) -> None:
    if file != TAR:
        parquet(tmp_path, {"text": ["a", "b"], "label": [0, 1]})
        content = (tmp_path / file).read_bytes()[:100] if content == HALF else content
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=f"{file}.* whole"):
        load_imdb(tmp_path)


@pytest.mark.parametrize(("train", "says"), TABLES)
def test_tables_that_will_not_do(tmp_path: Path, train: dict[str, Any], says: str) -> None:
    parquet(tmp_path, train)
    with pytest.raises(DataError, match=says):
        load_imdb(tmp_path)


@pytest.fixture
def serve() -> Iterator[Serve]:
    class Handler(BaseHTTPRequestHandler):
        body = b""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(GOOD if self.body == HALF else self.body)))
            self.end_headers()
            self.wfile.write(self.body)

    def start(body: bytes) -> Source:
        Handler.body = body
        return replace(GONE, url=f"http://127.0.0.1:{server.server_port}/{TAR}")

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield start
        server.shutdown()


def kept() -> list[str]:
    return [file.name for file in (cache_dir() / "data").iterdir() if not file.name.endswith(".lock")]


def test_download_is_kept_and_found_again(serve: Serve) -> None:
    assert len(load_imdb(source=serve(GOOD)).train) == 6 and kept() == [TAR]
    assert len(load_imdb(source=GONE).train) == 6
    (cache_dir() / "data" / TAR).write_bytes(tarball({"train/pos/0_1.txt": b"changed"}))
    with pytest.raises(DataError, match="has SHA-256 .* expected"):
        load_imdb(source=GONE)


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_wrong_download_is_refused_and_nothing_kept(serve: Serve, body: bytes) -> None:
    with pytest.raises(DataError, match="Nothing was kept"):
        load_imdb(source=serve(body))
    assert kept() == []


def test_without_network_it_says_where_it_looked_and_what_to_do() -> None:
    with pytest.raises(DataError) as error:
        load_imdb(source=GONE)
    places = [f"cache {cache_dir() / 'data'}", "imdb_train.parquet", "imdb_test.parquet", "aclImdb/", TAR]
    for part in (*places, "--data-dir", "EQSPIKE_DATA", "eqspike run mini"):
        assert part in str(error.value)


def test_the_real_reviews(real_data: Path) -> None:
    if not (real_data / "imdb_train.parquet").is_file():
        pytest.skip(f"no imdb_train.parquet in EQSPIKE_DATA ({real_data})")
    corpus = load_imdb(real_data)
    assert (len(corpus.train), len(corpus.test), len(corpus.unlabelled)) == (25_000, 25_000, 50_000)
    assert corpus.train.labels.sum() == corpus.test.labels.sum() == 12_500
