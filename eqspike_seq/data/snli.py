"""SNLI 1.0 (Bowman, Angeli, Potts & Manning, EMNLP 2015): pairs of sentences, 550,152 + 10,000 + 10,000.

The first, a caption, entails the second, contradicts it, or leaves it open. Read from the official ``snli_1.0.zip``
(never unpacked to disk), from the folder ``snli_1.0/`` with its JSON lines, or from Parquet files ``snli_train`` (or
``snli_train_partial``), ``snli_dev`` and ``snli_test`` with the columns premise, hypothesis and label (0, 1, 2). Pairs
on whose label the annotators did not agree are left out and counted.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eqspike_seq.data.cache import Found, search_places
from eqspike_seq.data.corpus import Corpus, Split, pair_of
from eqspike_seq.data.download import Source, fetched
from eqspike_seq.data.tables import LARGEST_FILE, Row, json_rows, read_rows, short
from eqspike_seq.errors import DataError

OFFICIAL = Source(
    "https://nlp.stanford.edu/projects/snli/snli_1.0.zip",
    "snli_1.0.zip",
    94_550_081,
    "afb3d70a5af5d8de0d9d81e2637e0fb8c22d1235c2749d83125ca43dab0dbd3e",
)
CLASSES = ("entailment", "neutral", "contradiction")
LABELS: dict[object, int] = {name: place for place, name in enumerate(CLASSES)} | {0: 0, 1: 1, 2: 2}
UNDECIDED: tuple[object, ...] = ("-", -1)  # in JSON lines, in Parquet
SPLITS = ("train", "dev", "test")
COLUMNS = {"parquet": (("premise", "hypothesis"), "label"), "jsonl": (("sentence1", "sentence2"), "gold_label")}


def find_snli(data_dir: Path | None, source: Source = OFFICIAL) -> Found | None:
    """The first place that holds the data set in one of its forms: parquet, folder or zip."""
    for place, folder in search_places(data_dir):
        if all(_parquet(folder, split) for split in SPLITS):
            return Found("parquet", folder, place)
        for candidate in (folder / "snli_1.0", folder):
            if all((candidate / f"snli_1.0_{split}.jsonl").is_file() for split in SPLITS):
                return Found("folder", candidate, place)
        for file in (folder / source.file, folder):
            if file.is_file():
                return Found("zip", file, place)
    return None


def load_snli(data_dir: Path | None = None, source: Source = OFFICIAL) -> Corpus:
    """The data set, found or fetched. Raises DataError where it cannot be had or read.

    An archive in the cache must have the SHA-256 of ``source``; one from elsewhere is taken as it is.
    """
    if (found := find_snli(data_dir, source)) is None:
        forms = f"snli_train.parquet, snli_dev.parquet and snli_test.parquet, snli_1.0/ or {source.file}"
        found = Found("zip", fetched("snli", forms, data_dir, source), "download")
    elif found.kind == "zip" and found.place == "cache":
        source.check(found.path)
    counts: dict[str, int] = {}
    train, validation, test = (_split(found, name, counts) for name in SPLITS)
    return Corpus(
        "snli",
        CLASSES,
        train,
        test,
        validation=validation,
        source=f"{_named(found)} ({found.place})",
        counts=counts,
        inputs=2,
    )


def _named(found: Found) -> str:
    """The form of the data, and whether part of it is missing."""
    partial = found.kind == "parquet" and not (found.path / "snli_train.parquet").is_file()
    return f"{found.kind}, part of the training pairs" if partial else found.kind


def _parquet(folder: Path, split: str) -> Path | None:
    """The file of a split."""
    names = (f"snli_{split}.parquet", f"snli_{split}_partial.parquet")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _rows(found: Found, split: str) -> tuple[Path, Iterator[Row]]:
    """A split's file, for messages, and its rows."""
    if found.kind == "parquet":
        path = _parquet(found.path, split)
        assert path is not None
        return path, read_rows(path, *COLUMNS["parquet"])
    name = f"snli_1.0_{split}.jsonl"
    if found.kind == "folder":
        return found.path / name, read_rows(found.path / name, *COLUMNS["jsonl"])
    return found.path / name, _zipped(found.path, f"snli_1.0/{name}")


def _zipped(path: Path, name: str) -> Iterator[Row]:
    """The rows of one member. Raises DataError where the archive is damaged, lacks it, or it is too large."""
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                raise DataError(f"{path} has no member {name}: expected the layout of {OFFICIAL.file}")
            if (size := archive.getinfo(name).file_size) > LARGEST_FILE:
                raise DataError(f"{path}: {name} unpacks to {size:,} bytes, expected at most {LARGEST_FILE:,}")
            with archive.open(name) as file, io.TextIOWrapper(file, encoding="utf-8", newline="\n") as text:
                yield from json_rows(text, path / name, *COLUMNS["jsonl"])
    except DataError:
        raise
    except Exception as error:  # zipfile lets many kinds through
        raise DataError(f"{path} is not a whole archive ({error}). Delete it and download it again.") from error


def _split(found: Found, name: str, counts: dict[str, int]) -> Split:
    """Pairs with a label, ``counts`` of those without. Raises DataError at the first row that will not do."""
    path, rows = _rows(found, name)
    texts, labels, undecided = [], [], 0
    for number, sentences, label in rows:
        if not sentences:
            continue
        if label in UNDECIDED:
            undecided += 1
            continue
        if not isinstance(label, str | int) or label not in LABELS:
            expected = f"{', '.join(CLASSES)} (0, 1, 2), or {UNDECIDED[0]!r} (-1) where there is none"
            raise DataError(f"{path}: row {number} has the label {short(label)}, expected {expected}")
        if not all(isinstance(sentence, str) for sentence in sentences):
            got = " and ".join(map(short, sentences))
            raise DataError(f"{path}: row {number} has the sentences {got}, expected two strings")
        texts.append(pair_of(sentences))
        labels.append(LABELS[label])
    counts[f"{name}_pairs_without_label"] = undecided
    if len(set(labels)) < len(CLASSES):
        raise DataError(f"{path}: {len(texts):,} pairs of {len(set(labels))} class(es), expected all of {CLASSES}")
    return Split(texts, np.array(labels, dtype=np.int64))
