"""Texts of one's own: every form is read alike, every fault is told with its row, and a run goes from end to end."""

import csv
import gzip
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eqspike.build import configure, configured, run, varied
from eqspike.flags import parse_run
from eqspike_seq.config.examples import name_of
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.corpus import Corpus, Split, held_out
from eqspike_seq.data.dataset import split
from eqspike_seq.data.own import load_own
from eqspike_seq.data.sizes import sizes
from eqspike_seq.errors import ConfigError, DataError, RunError
from eqspike_seq.progress import Reporter
from tests.conftest import command

Rows = list[tuple[str, Any]]


def made(texts: int = 60, classes: int = 2) -> Rows:
    """A word tells the class; commas, quotes, line breaks and other scripts stand in the way."""
    odd = ("a, b", 'she said "yes"', "two\nlines", "semi; colon", "tab\there", "čaj, 茶")
    return [(f"word{i % classes} number {i} {odd[i % len(odd)]}", f"class {i % classes}") for i in range(texts)]


def write(path: Path, rows: Rows, names: tuple[str, str] = ("text", "label"), **form: Any) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    else:
        form = {"delimiter": "\t" if path.suffix == ".tsv" else ",", "encoding": "utf-8", **form}
        with path.open("w", newline="", encoding=form.pop("encoding")) as file:
            csv.writer(file, **form).writerows([names, *rows])
    return path


def lines(path: Path, *texts: str) -> Path:
    """A file of these lines after enough good ones: a header in row 1, rows 2 to 21."""
    good = [f"text number {i},{'yes' if i % 2 else 'no'}" for i in range(20)]
    path.write_text("\n".join(["text,label", *good, *texts]))
    return path


def same(a: Corpus, b: Corpus) -> bool:
    parts = ((a.train, b.train), (a.test, b.test))
    return a.classes == b.classes and all(x.texts == y.texts and (x.labels == y.labels).all() for x, y in parts)


def test_every_form_gives_the_same_corpus(tmp_path: Path) -> None:
    rows = made()
    first = load_own(write(tmp_path / "reviews.csv", rows))
    assert first.name == "reviews" and first.classes == ("class 0", "class 1")
    assert sorted(first.train.texts + first.test.texts) == sorted(text for text, _ in rows)
    for name in ("reviews.tsv", "reviews.jsonl", "reviews.parquet", "other.CSV"):
        assert same(first, load_own(write(tmp_path / name, rows))), name
    for number, form in enumerate(({"delimiter": ";"}, {"delimiter": "\t"}, {"encoding": "utf-8-sig"})):
        assert same(first, load_own(write(tmp_path / f"form{number}.csv", rows, **form))), form
    spaced = [(text, f"  {label} ") for text, label in rows]
    assert same(first, load_own(write(tmp_path / "spaced.csv", spaced, quoting=csv.QUOTE_ALL, lineterminator="\r\n")))


def test_whole_numbers_are_classes_in_their_order(tmp_path: Path) -> None:
    rows: Rows = [(text, 10 * (i % 3) - 10) for i, (text, _) in enumerate(made())]
    found = [load_own(write(tmp_path / name, rows)) for name in ("a.csv", "a.jsonl", "a.parquet")]
    assert found[0].classes == ("-10", "0", "10") and all(same(found[0], other) for other in found)


def test_columns_are_found_or_named(tmp_path: Path) -> None:
    plain = load_own(write(tmp_path / "a.csv", made()))
    assert same(plain, load_own(write(tmp_path / "b.csv", made(), ("body", "label"))))
    assert same(plain, load_own(write(tmp_path / "c.jsonl", made(), ("body", "text")), ("body",), "text"))
    texts, labels = zip(*made(), strict=True)
    pq.write_table(pa.table({"id": range(60), "body": texts, "y": labels}), tmp_path / "d.parquet")
    assert same(plain, load_own(tmp_path / "d.parquet", ("body",), "y"))
    for text, label, says in (
        ((), "y", "expected a column 'text'.* 'id', 'body', 'y'.*--text-column"),
        (("body",), "label", "expected a column 'label'.*--label-column"),
        (("y",), "y", "both text and label"),
    ):
        with pytest.raises(DataError, match=says):
            load_own(tmp_path / "d.parquet", text, label)


