"""Files of strangers: nothing in them is run, nothing is written outside, no more is read than was stated."""

import ast
import gzip
import io
import json
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import eqspike_seq
from analysis.folders import open_run
from analysis.report import page
from eqspike.build import configure
from eqspike.commands.predict import lines
from eqspike.flags import parse_run
from eqspike.prediction import Predictor
from eqspike.provenance import command as made_by
from eqspike_seq import files
from eqspike_seq.data import embeddings, imdb, tables
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.data.embeddings import read_vectors
from eqspike_seq.data.images import load_mnist
from eqspike_seq.data.imdb import load_imdb
from eqspike_seq.data.own import load_own
from eqspike_seq.errors import ConfigError, DataError, EqspikeError
from eqspike_seq.files import parse_json, read_arrays, read_tensors, read_toml, save_arrays
from eqspike_seq.memory import resident
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.runs.archive import contents, opened
from neuromorphic.pricing import read_table
from tests import offline
from tests.conftest import command

PACKAGES = [Path(eqspike_seq.__file__).parent.parent / name for name in offline.PACKAGES]
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
HOSTILE = "</script><script>f()</script><img src=x onerror=f()>$\\frac{$[/b]&lt;"


def npy(shape: str, kind: str = "<f8") -> bytes:
    """An array as .npy that holds nothing of what its head says."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def safetensors(path: Path, head: object, data: bytes = b"") -> Path:
    text = json.dumps(head).encode() if not isinstance(head, bytes) else head
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@contextmanager
def memory(most: int) -> Iterator[None]:
    """Fails where more than ``most`` bytes of memory come to be used inside."""
    before = resident()
    yield
    assert resident() - before < most


def test_nothing_in_the_packages_unpickles() -> None:
    """But for gensim's KeyedVectors, in one place, which asks for --trust-pickle."""
    found = []
    for file in (file for package in PACKAGES for file in package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found += [(file.name, name.name) for name in node.names if name.name.split(".")[0] in UNPICKLERS]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
                found.append((file.name, str(node.module)))
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                safe = any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
                if called in ("eval", "exec", "torch.load") or (called in ("np.load", "numpy.load") and not safe):
                    found.append((file.name, called))
                if any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords):
                    found.append((file.name, called))
                if called == "KeyedVectors.load":
                    found.append((file.name, called))
    assert found == [("embeddings.py", "KeyedVectors.load")]


class Bomb:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_is_read_with_trust_alone_and_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "vectors.kv"
    path.write_bytes(pickle.dumps(Bomb()))
    for name in ("vectors.bin", "vectors.txt", "vectors.npz", "vectors"):
        (tmp_path / name).write_bytes(path.read_bytes())
    for name in ("vectors.kv", "vectors.bin", "vectors.txt", "vectors.npz", "vectors"):
        with pytest.raises(DataError, match="--trust-pickle|cannot be read"):
            read_vectors(tmp_path / name, ["a"])
    save_arrays(tmp_path / "fine.npz", {"words": np.array(["a"]), "vectors": np.ones((1, 2))})
    with zipfile.ZipFile(tmp_path / "object.npz", "w") as archive:
        np.save(held := io.BytesIO(), np.array([Bomb()], dtype=object))
        archive.writestr("words.npy", held.getvalue())
    with pytest.raises(DataError, match="pickle"):
        read_vectors(tmp_path / "object.npz", ["a"])
    assert not (tmp_path / "exploded").exists()
    said: list[str] = []
    with pytest.raises(DataError):
        load_dataset(configure("mini", "dense", embeddings=str(path), trust_pickle=True).data, said.append)
    assert any("warning: --trust-pickle" in line and str(path) in line for line in said)
    assert (tmp_path / "exploded").exists()  # the bomb is one


