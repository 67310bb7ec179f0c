"""Tables as people have them, row by row: .csv, .tsv, .jsonl and .parquet; of each row its texts and the label.

Rows are numbered as an editor numbers lines, the header is row 1; those of Parquet are counted from 1.
"""

import csv
import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, AnyStr

from eqspike_seq.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
DELIMITERS = ",;\t"
LARGEST_CELL = 10_000_000  # characters; a quote that is never closed makes a larger one of the rest of the file
LARGEST_LINE = 2 * LARGEST_CELL  # characters, or bytes
LARGEST_FILE = 4_000_000_000  # bytes; and characters of all its texts, which a small Parquet file may repeat
ROWS_AT_ONCE = 1000  # of a Parquet file
FIRST_ROWS = 100  # of JSON lines, among which one must have all keys
SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")  # how .xlsx and .ods begin, and old .xls
SAVE_AS = "Open it in a spreadsheet, save the sheet as “CSV UTF-8 (comma delimited)”, and give that file."
GZIP = b"\x1f\x8b"  # how .gz begins
UNPACK = "Unpack it, and give the file that was in it."
OTHERS = dict.fromkeys((".xlsx", ".xls", ".ods"), SAVE_AS) | dict.fromkeys((".gz", ".bz2", ".xz", ".zip"), UNPACK)
OTHERS |= {
    ".json": "Write each row as one JSON object on a line of its own, and name the file .jsonl.",
    ".txt": "If it is a table, name it .csv, or .tsv where tabs separate the cells.",
}
Row = tuple[int, tuple[Any, ...], Any]  # its number, the text or the two texts, the label


def read_rows(path: Path, text_column: tuple[str, ...], label_column: str) -> Iterator[Row]:
    """Every row, blank ones without texts and label. Raises DataError, naming the row, for what cannot be read."""
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        got = f"a {path.suffix} file" if path.suffix else "a file without extension"
        advice = OTHERS.get(path.suffix.lower(), "Give the file another format, or its right extension.")
        raise DataError(f"{path}: got {got}, expected {', '.join(SUFFIXES)}. {advice}")
    try:
        if (size := path.stat().st_size) == 0:
            raise DataError(f"{path} is empty, expected rows with a text and a label")
        if size > LARGEST_FILE:
            raise DataError(f"{path} has {size:,} bytes, expected at most {LARGEST_FILE:,}. Use fewer rows.")
        with path.open("rb") as file:
            if (head := file.read(8)).startswith(SPREADSHEETS):
                raise DataError(f"{path}: its name ends in {path.suffix}, its content is a spreadsheet's. {SAVE_AS}")
            if head.startswith(GZIP):
                raise DataError(f"{path}: its name ends in {path.suffix}, but it is compressed (gzip). {UNPACK}")
        held = 0
        for row, cells, label in reader(path, text_column, label_column):
            held += sum(len(cell) for cell in cells if isinstance(cell, str))
            if held > LARGEST_FILE:
                raise DataError(f"{path}: more than {LARGEST_FILE:,} characters by row {row}. Use fewer rows.")
            yield row, cells, label
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def short(value: object) -> str:
    """For a message: its first characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}…{text[0] if isinstance(value, str) else ''}"


def columns(path: Path, names: list[str], text_column: tuple[str, ...], label_column: str) -> tuple[str, ...]:
    """The names of the columns: of the text, or of the two texts, and of the label.

    The text is in the column that is named, two are in those that are; else in ``text``; else in the only one beside
    the labels. Raises DataError where that does not name different columns that are there once each.
    """
    found = f"its columns are {', '.join(map(short, names[:20]))}{', …' if len(names) > 20 else ''}"
    headless = "A file without names of columns needs them as its first row."
    if len(names) == 1 and path.suffix.lower() in (".csv", ".tsv"):
        headless += " Cells are separated by commas, semicolons or tabs, in .tsv by tabs."
    others = [name for name in names if name != label_column]
    only = len(others) == 1 and "text" not in others and label_column in names
    texts = text_column or (others[0] if only else "text",)
    for what, name in (("label", label_column), *(("text", name) for name in texts)):
        if name not in names:
            raise DataError(
                f"{path}: expected a column {name!r} with the {what}s, {found}. "
                f"Name one with --{what}-column. {headless}"
            )
        if names.count(name) > 1:
            raise DataError(f"{path}: expected one column {name!r}, {found}. Give each a name of its own.")
    if label_column in texts:
        raise DataError(f"{path}: got {label_column!r} for both text and label, expected two columns; {found}")
    return *texts, label_column


def lines_of(file: IO[AnyStr], name: object) -> Iterator[AnyStr]:
    """Each line as soon as it is there. Raises DataError, no more having been read, where one is too long."""
    number = 0
    while line := file.readline(LARGEST_LINE + 1):
        number += 1
        if len(line) > LARGEST_LINE:
            raise too_long(name, number)
        yield line


def too_long(name: object, number: int) -> DataError:
    """The error for a line that does not end."""
    return DataError(
        f"{name}: line {number} is longer than {LARGEST_LINE:,} characters, expected one text a line. Split it."
    )


def _csv(path: Path, text_column: tuple[str, ...], label_column: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(lines_of(file, path), "")
        if not header.strip():
            raise DataError(f"{path}: row 1 is blank, expected the names of the columns")
        delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(header, {*text_column, label_column})
        file.seek(0)
        csv.field_size_limit(LARGEST_CELL)
        reader = csv.reader(lines_of(file, path), delimiter=delimiter, strict=True)
        row = 1
        try:
            names = [name.strip() for name in next(reader)]
            *texts, label = map(names.index, columns(path, names, text_column, label_column))
            row = reader.line_num + 1
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    yield row, (), None
                elif len(cells) == len(names):
                    yield row, tuple(cells[place] for place in texts), cells[label]
                else:
                    raise DataError(
                        f"{path}: row {row} has {len(cells)} cells, expected {len(names)} as in the header. "
                        f"A cell that holds {delimiter!r} or a line break needs quotes around it."
                    )
                row = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path}: the row that starts in line {row} cannot be read ({error}). A cell that starts with a quote "
                'must end with one, and quotes inside it are doubled: "she said ""yes"""'
            ) from error


