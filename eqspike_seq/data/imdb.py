"""The IMDB Large Movie Review Dataset (Maas et al., ACL 2011): 25,000 + 25,000 labelled reviews, 50,000 unlabelled.

Read from the official ``aclImdb_v1.tar.gz`` (member by member, never unpacked to disk), from the unpacked folder
``aclImdb/``, or from Parquet files ``imdb_train``, ``imdb_test`` and, where there is one, ``imdb_unsup``.
"""

import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqspike_seq.data.corpus import Corpus, Split
from eqspike_seq.data.download import Source, fetch
from eqspike_seq.data.locate import search_places
from eqspike_seq.errors import DataError

OFFICIAL = Source(
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    "aclImdb_v1.tar.gz",
    84_125_825,
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
MEMBER = re.compile(r"(?:.*/)?(train|test)/(neg|pos|unsup)/(\d+)_\d+\.txt")
LARGEST_REVIEW, LARGEST_ARCHIVE = 2_000_000, 1_000_000_000  # bytes; the official ones are far smaller
ADVICE = "Give the data with --data-dir or EQSPIKE_DATA, or try the embedded set: eqspike run mini"


@dataclass(frozen=True)
class Found:
    """Where the data set lies: ``kind`` is parquet, folder or tar; ``place`` the name of the search place."""

    kind: str
    path: Path
    place: str


def find_imdb(data_dir: Path | None, source: Source = OFFICIAL) -> Found | None:
    """The first place that holds the data set in one of its forms."""
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
    """The data set, found or downloaded. Raises DataError where it cannot be had or read."""
    found = find_imdb(data_dir, source)
    if found is None:
        looked = "; ".join(f"{name} {folder}" for name, folder in search_places(data_dir))
        try:
            found = Found("tar", fetch(source), "download")
        except DataError as error:
            raise DataError(
                f"imdb was not found. Looked in {looked}, for imdb_train.parquet and imdb_test.parquet, "
                f"aclImdb/ or {source.file}. {error} {ADVICE}"
            ) from error
    if found.kind == "parquet":
        return read_parquet(found)
    reviews = _tar_members(found.path) if found.kind == "tar" else _folder_members(found.path)
    return _collect(reviews, found)


def read_parquet(found: Found) -> Corpus:
    """Parquet files with the columns ``text`` (string) and ``label`` (0 or 1)."""
    unlabelled = found.path / "imdb_unsup.parquet"
    return _checked(
        Corpus(
            "imdb",
            ("negative", "positive"),
            _table(found.path / "imdb_train.parquet"),
            _table(found.path / "imdb_test.parquet"),
            unlabelled=_column(unlabelled, "text") if unlabelled.is_file() else [],
            source=f"{found.kind} ({found.place})",
        ),
        found,
    )


def _table(path: Path) -> Split:
    texts, labels = _column(path, "text"), _column(path, "label")
    for row, label in enumerate(labels):
        if label not in (0, 1):
            raise DataError(f"{path}: row {row} has label {label!r}, expected 0 (negative) or 1 (positive)")
    return Split(texts, np.array(labels, dtype=np.int64))


def _column(path: Path, name: str) -> list:  # type: ignore[type-arg]
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        if name not in names:
            raise DataError(f"{path} has no column {name!r}; it has {', '.join(names)}. Expected text and label.")
        values = pq.read_table(path, columns=[name])[name].to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a whole Parquet file ({reason}). Fetch it again.") from error
    pa.default_memory_pool().release_unused()
    wanted = str if name == "text" else int
    for row, value in enumerate(values):
        if not isinstance(value, wanted):
            raise DataError(
                f"{path}: row {row} has {name} {value!r}, expected {'a string' if wanted is str else '0 or 1'}"
            )
    return values


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    total = 0
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if not member.isfile() or not MEMBER.fullmatch(member.name):
                    continue
                total += member.size
                if member.size > LARGEST_REVIEW or total > LARGEST_ARCHIVE:
                    raise DataError(
                        f"{path}: {member.name} is larger than any review ({member.size:,} bytes, {total:,} in "
                        "all); this is not the official archive"
                    )
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is not a whole archive ({error}). Delete it and fetch it again; "
            f"the official one has SHA-256 {OFFICIAL.sha256}."
        ) from error


def _folder_members(path: Path) -> Iterator[tuple[str, bytes]]:
    for split in ("train", "test"):
        for kind in ("neg", "pos", "unsup"):
            for file in sorted((path / split / kind).glob("*.txt")):
                yield f"{split}/{kind}/{file.name}", file.read_bytes()


def _collect(reviews: Iterable[tuple[str, bytes]], found: Found) -> Corpus:
    """Reviews into splits, each ordered by class, then by number, whatever order the archive has."""
    rows: dict[str, list[tuple[str, int, str]]] = {"train": [], "test": [], "unsup": []}
    undecodable = 0
    for name, content in reviews:
        if (match := MEMBER.fullmatch(name)) is None:
            continue
        split, kind, number = match.groups()
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text, undecodable = content.decode(errors="replace"), undecodable + 1
        rows["unsup" if kind == "unsup" else split].append((kind, int(number), text))

    def split_of(name: str) -> Split:
        ordered = sorted(rows[name])
        return Split(
            [text for _, _, text in ordered], np.array([kind == "pos" for kind, _, _ in ordered], dtype=np.int64)
        )

    return _checked(
        Corpus(
            "imdb",
            ("negative", "positive"),
            split_of("train"),
            split_of("test"),
            unlabelled=[text for _, _, text in sorted(rows["unsup"])],
            source=f"{found.kind} ({found.place})",
            counts={"undecodable_texts": undecodable},
        ),
        found,
    )


def _checked(corpus: Corpus, found: Found) -> Corpus:
    for name, part in (("training", corpus.train), ("test", corpus.test)):
        if len(np.unique(part.labels)) < 2:
            raise DataError(
                f"{found.path}: the {name} split holds {len(part):,} texts of "
                f"{len(np.unique(part.labels))} class(es), expected both classes"
            )
    return corpus
