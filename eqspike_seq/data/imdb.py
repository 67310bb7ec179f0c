"""The IMDB Large Movie Review Dataset (Maas et al., ACL 2011): 25,000 + 25,000 reviews, 50,000 unlabelled.

Read from the official ``aclImdb_v1.tar.gz`` (member by member, never unpacked to disk), from the folder
``aclImdb/``, or from Parquet files ``imdb_train``, ``imdb_test`` and, where there is one, ``imdb_unsup``.
"""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eqspike_seq.data.cache import Found, search_places
from eqspike_seq.data.corpus import Corpus, Split
from eqspike_seq.data.download import Source, fetched
from eqspike_seq.data.tables import ROWS_AT_ONCE
from eqspike_seq.errors import DataError

OFFICIAL = Source(
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    "aclImdb_v1.tar.gz",
    84_125_825,
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
MEMBER = re.compile(r"(?:\./)?aclImdb/(train|test)/(neg|pos|unsup)/(\d+)_\d+\.txt")
LARGEST_REVIEW, LARGEST_ARCHIVE = 2_000_000, 1_000_000_000  # bytes; the official ones are far smaller


def find_imdb(data_dir: Path | None, source: Source = OFFICIAL) -> Found | None:
    """The first place that holds the data set in one of its forms: parquet, folder or tar."""
    for place, folder in search_places(data_dir):
        if (folder / "imdb_train.parquet").is_file() and (folder / "imdb_test.parquet").is_file():
            return Found("parquet", folder, place)
        for candidate in (folder / "aclImdb", folder):
            if (candidate / "train" / "pos").is_dir() and (candidate / "test" / "pos").is_dir():
                return Found("folder", candidate, place)
        for file in (folder / source.file, folder):
            if file.is_file():
                return Found("tar", file, place)
    return None


def load_imdb(data_dir: Path | None = None, source: Source = OFFICIAL) -> Corpus:
    """The data set, found or fetched. Raises DataError where it cannot be had or read.

    An archive in the cache must have the SHA-256 of ``source``; one from elsewhere is taken as it is.
    """
    if (found := find_imdb(data_dir, source)) is None:
        forms = f"imdb_train.parquet and imdb_test.parquet, aclImdb/ or {source.file}"
        found = Found("tar", fetched("imdb", forms, data_dir, source), "download")
    if found.kind == "parquet":
        return read_parquet(found)
    if found.kind == "folder":
        return _collect(_folder_members(found.path), found)
    if found.place == "cache":
        source.check(found.path)
    return _collect(_tar_members(found.path, source), found)


def read_parquet(found: Found) -> Corpus:
    """Parquet files with the columns ``text`` (string) and ``label`` (0 or 1), DataError where not so."""
    train, test = _table(found.path / "imdb_train.parquet"), _table(found.path / "imdb_test.parquet")
    unlabelled = found.path / "imdb_unsup.parquet"
    return _corpus(train, test, _column(unlabelled, "text") if unlabelled.is_file() else [], {}, found)


def _table(path: Path) -> Split:
    """Texts and labels. Raises DataError at the first row that will not do."""
    texts, labels = _column(path, "text"), _column(path, "label")
    for row, label in enumerate(labels):
        if label not in (0, 1):
            raise DataError(f"{path}: row {row} has label {label!r}, expected 0 (negative) or 1 (positive)")
    return Split(texts, np.array(labels, dtype=np.int64))


def _column(path: Path, name: str) -> list[Any]:
    """One column. Raises DataError where the file is damaged, the column missing, a cell of another type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        values: list[Any] = []
        with pq.ParquetFile(path) as file:
            names, size = file.schema_arrow.names, 0
            if name not in names:
                raise DataError(f"{path} has no column {name!r}: expected text and label, got {', '.join(names)}")
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[name]):
                values += batch[name].to_pylist()
                size += batch.nbytes
                if size > LARGEST_ARCHIVE:
                    raise DataError(f"{path} is larger than any review set: it unpacks to {size:,} bytes")
    except DataError:
        raise
    except Exception as error:  # Arrow lets many kinds through
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a whole Parquet file of UTF-8 text ({reason}). Replace it.") from error
    pa.default_memory_pool().release_unused()
    wanted, expected = (str, "a string") if name == "text" else (int, "0 or 1")
    for row, value in enumerate(values):
        if not isinstance(value, wanted):
            raise DataError(f"{path}: row {row} has {name} {value!r}, expected {expected}")
    return values


class _Limited(gzip.GzipFile):
    """What is unpacked, as far as ``LARGEST_ARCHIVE``; beyond it DataError."""

    total = 0

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, or fewer at the end."""
        content = super().read(size)
        self.total += len(content)
        if self.total > LARGEST_ARCHIVE:
            raise DataError(f"{self.name} is larger than any review set: it unpacks to over {LARGEST_ARCHIVE:,} bytes")
        return content


def _tar_members(path: Path, source: Source) -> Iterator[tuple[str, bytes]]:
    """(name, content) of reviews; all else, links too, is passed over. DataError: damaged or too large."""
    try:
        with _Limited(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if not member.isfile() or not MEMBER.fullmatch(member.name):
                    continue
                if member.size > LARGEST_REVIEW:
                    raise DataError(f"{path}: {member.name} is larger than any review; {member.size:,} bytes")
                if (file := archive.extractfile(member)) is not None:
                    yield member.name, file.read()
            while stream.read(1 << 20):  # to the end, where gzip checks length and checksum
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        advice = f"Delete it and download it again; expected SHA-256 {source.sha256}."
        raise DataError(f"{path} is not a whole archive ({error}). {advice}") from error


def _folder_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name as in the archive, content) of reviews. Raises DataError where one cannot be read or is too large."""
    for kind in ("train/neg", "train/pos", "train/unsup", "test/neg", "test/pos"):
        for file in sorted((path / kind).glob("*.txt")):
            try:
                with file.open("rb") as stream:
                    content = stream.read(LARGEST_REVIEW + 1)
            except OSError as error:
                raise DataError(f"{file} cannot be read: {error.strerror}") from error
            if len(content) > LARGEST_REVIEW:
                raise DataError(f"{file} is larger than any review; over {LARGEST_REVIEW:,} bytes")
            yield f"aclImdb/{kind}/{file.name}", content


def _collect(reviews: Iterable[tuple[str, bytes]], found: Found) -> Corpus:
    """Reviews into splits, each ordered by class, then by number, whatever order the archive has."""
    rows: dict[str, list[tuple[str, int, str]]] = {"train": [], "test": [], "unsup": []}
    undecodable = 0
    for name, content in reviews:
        if (match := MEMBER.fullmatch(name)) is None:
            continue
        split, kind, number = match.groups()
        text = content.decode(errors="replace")
        undecodable += text.encode() != content
        rows["unsup" if kind == "unsup" else split].append((kind, int(number), text))

    def split_of(name: str) -> Split:
        ordered = sorted(rows[name])
        labels = np.array([kind == "pos" for kind, _, _ in ordered], dtype=np.int64)
        return Split([text for _, _, text in ordered], labels)

    unlabelled = [text for _, _, text in sorted(rows["unsup"])]
    return _corpus(split_of("train"), split_of("test"), unlabelled, {"undecodable_texts": undecodable}, found)


def _corpus(train: Split, test: Split, unlabelled: list[str], counts: dict[str, int], found: Found) -> Corpus:
    """The corpus with its counts. Raises DataError where a split lacks a class."""
    for name, part in (("training", train), ("test", test)):
        if (classes := len(np.unique(part.labels))) < 2:
            has = f"the {name} split holds {len(part):,} texts of {classes} class(es)"
            raise DataError(f"{found.path}: {has}, expected both classes")
    return Corpus(
        "imdb",
        ("negative", "positive"),
        train,
        test,
        unlabelled=unlabelled,
        source=f"{found.kind} ({found.place})",
        counts={**counts, "train_texts": len(train), "test_texts": len(test)},
    )