def _delimiter(header: str, named: set[str]) -> str:
    """Comma, semicolon or tab: what divides the header into the most of the columns ``named``, then into most cells."""

    def found(delimiter: str) -> tuple[int, int]:
        cells = [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter))]
        return len(named.intersection(cells)), len(cells)

    return max(DELIMITERS, key=found)


def _jsonl(path: Path, text_column: tuple[str, ...], label_column: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        yield from json_rows(file, path, text_column, label_column)


def json_rows(file: IO[str], path: Path, text_column: tuple[str, ...], label_column: str) -> Iterator[Row]:
    """The rows of JSON lines, which messages say to be of ``path``. Raises DataError as ``read_rows``."""
    rows = _objects(file, path)
    first = list(islice(rows, FIRST_ROWS))
    *texts, label = _keys(path, [cells for _, cells in first if cells is not None], text_column, label_column)
    for number, cells in chain(first, rows):
        if cells is None:
            yield number, (), None
            continue
        found = tuple(map(cells.get, texts)), cells.get(label)
        if not all(_writable(cell) for cell in (*found[0], found[1]) if isinstance(cell, str)):
            raise DataError(f"{path}: row {number} holds half a character (a lone surrogate). Correct or delete it.")
        yield number, *found


def _keys(
    path: Path, objects: list[dict[str, Any]], text_column: tuple[str, ...], label_column: str
) -> tuple[str, ...]:
    """As ``columns``, of the first object that has all of them. Raises DataError where none has."""
    reasons = []
    for cells in objects:
        try:
            return columns(path, list(cells), text_column, label_column)
        except DataError as error:
            reasons.append(error)
    raise reasons[0] if reasons else DataError(f"{path} has no rows of data, expected a text and a label in each")


def _objects(file: IO[str], path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(number, object) of each line, None of a blank one."""
    for number, line in enumerate(lines_of(file, path), start=1):
        if not line.strip():
            yield number, None
            continue
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: row {number} is not JSON ({error}). Expected one object a line.") from error
        if not isinstance(cells, dict):
            raise DataError(
                f"{path}: row {number} is {short(cells)}, expected one object a line, "
                'as in {"text": "what a day", "label": "good"}'
            )
        yield number, cells


def _writable(text: str) -> bool:
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


def _parquet(path: Path, text_column: tuple[str, ...], label_column: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            named = columns(path, file.schema_arrow.names, text_column, label_column)
            number = 0
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(named)):
                for *texts, label in zip(*(batch[name].to_pylist() for name in named), strict=True):
                    number += 1
                    yield number, tuple(texts), label
    except (DataError, OSError):
        raise
    except Exception as error:  # Arrow lets many kinds through
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a whole Parquet file of UTF-8 text ({reason}). Write it again.") from error
    pa.default_memory_pool().release_unused()


def _not_utf8(path: Path) -> DataError:
    """Where the first byte is that is not UTF-8, and what to do."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(lines_of(file, path), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                at = offset + error.start
                like = "; it looks like UTF-16" if at == 0 and line[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
                return DataError(
                    f"{path}: byte {at:,}, in row {number}, is not UTF-8 (0x{line[error.start]:02x}){like}. "
                    f"Save the file as UTF-8: `iconv -f {'UTF-16' if like else 'WINDOWS-1252'} -t UTF-8`, "
                    "or “CSV UTF-8” in a spreadsheet."
                )
            offset += len(line)
    return DataError(f"{path} is not UTF-8. Save it as UTF-8.")
