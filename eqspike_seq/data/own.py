"""Texts, or pairs of texts, of one's own: a file that is cut here, or a folder with train, valid and test files."""

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eqspike_seq.config.examples import OwnTexts, name_of
from eqspike_seq.data.corpus import BORDER, Corpus, Split, held_out, pair_of, without
from eqspike_seq.data.sizes import sizes
from eqspike_seq.data.tables import SUFFIXES, read_rows, short
from eqspike_seq.data.tokens import TokeniserName, tokenise
from eqspike_seq.errors import DataError
from eqspike_seq.files import sha256_of_file

TEST_SHARE = 0.2
MOST_CLASSES = 20
FEWEST_TEXTS = 5  # different ones of a class
NAMES = {"train": ("train",), "validation": ("valid", "validation", "dev"), "test": ("test",)}
SAMPLE = 10_000  # texts whose words are counted to choose sizes
NAMED = 5  # rows that a message names
WHOLE = re.compile(r"-?\d+\.0")
MISSING = ("nan", "<na>", "null", "#n/a")  # labels that programs write where there is none


@dataclass(frozen=True)
class Table:
    """One file: texts, labels as strings, and the number of each row; of those ``left_out`` too."""

    path: Path
    texts: list[str]
    labels: list[str]
    rows: "array[int]"
    left_out: "array[int]" = field(default_factory=lambda: array("q"))