def test_of_two_delimiters_the_one_that_gives_the_named_columns_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    rows = "".join(f'a text, number {i};"{"yes" if i % 2 else "no"}"\n' for i in range(20))
    path.write_text('Text, so;"label; or not"\n' + rows)
    corpus = load_own(path, ("Text, so",), "label; or not")
    assert corpus.classes == ("no", "yes") and corpus.train.texts[0].startswith("a text, number")


def test_cuts_are_stratified_and_always_the_same(tmp_path: Path) -> None:
    rows = [(f"text {i}", "rare" if i % 10 == 0 else "common") for i in range(400)]
    a, b = (split(load_own(write(tmp_path / name, rows))) for name in ("a.csv", "b.parquet"))
    assert a.validation is not None and b.validation is not None
    assert [len(part) for part in (a.train, a.validation, a.test)] == [288, 32, 80]
    assert [int(part.labels.sum()) for part in (a.train, a.validation, a.test)] == [29, 3, 8]  # of the rare class
    assert same(a, b) and a.validation.texts == b.validation.texts


def test_identical_texts_are_on_one_side_and_counted(tmp_path: Path) -> None:
    rows = [(f"text {i % 100}", str((i % 100) % 2)) for i in range(300)] + [("text 1", "0"), ("text 2", "1")]
    found = split(load_own(write(tmp_path / "a.csv", rows)))
    assert found.validation is not None
    parts = [set(part.texts) for part in (found.train, found.validation, found.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 100 and all(parts)
    assert found.counts["duplicate_texts"] == 202 and found.counts["texts_with_several_labels"] == 2


def test_a_text_that_is_most_of_its_class_stays_in_training() -> None:
    part = Split(["ok"] * 96 + list("abcd"), np.zeros(100, dtype=np.int64))
    held = held_out(part, 0.2)
    assert sorted(np.flatnonzero(held)) == [96, 97, 98, 99]


@pytest.mark.parametrize("classes", [2, 20])
def test_two_to_twenty_classes(tmp_path: Path, classes: int) -> None:
    found = split(load_own(write(tmp_path / "a.csv", made(10 * classes, classes))))
    assert len(found.classes) == classes and found.validation is not None
    assert all(len(np.unique(part.labels)) == classes for part in (found.train, found.validation, found.test))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (made(60, 1), "1 different label.*expected 2 to 20 classes"),
        (made(210, 21), "21 different label.*expected 2 to 20 classes"),
        ([*made(20), ("a", "rare"), ("b", "rare")], "class 'rare' has 2 different text.*rows 22, 23.*at least 5"),
        ([*made(20), *[(str(i), "\x1b[2J") for i in range(9)]], "row 22 has the label '.x1b.2J', .*printable.*control"),
        ([*made(20), *[(str(i), "two\tcells") for i in range(9)]], "row 22 has the label 'two.tcells', .*Remove.*tabs"),
        ([*made(20), *[("again", "rare")] * 9], "class 'rare' has 1 different text.*rows 22, 23, 24, 25, 26, …"),
    ],
)
def test_classes_that_cannot_be_told_apart(tmp_path: Path, rows: Rows, says: str) -> None:
    rows = [(text.replace("\n", " "), label) for text, label in rows]  # a line a row
    with pytest.raises(DataError, match=says):
        load_own(write(tmp_path / "a.csv", rows))


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["a,b,yes"], "row 22 has 3 cells, expected 2.*needs quotes"),
        (["alone"], "row 22 has 1 cells, expected 2"),
        (['"a', 'b",no', "c,d,yes"], "row 24 has 3 cells"),
        (['"never closed,yes', "and,more", "of,it"], "starts in line 22.*must end with one"),
        (['"closed" too early,yes'], "starts in line 22"),
    ],
)
def test_rows_that_cannot_be_read_are_named(tmp_path: Path, extra: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        load_own(lines(tmp_path / "a.csv", *extra))


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        (
            "a.csv",
            [("", "yes"), ("  ", "no"), ("text", ""), ("", ""), ("text", "NaN"), ("text", "null"), ("one", "no")],
        ),
        (
            "a.tsv",
            [("", "yes"), ("  ", "no"), ("text", " "), ("", ""), ("text", "<NA>"), ("text", "nan"), ("one", "no")],
        ),
        ("a.jsonl", [(None, "yes"), ("", "no"), ("text", None), (None, None), ("a", NAN), (NAN, "no"), ("one", "no")]),
        ("a.parquet", [(None, "yes"), ("", "no"), ("b", None), (None, None), ("a", "NaN"), ("a", ""), ("one", "no")]),
    ],
)
def test_rows_with_a_blank_cell_are_left_out_and_named_or_refused(tmp_path: Path, name: str, extra: Rows) -> None:
    good: Rows = [(f"text number {i}", "yes" if i % 2 else "no") for i in range(20)]
    file, plain = write(tmp_path / name, good + extra), write(tmp_path / "plain.csv", [*good, extra[-1]])
    said: list[str] = []
    found = load_own(file, progress=said.append)
    assert same(found, load_own(plain, progress=said.append)) and found.counts["rows_left_out"] == 6
    first = {".csv": 22, ".tsv": 22}.get(file.suffix, 21)  # a header is row 1
    named = ", ".join(str(first + i) for i in range(5))
    assert said == [f"{name}: left out 6 of 27 rows with a blank text or label: rows {named}, …"]
    with pytest.raises(DataError, match=f"6 rows have no text or no label \\(rows {named}, …\\).*without --strict"):
        load_own(file, strict=True)


