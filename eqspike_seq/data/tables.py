"""Tables as people have them, row by row: .csv, .tsv, .jsonl and .parquet; of each row the text and the label.

Rows are numbered as an editor numbers lines, the header is row 1; those of Parquet are counted from 1.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr

from eqspike_seq.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
DELIMITERS = ",;\t"
LARGEST_CELL = 10_000_000  # characters; a quote that is never closed makes a larger one of the rest of the file
LARGEST_LINE = 2 * LARGEST_CELL  # characters, or bytes
LARGEST_FILE = 4_000_000_000  # bytes; and characters of all its texts, which a small Parquet file may repeat
ROWS_AT_ONCE = 1000  # of a Parquet file
Row = tuple[int, Any, Any]  # its number, the text, the label


def read_rows(path: Path, text_column: tuple[str, ...], label_column: str) -> Iterator[Row]:
    """Every row, blank ones with None for both cells. Raises DataError, naming the row, for what cannot be read."""
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: got a file {path.suffix or 'without extension'}, expected {', '.join(SUFFIXES)}")
    try:
        if (size := path.stat().st_size) == 0:
            raise DataError(f"{path} is empty, expected rows with a text and a label")
        if size > LARGEST_FILE:
            raise DataError(f"{path} has {size:,} bytes, expected at most {LARGEST_FILE:,}. Give some of its rows.")
        yield from reader(path, text_column, label_column)
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def short(value: object) -> str:
    """For a message: its first characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}…{text[0]}"


def columns(path: Path, names: list[str], text_column: tuple[str, ...], label_column: str) -> tuple[str, str]:
    """The names of the two columns: of the text and of the label.

    The text is in the column that is named; else in ``text``; else in the only one beside the labels.
    Raises DataError where that does not name two different columns that are there once each.
    """
    found = f"its columns are {', '.join(map(short, names[:20]))}{', …' if len(names) > 20 else ''}"
    headless = "A file without names of columns needs them as its first row."
    others = [name for name in names if name != label_column]
    if text_column:
        text = text_column[0]
    elif "text" in others:
        text = "text"
    elif len(others) == 1 and label_column in names:
        text = others[0]
    else:
        text = "text"
    for what, name in (("label", label_column), ("text", text)):
        if name not in names:
            raise DataError(
                f"{path}: expected a column {name!r} with the {what}s, {found}. "
                f"Name one with --{what}-column. {headless}"
            )
        if names.count(name) > 1:
            raise DataError(f"{path}: expected one column {name!r}, {found}. Give each a name of its own.")
    if text == label_column:
        raise DataError(f"{path}: got {text!r} for both text and label, expected two columns; {found}")
    return text, label_column


def lines_of(file: IO[AnyStr], name: object) -> Iterator[AnyStr]:
    """Each line as soon as it is there. Raises DataError, no more having been read, where one is too long."""
    number = 0
    while line := file.readline(LARGEST_LINE + 1):
        number += 1
        if len(line) > LARGEST_LINE:
            raise DataError(
                f"{name}: line {number} is longer than {LARGEST_LINE:,} characters, expected a text a line. Break it."
            )
        yield line


def _csv(path: Path, text_column: tuple[str, ...], label_column: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(lines_of(file, path), "")
        if not header.strip():
            raise DataError(f"{path}: row 1 is blank, expected the names of the columns")
        delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(header)
        file.seek(0)
        csv.field_size_limit(LARGEST_CELL)
        reader = csv.reader(lines_of(file, path), delimiter=delimiter, strict=True)
        row = 1
        try:
            names = [name.strip() for name in next(reader)]
            text, label = map(names.index, columns(path, names, text_column, label_column))
            row = reader.line_num + 1
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    yield row, None, None
                elif len(cells) == len(names):
                    yield row, cells[text], cells[label]
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


def _delimiter(header: str) -> str:
    """Comma, semicolon or tab: what divides the header into most cells."""
    return max(DELIMITERS, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter))))


def _jsonl(path: Path, text_column: tuple[str, ...], label_column: str) -> Iterator[Row]:
    named: tuple[str, str] | None = None
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(lines_of(file, path), start=1):
            if not line.strip():
                yield number, None, None
                continue
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: row {number} is not JSON ({error}). Expected one object a line.") from error
            if not isinstance(cells, dict):
                raise DataError(
                    f"{path}: row {number} is {short(cells)}, expected an object a line, "
                    'as in {"text": "what a day", "label": "good"}'
                )
            if named is None:
                named = columns(path, list(cells), text_column, label_column)
            yield number, cells.get(named[0]), cells.get(named[1])


def _parquet(path: Path, text_column: tuple[str, ...], label_column: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            text, label = columns(path, file.schema_arrow.names, text_column, label_column)
            number = 0
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[text, label]):
                for cells in zip(batch[text].to_pylist(), batch[label].to_pylist(), strict=True):
                    number += 1
                    yield number, *cells
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