def load_own(
    path: Path,
    text_column: tuple[str, ...] = (),
    label_column: str = "label",
    strict: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Corpus:
    """The texts of a file or a folder. Raises DataError, naming rows, for what cannot be learnt from.

    Rows with a blank text or label are left out, and ``progress`` says which; with ``strict`` they are refused. It also
    names labels that look alike. Of a file a stratified fifth is the test split, always the same one; a folder brings
    its own. No text is on two sides of a cut: of a folder those in test are dropped elsewhere, and those in validation
    from training.
    """
    files = _files(path)
    tables = {name: read_table(file, text_column, label_column, strict) for name, file in files.items()}
    for table in tables.values():
        if out := table.left_out:
            progress(
                f"{table.path.name}: left out {len(out):,} of {len(out) + len(table.rows):,} rows with a blank text or "
                f"label: {_named(out)}"
            )
    train = tables["train"]
    classes = _classes(train, label_column)
    for one, other in _alike(classes):
        progress(
            f"warning: the labels {one!r} and {other!r} differ only in case or in their Unicode form and are two "
            "classes. If they mean the same, spell them alike."
        )
    splits = {name: _split(table, classes, train.path) for name, table in tables.items()}
    counts = _counts(list(splits.values())) | {"rows_left_out": sum(len(table.left_out) for table in tables.values())}
    if path.is_file():
        held = held_out(splits["train"], TEST_SHARE)
        whole = splits["train"]
        splits = {"train": whole.take(np.flatnonzero(~held)), "test": whole.take(np.flatnonzero(held))}
    elif "validation" in splits:
        for name, other in (("validation", "test"), ("train", "validation")):
            kept = without(splits[name], splits[other])
            counts[f"{name}_texts_dropped_as_in_{other}"] = len(splits[name]) - len(kept)
            splits[name] = kept
    return Corpus(
        name_of(str(path)),
        classes,
        splits["train"],
        splits["test"],
        validation=splits.get("validation"),
        source=", ".join(f"{file.name} SHA-256 {sha256_of_file(file)}" for file in files.values()),
        counts=counts,
        inputs=max(1, len(text_column)),
    )


def named(corpus: Corpus, names: tuple[str, ...]) -> Corpus:
    """The same with these names for its classes. Raises DataError for more or fewer."""
    if len(names) != len(corpus.classes):
        raise DataError(
            f"--class-names: got {len(names)} ({', '.join(names)}), expected {len(corpus.classes)}, one for each of "
            f"the labels {', '.join(map(short, corpus.classes))}, in this order"
        )
    return replace(corpus, classes=names)


def sizes_for(data: OwnTexts, network: str) -> dict[str, Any]:
    """Settings that suit these texts and a kind of network. Raises DataError."""
    path = Path(data.dataset)
    changed = tuple(file.stat().st_mtime_ns for file in _files(path).values())
    found = _measured(path, data.text_column, data.label_column, data.strict, data.tokeniser, changed)
    return sizes(*found, network=network)


@lru_cache(maxsize=1)
def _measured(
    path: Path,
    text_column: tuple[str, ...],
    label_column: str,
    strict: bool,
    tokeniser: TokeniserName,
    _: tuple[int, ...],
) -> tuple[list[int], int, int, int]:
    """(lengths of some texts, classes, training texts, texts of an example), once for all points of a sweep."""
    corpus = load_own(path, text_column, label_column, strict)
    texts = corpus.train.texts
    sample = texts[:: max(1, len(texts) // SAMPLE)]
    lengths = [len(tokenise(part, tokeniser)) for text in sample for part in text.split(BORDER)]
    return lengths, len(corpus.classes), len(texts), corpus.inputs


def read_table(path: Path, text_column: tuple[str, ...], label_column: str, strict: bool = False) -> Table:
    """All rows of a file; those that are blank at its end do not count. Raises DataError for a cell that is odd, and
    with ``strict`` for one that is missing.
    """
    texts: list[str] = []
    labels: list[str] = []
    rows, missing, blank = array("q"), array("q"), array("q")
    known: dict[str, str] = {}  # each label once, however many rows have it
    for row, cells, label in read_rows(path, text_column, label_column):
        if isinstance(label, float) and label.is_integer():  # a column with blanks among whole numbers has made it one
            label = int(label)
        if isinstance(label, bool):
            label = str(label).lower()  # as JSON has it
        if all(map(_absent, cells)) and _absent(label):
            blank.append(row)
            continue
        missing.extend(blank)
        blank = array("q")
        if any(map(_absent, (*cells, label))) or str(label).strip().lower() in MISSING:
            missing.append(row)
            continue
        for cell in cells:
            if not isinstance(cell, str):
                raise DataError(
                    f"{path}: row {row} has the text {short(cell)}, expected a string. Write it in quotes, or name "
                    "another column with --text-column."
                )
        if not isinstance(label, str | int):
            raise DataError(
                f"{path}: row {row} has the label {short(label)}, expected a string, a whole number, or true or false. "
                "Give each text one class, or name another column with --label-column."
            )
        text, name = pair_of(cells) if len(cells) > 1 else cells[0], str(label).strip()
        texts.append(text)
        labels.append(known.setdefault(name, name))
        rows.append(row)
    if all(map(WHOLE.fullmatch, labels)):  # a spreadsheet with blanks writes whole numbers so
        labels = [name.removesuffix(".0") for name in labels]
    lacking = "1 row has no" if len(missing) == 1 else f"{len(missing):,} rows have no"
    if missing and strict:
        raise DataError(
            f"{path}: {lacking} text or no label ({_named(missing)}). Fill them in or delete them; without --strict "
            "they are left out."
        )
    if not texts:
        why = f": {lacking} text or no label ({_named(missing)})" if missing else ""
        raise DataError(f"{path} has no rows of data, expected a text and a label in each{why}")
    return Table(path, texts, labels, rows, missing)


def _absent(cell: object) -> bool:
    """Whether there is nothing: None, NaN, or a string of spaces."""
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())


def _named(rows: "array[int] | list[int]") -> str:
    """The first of these rows, for a message."""
    listed = ", ".join(str(row) for row in rows[:NAMED])
    return f"row{'s' if len(rows) > 1 else ''} {listed}{', …' if len(rows) > NAMED else ''}"


def _files(path: Path) -> dict[str, Path]:
    """The files to read, by split; a single one is called train. Raises DataError where there is none, or too many."""
    if path.is_file():
        return {"train": path}
    if not path.is_dir():
        is_what = "is neither a file nor a folder" if path.exists() else "is not there"
        raise DataError(f"{path} {is_what}, expected a file of texts or a folder with train and test files")
    try:
        there = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    found = {}
    for split, names in NAMES.items():
        files = [file for file in there if file.stem.lower() in names]
        if len(files) > 1:
            raise DataError(f"{path}: got {', '.join(file.name for file in files)} for {split}, expected one file")
        if files:
            found[split] = files[0]
    for split in ("train", "test"):
        if split not in found:
            listed = ", ".join(file.name for file in there[:10]) or "none"
            raise DataError(
                f"{path}: no {split} file. Expected train and test ({', '.join(SUFFIXES)}), and valid if there is one; "
                f"found: {listed}. If one file should be split, give that file."
            )
    return found


def _classes(table: Table, label_column: str) -> tuple[str, ...]:
    """The labels in order, whole numbers by value. Raises DataError for less than 2, more than 20 or rare ones."""
    names = sorted(set(table.labels))
    if all(name.removeprefix("-").isdecimal() for name in names):
        names.sort(key=int)
    if not 2 <= len(names) <= MOST_CLASSES:
        some = ", ".join(map(short, names[:NAMED])) + (", …" if len(names) > NAMED else "")
        left = f" in the rows that are whole ({len(table.left_out):,} lack a text or a label)" if table.left_out else ""
        raise DataError(
            f"{table.path}: the column {label_column!r} has {len(names):,} different label(s){left}: {some}; "
            f"expected 2 to {MOST_CLASSES} classes. Name another column with --label-column, or merge classes."
        )
    for name in names:
        if not name.isprintable():
            row = next(row for row, label in zip(table.rows, table.labels, strict=True) if label == name)
            raise DataError(
                f"{table.path}: row {row} has the label {name!r}, expected printable characters only. Remove "
                "line breaks, tabs and control characters from it."
            )
    different: dict[str, set[str]] = {name: set() for name in names}
    for text, label in zip(table.texts, table.labels, strict=True):
        if len(different[label]) < FEWEST_TEXTS:
            different[label].add(text)
    for name, texts in different.items():
        if len(texts) < FEWEST_TEXTS:
            rows = [row for row, label in zip(table.rows, table.labels, strict=True) if label == name]
            raise DataError(
                f"{table.path}: class {name!r} has {len(texts)} different text(s) ({_named(rows)}), expected at least "
                f"{FEWEST_TEXTS}. Add texts, merge it with another class, or delete these rows."
            )
    return tuple(names)


def _alike(classes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Pairs of labels that are the same but for case and for how Unicode writes them."""
    first: dict[str, str] = {}
    for name in classes:
        if (other := first.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)) != name:
            yield other, name


def _split(table: Table, classes: tuple[str, ...], train: Path) -> Split:
    """Labels as numbers. Raises DataError for one that training does not have."""
    number = {name: place for place, name in enumerate(classes)}
    for row, label in zip(table.rows, table.labels, strict=True):
        if label not in number:
            raise DataError(
                f"{table.path}: row {row} has the label {short(label)}, expected one of those in {train.name}: "
                f"{', '.join(map(short, classes))}"
            )
    return Split(table.texts, np.array([number[label] for label in table.labels], dtype=np.int64))


def _counts(splits: list[Split]) -> dict[str, int]:
    """Texts, those that come again, and different texts with more than one label, over all splits."""
    labels_of: dict[str, set[int]] = {}
    for part in splits:
        for text, label in zip(part.texts, part.labels.tolist(), strict=True):
            labels_of.setdefault(text, set()).add(label)
    total = sum(map(len, splits))
    several = Counter(len(labels) > 1 for labels in labels_of.values())[True]
    return {"texts": total, "duplicate_texts": total - len(labels_of), "texts_with_several_labels": several}