def test_blanks_among_numbers_and_missing_keys_are_blank_cells(tmp_path: Path) -> None:
    """Blanks make a column of whole numbers one of floats; a row of JSON lines may have no key for what is blank."""
    rows = [(f"text {i}", None if i in (3, 7) else i % 2) for i in range(22)]
    whole = [(text, label) for text, label in rows if label is not None]
    floats = [(text, NAN if label is None else float(label)) for text, label in rows]
    (tmp_path / "keys.jsonl").write_text(
        '{"text": "first"}\n{"label": 0}\n'
        + "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    )
    plain = load_own(write(tmp_path / "plain.jsonl", whole))
    for file, lost in ((write(tmp_path / "floats.parquet", floats), 2), (tmp_path / "keys.jsonl", 4)):
        found = load_own(file)
        assert same(found, plain) and found.classes == ("0", "1") and found.counts["rows_left_out"] == lost


def test_whole_numbers_that_a_spreadsheet_wrote_with_a_point_are_whole(tmp_path: Path) -> None:
    """As pandas writes a column of whole numbers that has blanks."""
    rows = [(f"text {i}", "" if i == 3 else f"{i % 2}.0") for i in range(22)]
    assert load_own(write(tmp_path / "a.csv", rows)).classes == ("0", "1")
    halves = [(text, label.replace("1.0", "1.5")) for text, label in rows]
    assert load_own(write(tmp_path / "b.csv", halves)).classes == ("0.0", "1.5")


def test_none_and_na_are_classes_as_any_other(tmp_path: Path) -> None:
    rows = [(text, "none" if i % 2 else "NA") for i, (text, _) in enumerate(made())]
    assert load_own(write(tmp_path / "a.csv", rows)).classes == ("NA", "none")


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_booleans_are_classes(tmp_path: Path, name: str) -> None:
    found = load_own(write(tmp_path / name, [(f"text {i}", i % 2 == 0) for i in range(20)]))
    assert found.classes == ("false", "true") and found.train.labels[found.train.texts.index("text 0")] == 1


@pytest.mark.parametrize("other", ["Good", "ｇｏｏｄ", "caf\u00e9"])
def test_labels_that_look_alike_are_told(tmp_path: Path, other: str) -> None:
    """Differing in case, in width, or in how an accent is written; they stay the classes that the file has."""
    like = "cafe\u0301" if other.startswith("caf") else "good"
    said: list[str] = []
    labels = (like, other, "bad")
    path = write(tmp_path / "a.csv", [(f"text {i}", labels[i % 3]) for i in range(30)])
    assert len(load_own(path, progress=said.append).classes) == 3
    (warning,) = said
    assert "warning" in warning and all(repr(label) in warning for label in (like, other))


def test_rows_left_out_are_told_where_too_few_labels_remain(tmp_path: Path) -> None:
    rows = [("" if i % 2 else f"text {i}", ("good", "bad")[i % 2]) for i in range(40)]
    with pytest.raises(DataError, match="1 different label.s. in the rows that are whole .20 lack a text or a label"):
        load_own(write(tmp_path / "a.csv", rows))


def test_a_file_of_blank_cells_only_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows of data.*2 rows have no text or no label \\(rows 2, 3\\)"):
        load_own(write(tmp_path / "a.csv", [("a", ""), ("b", " ")]))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("kind", ["xlsx", "xls"])
def test_a_spreadsheet_under_another_name_is_recognised(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "xlsx":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("xl/workbook.xml", "<workbook/>")
    else:
        (tmp_path / name).write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504))  # of a compound file (MS-CFB)
    with pytest.raises(DataError, match="is a spreadsheet's.*save the sheet as “CSV UTF-8"):
        load_own(tmp_path / name)


