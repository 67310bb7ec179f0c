"""The data set in its three forms, and a server on this machine that plays the official one, well and badly."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eqspike_seq.data import download
from eqspike_seq.data.download import Source
from eqspike_seq.data.imdb import OFFICIAL, load_imdb
from eqspike_seq.data.locate import cache_dir
from eqspike_seq.errors import DataError

REVIEWS = {
    f"{split}/{kind}/{number}_{dict(pos=8, neg=2, unsup=0)[kind]}.txt": f"{kind} review {number} {split}"
    for split in ("train", "test")
    for kind in ("neg", "pos", "unsup")
    for number in (0, 1, 2)
    if (split, kind) != ("test", "unsup")
}


@pytest.fixture(autouse=True)
def no_other_data(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "real_data" not in request.fixturenames:
        monkeypatch.delenv("EQSPIKE_DATA", raising=False)
    monkeypatch.setattr(download, "ATTEMPTS", 2)


def tarball(reviews: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in extra:
            archive.addfile(member)
        for name, content in reversed(reviews.items()):
            info = tarfile.TarInfo(f"aclImdb/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


GOOD = tarball({name: text.encode() for name, text in REVIEWS.items()})


def parquet(folder: Path, train: dict[str, list], test: dict[str, list] | None = None) -> None:  # type: ignore[type-arg]
    pq.write_table(pa.table(train), folder / "imdb_train.parquet")
    pq.write_table(pa.table(test or {"text": ["a", "b"], "label": [0, 1]}), folder / "imdb_test.parquet")


def test_archive_folder_and_parquet_are_one_corpus(tmp_path: Path) -> None:
    tar, folder, table = (tmp_path / name for name in ("tar", "folder", "table"))
    for place in (tar, folder, table):
        place.mkdir()
    (tar / "aclImdb_v1.tar.gz").write_bytes(GOOD)
    for name, text in REVIEWS.items():
        file = folder / "aclImdb" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    rows = {
        s: [(REVIEWS[n], int("pos" in n)) for n in sorted(REVIEWS) if n.startswith(s) and "unsup" not in n]
        for s in ("train", "test")
    }
    parquet(table, *({"text": [t for t, _ in rows[s]], "label": [y for _, y in rows[s]]} for s in ("train", "test")))
    a, b, c = (load_imdb(place) for place in (tar, folder, table))
    for other in (b, c):
        assert other.train.texts == a.train.texts and other.test.texts == a.test.texts
        assert np.array_equal(other.train.labels, a.train.labels)
    assert a.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and a.unlabelled == b.unlabelled and len(a.unlabelled) == 3
    assert load_imdb(tar / "aclImdb_v1.tar.gz").train.texts == a.train.texts


def test_links_and_climbing_members_are_not_followed(tmp_path: Path) -> None:
    link = tarfile.TarInfo("aclImdb/train/pos/9_9.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    reviews = {name: text.encode() for name, text in REVIEWS.items()} | {"../../escaped.txt": b"out"}
    (tmp_path / "aclImdb_v1.tar.gz").write_bytes(tarball(reviews, (link,)))
    assert len(load_imdb(tmp_path).train) == 6
    assert not (tmp_path.parent / "escaped.txt").exists()


def test_undecodable_bytes_are_counted(tmp_path: Path) -> None:
    reviews = {name: text.encode() for name, text in REVIEWS.items()}
    reviews["train/pos/0_8.txt"] = b"caf\xe9"
    (tmp_path / "aclImdb_v1.tar.gz").write_bytes(tarball(reviews))
    corpus = load_imdb(tmp_path)
    assert corpus.counts["undecodable_texts"] == 1 and "caf\ufffd" in corpus.train.texts


@pytest.mark.parametrize(
    "content", [GOOD[: len(GOOD) // 2], b"not an archive", b"", GOOD[:40] + b"\0" * 40 + GOOD[80:]]
)
def test_damaged_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "aclImdb_v1.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match="aclImdb_v1.tar.gz"):
        load_imdb(tmp_path)


@pytest.mark.parametrize(
    ("train", "says"),
    [
        ({"text": ["a", "b"]}, "no column 'label'"),
        ({"review": ["a", "b"], "label": [0, 1]}, "no column 'text'"),
        ({"text": ["a", None], "label": [0, 1]}, "row 1 has text None"),
        ({"text": ["a", "b"], "label": [0, None]}, "row 1 has label None"),
        ({"text": ["a", "b"], "label": [0, 7]}, "row 1 has label 7"),
        ({"text": ["a", "b"], "label": [1, 1]}, "1 class"),
        ({"text": pa.array([], pa.string()), "label": pa.array([], pa.int8())}, "0 texts"),
    ],
)
def test_tables_that_will_not_do(tmp_path: Path, train: dict[str, list], says: str) -> None:  # type: ignore[type-arg]
    parquet(tmp_path, train)
    with pytest.raises(DataError, match=says):
        load_imdb(tmp_path)


def test_half_a_parquet_file(tmp_path: Path) -> None:
    parquet(tmp_path, {"text": ["a", "b"], "label": [0, 1]})
    file = tmp_path / "imdb_train.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        load_imdb(tmp_path)


@pytest.fixture
def serve() -> Iterator[Callable[[bytes, int], Source]]:
    servers = []

    def start(body: bytes, announced: int) -> Source:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(announced))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/aclImdb_v1.tar.gz"
        return Source(address, "aclImdb_v1.tar.gz", len(GOOD), hashlib.sha256(GOOD).hexdigest())

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def kept() -> list[str]:
    return [file.name for file in (cache_dir() / "data").iterdir() if not file.name.endswith(".lock")]


def test_download_is_kept_and_found_again(serve: Callable[[bytes, int], Source]) -> None:
    source = serve(GOOD, len(GOOD))
    assert len(load_imdb(source=source).train) == 6
    assert kept() == ["aclImdb_v1.tar.gz"]
    gone = Source("http://127.0.0.1:9/nothing", source.file, source.size, source.sha256)
    assert len(load_imdb(source=gone).train) == 6


@pytest.mark.parametrize(
    "body",
    [GOOD[: len(GOOD) // 2], b"<html>moved</html>", GOOD[:-1] + b"x"],
    ids=["half a file", "HTML", "wrong checksum"],
)
def test_wrong_download_is_refused_and_nothing_kept(
    serve: Callable[[bytes, int], Source], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    source = serve(body, len(GOOD) if body[:1] != b"<" else len(body))
    with pytest.raises(DataError, match="Nothing was kept"):
        load_imdb(source=source)
    assert kept() == []


def test_without_network_it_says_where_it_looked_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    gone = Source("http://127.0.0.1:9/nothing", OFFICIAL.file, OFFICIAL.size, OFFICIAL.sha256)
    with pytest.raises(DataError) as error:
        load_imdb(source=gone)
    for part in (
        str(cache_dir() / "data"),
        "imdb_train.parquet",
        "aclImdb_v1.tar.gz",
        "--data-dir",
        "EQSPIKE_DATA",
        "eqspike run mini",
    ):
        assert part in str(error.value)


def test_data_dir_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir"):
        load_imdb(tmp_path / "nowhere")


def test_the_real_reviews(real_data: Path) -> None:
    if not (real_data / "imdb_train.parquet").is_file():
        pytest.skip(f"no imdb_train.parquet in EQSPIKE_DATA ({real_data})")
    corpus = load_imdb(real_data)
    assert (len(corpus.train), len(corpus.test), len(corpus.unlabelled)) == (25_000, 25_000, 50_000)
    assert corpus.train.labels.sum() == corpus.test.labels.sum() == 12_500