@pytest.mark.parametrize(
    "head",
    [
        ("(1000000000000,)", "<f8"),
        ("(9223372036854775807, 9223372036854775807)", "<f8"),
        ("(1000000000000,)", "<U0"),
        ("(-1,)", "<f8"),
        ("(1,)", "|O"),
        ("(" * 40 + ")" * 40, "<f8"),
    ],
)
def test_arrays_that_are_not_what_their_heads_say(tmp_path: Path, head: tuple[str, str]) -> None:
    with pytest.raises(ValueError):
        read_arrays(npz(tmp_path / "a.npz", a=npy(*head)))


def test_archives_that_unpack_to_more_than_stated_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = npz(tmp_path / "bomb.npz", words=npy("(1,)"), vectors=npy("(300000000,)", "|u1") + bytes(300_000_000))
    assert path.stat().st_size < 400_000
    monkeypatch.setattr(files, "LARGEST_ARRAYS", 100_000_000)
    with memory(50_000_000), pytest.raises(DataError, match="unpacks to 300,000,"):
        read_vectors(path, ["a"])
    tar = tmp_path / "aclImdb_v1.tar.gz"
    with tarfile.open(tar, "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("aclImdb/other.bin")  # nothing that is kept, and still it would be unpacked
        member.size = 50_000_000
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    monkeypatch.setattr(imdb, "LARGEST_ARCHIVE", 10_000_000)
    with pytest.raises(DataError, match="unpacks to over 10,000,000 bytes"):
        load_imdb(tmp_path)
    for text in (b"1000000000 300\nword ", b"-1 3\n", b"3\n", b"1e9 2\n"):
        (tmp_path / "v.bin").write_bytes(text)
        (tmp_path / "v.bin.gz").write_bytes(gzip.compress(text))
        for name in ("v.bin", "v.bin.gz"):
            with pytest.raises(DataError, match="cannot be read as word vectors"):
                read_vectors(tmp_path / name, ["word"])
    assert embeddings.LARGEST_ARRAYS == 4_000_000_000


def test_members_that_climb_out_are_not_written_anywhere(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    names = (
        "../../../escaped",
        str(tmp_path / "escaped"),
        "aclImdb/train/pos/../../../../escaped",
        "aclImdb/train/pos/1_1.txt",
    )
    with tarfile.open(place / "aclImdb_v1.tar.gz", "w:gz") as archive:
        for name in names[:-1]:
            archive.addfile(tarfile.TarInfo(name))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            link = tarfile.TarInfo(names[-1])
            link.type, link.linkname = kind, "/etc/passwd"
            archive.addfile(link)
    with pytest.raises(DataError, match="expected both classes"):
        load_imdb(place)
    with zipfile.ZipFile(place / "mnist.npz", "w") as archive:
        archive.writestr("../../escaped.npy", npy("(0,)"))  # of no length, and so a whole one
    with pytest.raises(DataError, match="has no array"):
        load_mnist(place)
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "b", "aclImdb_v1.tar.gz", "mnist.npz"}


@pytest.mark.parametrize("name", ["long.csv", "long.tsv", "long.jsonl"])
def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(10_000_000_000)  # sparse
    with memory(300_000_000):
        with pytest.raises(DataError, match="10,000,000,000 bytes, expected at most 4,000,000,000"):
            load_own(path)
        monkeypatch.setattr(tables, "LARGEST_FILE", 10**11)
        with pytest.raises(DataError, match="line 1 is longer than 20,000,000 characters"):
            load_own(path)
        with path.open("rb") as file, pytest.raises(DataError, match="line 1 is longer"):
            next(lines(file, "standard input", 1, 1))
    for read in (files.read_text, read_toml):
        with pytest.raises(ValueError, match="more than"):
            read(path)
    with pytest.raises(ConfigError, match="more than 1,000,000 bytes"):
        parse_run(["mini", "--config", str(path)])
    with pytest.raises(ConfigError, match="more than 1,000,000 bytes"):
        read_table(str(path))


def test_a_small_file_that_repeats_a_large_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "own.parquet"
    pq.write_table(pa.table({"text": ["word " * 20_000] * 3000, "label": ["a", "b"] * 1500}), path)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr("eqspike_seq.data.tables.LARGEST_FILE", 50_000_000)
    with pytest.raises(DataError, match="more than 50,000,000 characters by row 501"):
        load_own(path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 400 + "}",
        '{"a": "\\ud800"}',
        "[]",
    ],
)
def test_json_that_would_do_harm(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 50_000, "a" + ".a" * 5000 + " = 1", "a = 1\na = 2", "beta = nan", "seed = " + "9" * 5000]
)
def test_settings_that_would_do_harm(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        parse_run(["mini", "--config", str(path)])


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("head", "data"),
    [
        ({"a": {**F32, "shape": [10**9, 10**9], "data_offsets": [0, 4 * 10**18]}}, b""),
        ({"a": {**F32, "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}, bytes(8)),
        ({"a": {**F32, "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}, b""),
        ({"a": F32}, bytes(7)),
        ({"a": F32}, b"\xff" * 8),
        ({"a": F32}, struct.pack("<2f", 1, float("-inf"))),
        ({"a": {**F32, "dtype": "I64", "shape": [1]}}, bytes(8)),
        ({"a": F32, "b": F32}, bytes(8)),
        (b'{"a":' + b"[" * 10_000, b""),
    ],
)
def test_tensors_that_would_do_harm(tmp_path: Path, head: object, data: bytes) -> None:
    with pytest.raises(ValueError):
        read_tensors(safetensors(tmp_path / "a.safetensors", head, data))


def test_a_network_beyond_any_memory_is_refused_before_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weights, expected at most 2,000,000,000. Lower"):
        Network.create(Shape(100_000, 10_000, (1_000_000,), 2), torch.Generator())
    for flags in ({"hidden": (10**10,)}, {"tokens": 10**9}, {"dim": 10**9}, {"seed": 2**70}, {"beta": float("inf")}):
        with pytest.raises(ConfigError, match=f"--{next(iter(flags))}"):
            configure("mini", **flags)


@pytest.fixture
def harmed(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_weights_that_are_no_numbers_or_of_another_shape(harmed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = harmed / "checkpoint" / "model.safetensors"
    good = load_file(path)
    for change, says in (
        ({"w2": good["w2"] * float("nan")}, "w2 holds NaN"),
        ({"b3": good["b3"] + float("inf")}, "b3 holds NaN or inf"),
        ({"w2": good["w2"].T.contiguous()}, "w2 is missing or not of shape"),
        ({"b2": good["b2"] + 1e10}, "b2 reaches 1e+10, expected at most 1e+09"),
        ({"w1": good["w1"].int()}, "expected some of float32"),
        ({"w3": torch.tensor(1.0)}, "w3 is missing or not of shape"),
    ):
        save_file({**good, **change}, path)
        for arguments in (("predict", harmed, "dull"), ("export", harmed, "--format", "safetensors", "--out", "x")):
            with pytest.raises(SystemExit) as stop:
                command(*arguments)
            assert stop.value.code == 2 and says in capsys.readouterr().err
    extreme = {name: 1e9 * tensor.sign() for name, tensor in good.items()}
    save_file(extreme, path)
    assert np.isfinite(list(Predictor.open(harmed).predict("the plot was superb").rates.values())).all()


def zipped(path: Path, run: Path, **others: bytes) -> Path:
    """A zip of a run with other members too, or instead."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**contents(run), **others}.items():
            archive.writestr(name, content)
    return path


def test_a_zip_of_a_run_is_unpacked_to_its_own_folder_and_to_no_more_than_it_may(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that lead elsewhere, links and files nobody knows are left where they are; nothing is run."""
    leading = ("../escaped.json", "checks/../../escaped.json", "/tmp/escaped.json", "checks/a/b.json", "C:\\x.json")
    strange = dict.fromkeys((*leading, "x.pkl", "checkpoint/rows-1.safetensors", ".lock"), pickle.dumps(Bomb()))
    path = zipped(tmp_path / "own.zip", finished, **strange)
    link = zipfile.ZipInfo("checks/link.json")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    folder = opened(path)
    found = {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}
    assert found == {*contents(finished), "checks/link.json"} and not (folder / "checks/link.json").is_symlink()
    assert {each for each in tmp_path.rglob("*") if each.is_file()} - {path} == {folder / name for name in found}
    for name, harm, says in (
        ("bomb", {"samples.npz": bytes(30_000_000)}, "unpacks to 30,"),
        ("empty", {"config.toml": b""}, "expected|missing"),
        ("text", {"config.toml": b"\xff"}, "is not TOML"),
        ("weights", {"checkpoint/model.safetensors": pickle.dumps(Bomb())}, "cannot be read"),
        ("vectors", {"vectors.safetensors": b""}, "cannot be read"),
    ):
        monkeypatch.setattr("eqspike_seq.runs.archive.LARGEST_RUN", 20_000_000)
        with memory(50_000_000), pytest.raises(EqspikeError, match=says):
            Predictor.open(zipped(tmp_path / f"{name}.zip", finished, **harm))
    whole = path.read_bytes()
    for name, content in (
        ("cut", whole[: len(whole) // 2]),
        ("other", b"no zip"),
        ("nothing", b""),
        ("lying", whole.replace(whole[40:60], bytes(20))),
        ("none", npz(tmp_path / "without.zip", config=b"").read_bytes()),
    ):
        (tmp_path / f"{name}.zip").write_bytes(content)
        for command_of in (("predict", tmp_path / f"{name}.zip", "a b"), ("energy", tmp_path / f"{name}.zip")):
            with pytest.raises(SystemExit) as stop:
                command(*command_of)
            assert stop.value.code == 2 and f"{name}.zip: " in capsys.readouterr().err
    assert len(list((tmp_path / "temporary").iterdir())) <= 5  # what could not be unpacked has left nothing


class Elements(HTMLParser):
    """Tags with the names of their attributes; what is said between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_no_element_of_a_report_comes_from_data(harmed: Path) -> None:
    """Words, data sets, neurons, machines and folders with markup make the same elements as plain ones."""

    def told(folder: Path, text: str) -> Elements:
        result = json.loads((folder / "result.json").read_text())
        named = {**result, **dict.fromkeys(("dataset", "neuron", "rule", "circuit"), text), "classes": [text] * 2}
        (folder / "result.json").write_text(json.dumps(named))
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        lines = [{**line, "rates": {text: 0.5}} for line in lines]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "environment.json").write_text(json.dumps({"processor": text, "threads": text, "commit": text}))
        arrays = files.read_arrays(folder / "samples.npz")
        arrays["tokens"] = np.full(arrays["tokens"].shape, text)
        save_arrays(folder / "samples.npz", arrays)
        return Elements(page([open_run(folder)], [text], "loihi", made_by, [text]))

    plain = told(harmed, "plain".ljust(len(HOSTILE), "x"))  # as long: short names of classes head columns
    evil = told(harmed.rename(harmed.parent / HOSTILE.replace("/", "∕")), HOSTILE)
    drawn = {"path", "use", "g", "text", "defs", "clippath", "rect"}  # in pictures, whose axes are as wide as words are
    assert [pair for pair in evil.tags if pair[0] not in drawn] == [pair for pair in plain.tags if pair[0] not in drawn]
    names = {name for tag, names in evil.tags if tag in drawn for name in names}
    assert names <= {
        "data-tip",
        "data-series",
        "id",
        "d",
        "x",
        "y",
        "width",
        "height",
        "style",
        "transform",
        "clip-path",
        "xlink:href",
    }, names
    assert sum(tag == "script" for tag, _ in evil.tags) == 2
    assert HOSTILE in " ".join(evil.said)  # told as it is


def test_names_from_files_do_not_lead_out_of_a_folder(harmed: Path, tmp_path: Path) -> None:
    course = {"ep": [[0.1]], "bptt": [[0.1]], "cosine": [1.0]}
    found = {"records": [], "curves": {"../../escaped": {"w1": course}}}
    (harmed / "checks").mkdir()
    (harmed / "checks" / "gradients.json").write_text(json.dumps(found))
    with pytest.raises(ConfigError, match="gradients.json: cannot be read: curves"):
        _ = open_run(harmed).gradient_check