def test_a_header_may_begin_with_pk(tmp_path: Path) -> None:
    rows = [(text, label) for text, label in made()]
    assert same(load_own(write(tmp_path / "a.csv", rows)), load_own(write(tmp_path / "b.csv", rows, ("PK", "label"))))


def test_classes_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: Rows = [(f"word{i % 3} " * (1 + i // 3), (2, 10, -1)[i % 3]) for i in range(30)]
    file, out = write(tmp_path / "a.csv", rows), tmp_path / "run"
    command("run", file, "--epochs", 20, "--out", out, "--class-names", "bad", "fair", "very good")  # of -1, 2, 10
    assert json.loads((out / "result.json").read_text())["classes"] == ["bad", "fair", "very good"]
    assert "rate_very good" in pq.read_schema(out / "predictions.parquet").names
    assert re.search("classes: bad 10, fair 10, very good 10", " ".join(capsys.readouterr().err.split()))
    command("predict", out, "word0", "word1", "word2")
    answers = [line for line in capsys.readouterr().out.splitlines() if "confidence" in line]
    assert [line.split("  confidence")[0] for line in answers] == ["fair", "very good", "bad"]
    for names, says in (
        (("bad", "good"), "got 2 .bad, good., expected 3, one for each of the labels '-1', '2', '10'"),
        (("bad", "good", "bad"), "expected different names"),
        (("bad", " ", "good"), "none blank"),
    ):
        with pytest.raises(SystemExit) as end:
            command("run", file, "--out", tmp_path / "other", "--class-names", *names)
        assert end.value.code == 2 and re.search(says, " ".join(capsys.readouterr().err.split()))


def test_each_data_set_has_its_tokeniser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That with which its results were recorded, whatever the preset; texts of one's own have the default."""
    file = write(tmp_path / "a.csv", made())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('dataset = "a.csv"\nepochs = 2\n')
    for line in ([str(file)], [str(file), "--preset", "paper-small"], ["--config", "mine.toml"]):
        assert parse_run(line).settings()["tokeniser"] == "unicode"
    for line in (["imdb"], ["snli"], ["mini"], ["imdb", "--preset", "paper"], ["snli", "--preset", "snli-paper"]):
        assert parse_run(line).settings()["tokeniser"] == "ascii"


WORDS = {  # for each class words that an answer must know
    "german": (("wunderschöner größter Genuß", "gemütlich"), ("fürchterlich öde Zumutung", "gefühllos")),
    "chinese": (("好", "妙"), ("差", "丑")),
    "arabic": (("جَمِيلٌ رائع", "ممتاز؟"), ("سيئ ممل", "رديء")),
    "emoji": (("😀", "👍🏽"), ("😡", "👎")),
}


@pytest.mark.parametrize("language", WORDS)
def test_a_run_on_another_alphabet_learns_and_answers(
    tmp_path: Path, language: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = WORDS[language]
    rows = [(f"{(good, bad)[i % 2][i // 2 % 2]} {i // 4 % 10}", ("good", "bad")[i % 2]) for i in range(40)]
    file, out = write(tmp_path / "a.csv", rows, encoding="utf-8-sig"), tmp_path / "run"
    command("run", file, "--epochs", 10, "--out", out)
    assert json.loads((out / "result.json").read_text())["test_accuracy"] == 1.0
    capsys.readouterr()
    command("predict", out, good[0], bad[0], "--json")
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["label"] for answer in answers] == ["good", "bad"] and not any(a["words_unknown"] for a in answers)


@pytest.mark.parametrize("ending", [["", "", ""], [",", ",,,", "  "]])
def test_blank_rows_at_the_end_are_left_out(tmp_path: Path, ending: list[str]) -> None:
    assert load_own(lines(tmp_path / "a.csv", *ending)).counts["texts"] == 20


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n\n", "row 1 is blank"),
        ("a.csv", b"text,label\n", "no rows of data"),
        ("a.csv", b"What a film,1\nOh dear,0\n", "expected a column 'label'.*'What a film', '1'.*first row"),
        ("a.csv", b"text,label,text\na,b,c\n", "expected one column 'text'"),
        ("a.csv", b"text|label\na|b\n", "its columns are 'text.label'.*Cells are separated by commas"),
        ("a.csv", b"text,label\ncaf\xe9,yes\n", "byte 14, in row 2, is not UTF-8 \\(0xe9\\)"),
        ("a.csv", "text,label\na,yes\n".encode("utf-16"), "byte 0, in row 1.*UTF-16"),
        ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": ', "row 2 is not JSON"),
        ("a.jsonl", b'["a", "x"]\n', "row 1 is \\['a', 'x'\\], expected one object"),
        ("a.jsonl", b"[" * 100_000, "row 1 is not JSON"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"}\n', "expected a column 'label'"),
        ("a.jsonl", b'{"text": 5, "label": "x"}\n', "row 1 has the text 5, expected a string.*--text-column"),
        ("a.jsonl", b'{"text": ["a", "b"], "label": "x"}\n', "row 1 has the text ..a', 'b'., .*string.*--text-column"),
        (
            "a.jsonl",
            b'{"text": {"long": "' + 40 * b"a" + b'"}, "label": "x"}\n',
            "has the text {'long': 'a+…, expected",
        ),
        ("a.jsonl", b'{"text": "a", "label": 1.5}\n', "row 1 has the label 1.5, expected a string, a whole number"),
        ("a.jsonl", b'{"text": "a", "label": ["x"]}\n', "row 1 has the label .*one class.*--label-column"),
        ("a.jsonl", b'{"text": "\\ud800", "label": "x"}\n', "row 1 holds half a character"),
        ("a.parquet", b"PAR1 nonsense", "not a whole Parquet file"),
        ("a.csv", gzip.compress(b"text,label\na,yes\n"), "it is compressed .gzip.. Unpack it"),
        ("a.csv.gz", b"", "got a .gz file.*Unpack it"),
        ("a.json", b"[]", "got a .json file.*JSON object on a line.*.jsonl"),
        ("a.txt", b"a\tb", "got a .txt file.*tabs"),
        ("a.xlsx", b"PK", "got a .xlsx file, expected .csv, .tsv, .jsonl, .parquet.*CSV UTF-8"),
        ("a", b"text,label\n", "without extension"),
    ],
)
def test_files_that_will_not_do(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        load_own(tmp_path / name)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        path = lines(tmp_path / os.fsdecode(b"a\xff.csv"))
    except OSError:
        pytest.skip("names are UTF-8 here")
    with pytest.raises(SystemExit) as stop:
        command("run", path, "--out", tmp_path / "run")
    assert stop.value.code == 2 and "cannot write '\\udcff' as utf-8. If it is in the name" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_parquet_rows_are_named_too(tmp_path: Path) -> None:
    rows: Rows = [("a", "x"), (None, "y"), ("c", "x")]
    with pytest.raises(DataError, match="row 2"):
        load_own(write(tmp_path / "a.parquet", rows), strict=True)


def test_a_folder_brings_its_own_splits(tmp_path: Path) -> None:
    rows = [(text, label) for text, label in made(200)]
    write(tmp_path / "train.csv", [*rows[:120], rows[130], rows[190]])
    write(tmp_path / "dev.jsonl", [*rows[120:160], rows[191]])
    write(tmp_path / "test.parquet", rows[160:])
    (tmp_path / "README.txt").write_text("not read")
    found = split(load_own(tmp_path))
    assert found.validation is not None
    assert [len(part) for part in (found.train, found.validation, found.test)] == [120, 40, 40]
    assert found.counts["train_texts_dropped_as_in_validation"] == 1 == found.counts["train_texts_dropped_as_in_test"]
    assert found.counts["validation_texts_dropped_as_in_test"] == 1
    (tmp_path / "dev.jsonl").unlink()
    without = split(load_own(tmp_path))
    assert without.validation is not None and len(without.validation) == 12
    write(tmp_path / "test.parquet", [("new", "class 7")])
    with pytest.raises(DataError, match="test.parquet: row 1 has the label 'class 7', expected one of those in train"):
        load_own(tmp_path)
    write(tmp_path / "test.csv", rows[160:])
    with pytest.raises(DataError, match="got test.csv, test.parquet for test, expected one file"):
        load_own(tmp_path)


def test_places_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no train file.*found: none"):
        load_own(tmp_path)
    write(tmp_path / "train.csv", made())
    with pytest.raises(DataError, match="no test file.*found: train.csv.*give that file"):
        load_own(tmp_path)
    with pytest.raises(DataError, match="is not there"):
        load_own(tmp_path / "gone.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        load_own(tmp_path / "pipe.csv")


@pytest.mark.parametrize("texts", [160, 1000, 18_000, 400_000])
@pytest.mark.parametrize("length", [0, 12, 300])
@pytest.mark.parametrize("backend", ["dense", "spiking"])
@pytest.mark.parametrize("network", ["pooling", "tokens"])
def test_sizes_are_settings_that_fit(texts: int, length: int, backend: str, network: str) -> None:
    found = sizes([length] * 50, 20, texts, network=network)
    config = configured("imdb", backend, "own", {**found, "network": network})
    assert config.network.name == network and 5 <= config.learning.epochs <= 100
    if network == "tokens":
        assert 8 <= config.data.rows <= 256 and config.data.rows >= min(length, 256)


def test_sizes_come_from_the_texts_unless_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.csv", made())
    monkeypatch.chdir(tmp_path)
    config = parse_run(["--epochs", "3", "a.csv", "--network", "tokens"])
    assert config.run.preset == "own" and (config.data.rows, config.learning.batch, config.learning.epochs) == (
        16,
        8,
        3,
    )
    assert config.data.dataset == str(tmp_path / "a.csv") and config.data.dataset_name == "a"
    assert parse_run(["a.csv", "--hidden", "9", "5"]).network.weight_matrices == 4
    changes, rates = (parse_run(["a.csv", "--backend", "spiking", *more]) for more in ((), ("--neuron", "if")))
    assert changes.network.name == rates.network.name == "pooling" and changes.settings()["neuron"] == "sigma-delta"
    assert changes.settings()["projection_threshold"] == 1.0 and "projection_threshold" not in rates.settings()
    tokens = parse_run(["a.csv", "--backend", "spiking", "--network", "tokens"])
    assert (tokens.settings()["neuron"], tokens.network.name) == ("if", "tokens")
    winners = parse_run(["a.csv", "--backend", "spiking", "--circuit", "wta"]).settings()
    assert (winners["winners"], winners["query_threshold"]) == (256, 0)
    assert parse_run(["a.csv", "--preset", "paper-small"]).data.rows == 256
    (tmp_path / "mine.toml").write_text('dataset = "a.csv"\nhidden = [7]\n')
    assert parse_run(["--config", "mine.toml"]).network.hidden == (7,)
    assert parse_run(["--config", "mine.toml"]).data.dataset == str(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "'nonsense', expected one of imdb, snli, mini, mnist, digits, or a file of texts .*or a folder"),
        (["nowhere.csv", "--epochs", "3"], "'nowhere.csv', expected"),
        (["imbd"], "got 'imbd' .did you mean imdb.., expected one of"),
        (["MNIST"], "did you mean mnist"),
        (["mini.csv"], "got 'mini.csv', expected one of"),
        (["mini", "--strict"], "acts with a file or folder of your own only; got mini"),
        (["mini", "--class-names", "a", "b"], "acts with a file or folder of your own only; got mini"),
        (["bl.csv", "--strict"], "1 row has no text or no label .row 32."),
        (["--epochs", "3"], "the dataset is missing"),
        (
            ["a.csv", "--text-column", "premise", "hypothesis", "why"],
            "got premise hypothesis why, expected one column, or two",
        ),
        (["a.csv", "--text-column", "body"], "expected a column 'body'"),
        (["mini", "--label-column", "y"], "acts with a file or folder of your own only; got mini"),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.csv", made())
    write(tmp_path / "bl.csv", [*((f"text {i}", i % 2) for i in range(30)), ("", 1), ("end", 1)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        command("run", *arguments)
    said = " ".join(capsys.readouterr().err.split())
    assert end.value.code == 2 and re.search(says, said) and "Traceback" not in said


def test_names_are_no_built_in_sets() -> None:
    names = [name_of(dataset) for dataset in ("imdb", "/data/imdb.csv", "/data/imdb", "/data/my.reviews.csv")]
    assert names == ["imdb", "own-imdb", "own-imdb", "my.reviews"]


def test_a_run_from_a_file_and_its_continuation_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    file = write(tmp_path / "data" / "reviews.csv", made(60, 3), ("body", "kind"))
    monkeypatch.chdir(tmp_path / "data")
    flags = ["reviews.csv", "--text-column", "body", "--label-column", "kind", "--epochs", "1"]
    command("run", *flags)
    folder = tmp_path / "data/runs/reviews-dense-own-seed0"
    result = json.loads((folder / "result.json").read_text())
    assert result["dataset"] == "reviews" and result["classes"] == ["class 0", "class 1", "class 2"]
    assert result["n_test"] == 12 and "rate_class 2" in pq.read_schema(folder / "predictions.parquet").names
    about = json.loads((folder / "environment.json").read_text())
    assert about["data"].startswith("reviews.csv SHA-256 ") and about["counts"]["texts"] == 60

    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("result.json", "checkpoint"):
        (folder / name).rename(tmp_path / name)
    resumed = run(parse_run(["--resume", str(folder)]), Reporter())  # from its start: there is no checkpoint
    assert resumed["test_accuracy"] == result["test_accuracy"] and resumed["path"] == folder
    again = run(replace_out(parse_run(["--config", str(folder / "config.toml")]), tmp_path / "again"), Reporter())
    assert again["test_accuracy"] == result["test_accuracy"]

    (folder / "result.json").unlink()
    file.write_text(file.read_text() + "one more,class 0\n")
    with pytest.raises(RunError, match="has changed since this run began"):
        run(parse_run(["--resume", str(folder)]), Reporter())


def replace_out(config: RunConfig, out: Path) -> RunConfig:
    return varied(config, out=out)


def test_words_that_tell_the_class_are_learnt(tmp_path: Path) -> None:
    file = write(tmp_path / "plain.csv", made(200, 4))
    found = run(replace_out(parse_run([str(file), "--epochs", "5"]), tmp_path / "run"), Reporter())
    assert found["test_accuracy"] > 0.9


def test_from_python_sizes_are_those_of_the_command_line(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", made())
    config = configure(str(file), "spiking", neuron="sigma-delta", epochs=2)
    assert config == parse_run([str(file), "--backend", "spiking", "--neuron", "sigma-delta", "--epochs", "2"])
    with pytest.raises(ConfigError, match="--neuron sigma-delta: acts with --backend spiking"):
        configure(str(file), neuron="sigma-delta")
