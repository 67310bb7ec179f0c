"""Whatever is in a file, its reader answers or raises an EqspikeError; EQSPIKE_FUZZ=N tries N inputs of each kind."""

import gzip
import io
import json
import os
import shutil
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.answers import confusion, mistakes, texts
from analysis.comparison import cells, compare
from analysis.folders import open_run
from analysis.paper import accuracies, costs
from analysis.paper import settings as table_of_settings
from analysis.pictures import draw_all
from analysis.report import provenance
from analysis.sweep_report import main as show_sweep
from eqspike.build import configure, make_backend
from eqspike.commands.export import trained
from eqspike.commands.sweep import axis, opened
from eqspike.flags import parse_run
from eqspike.prediction import Predictor
from eqspike.provenance import command as made_by
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.cache import cache_dir
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.data.embeddings import random_vectors, read_vectors
from eqspike_seq.data.encoding import as_words, token_ids
from eqspike_seq.data.images import load_mnist
from eqspike_seq.data.imdb import load_imdb
from eqspike_seq.data.own import load_own
from eqspike_seq.data.patterns import NGrams
from eqspike_seq.data.snli import load_snli
from eqspike_seq.devices.device_model import read_device
from eqspike_seq.errors import EqspikeError
from eqspike_seq.files import read_json, save_arrays
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.runs.archive import contents, pack
from eqspike_seq.runs.folder import RunFolder
from neuromorphic.pricing import read_table
from tests.eqspike_seq.test_pairs import DEV, GOOD, archive, json_lines, pairs

INPUTS = int(os.environ.get("EQSPIKE_FUZZ", 20))
LONG = "EQSPIKE_FUZZ" in os.environ
ROWS = [(f"word{i % 2} number {i}, 茶", f"class {i % 2}") for i in range(20)]
TEXTS = ["a dull film", "a superb one", ""]
ODD = (
    *(
        b"\x00",
        b"\xff\xfe",
        b'"',
        b"\n",
        b"\r",
        b",",
        b"NaN",
        b"1e999",
        b"-1",
        b"\\ud800",
        b"[" * 2000,
        b'{"a":' * 2000,
    ),
    *(b"a." * 2000, b"9" * 5000, b"\xe2\x80\xa8", b"<script>", b"$\\frac{$", b"[/b]", b"\x1b"),
)
fuzzed = settings(
    max_examples=INPUTS,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["", "../../x", "\ud800", "<b>", "[/b]", "$\\frac{$", "sigma-delta", 10**39, 1e300, -0.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def harmed(draw: st.DrawFn, whole: bytes) -> bytes:
    """``whole`` cut short, with bytes changed, a piece repeated or left out, or something odd put in; or not at all."""
    place, other = (draw(st.integers(0, len(whole))) for _ in range(2))
    kind = draw(st.sampled_from(["cut", "change", "repeat", "odd", "odd", "random"]))
    if kind == "cut":
        return whole[:place]
    if kind == "repeat":
        return whole[:place] + whole[other:]
    if kind == "odd":
        return whole[:place] + draw(st.sampled_from(ODD)) + whole[place:]
    if kind == "random":
        return draw(st.binary(max_size=100))
    changed = bytearray(whole)
    for _ in range(draw(st.integers(1, 8))):
        changed[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
    return bytes(changed)


@st.composite
def swapped(draw: st.DrawFn, whole: Any) -> Any:
    """A JSON value with one value in it, at any depth, changed for another or left out."""
    found = deepcopy(whole)
    inside = found
    while inside:
        key = draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
        if isinstance(inside[key], dict | list) and inside[key] and draw(st.integers(0, 4)):
            inside = inside[key]
            continue
        if draw(st.integers(0, 4)):
            inside[key] = draw(values)
        else:
            del inside[key]
        break
    return found


def as_toml(found: dict[str, object]) -> bytes | None:
    """As TOML; None for what TOML cannot say."""
    try:
        return tomli_w.dumps(found).encode()
    except (TypeError, ValueError):
        return None


def bytes_of(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def answers(read: Callable[[], object]) -> None:
    """``read`` ends, or in an EqspikeError with a message that can be printed."""
    try:
        read()
    except EqspikeError as error:
        assert str(error).strip()
        str(error).encode("utf-8", "backslashreplace")


def corpora() -> Iterator[tuple[str, bytes]]:
    yield "own.csv", b"text,label\n" + b"".join(f'"{t}",{c}\n'.encode() for t, c in ROWS)
    yield "own.tsv", b"text\tlabel\n" + b"".join(f"{t}\t{c}\n".encode() for t, c in ROWS)
    yield "own.jsonl", b"".join(json.dumps({"text": t, "label": c}).encode() + b"\n" for t, c in ROWS)
    columns = {name: [row[i] for row in ROWS] for i, name in enumerate(("text", "label"))}
    pq.write_table(pa.table(columns), file := pa.BufferOutputStream())
    yield "own.parquet", file.getvalue().to_pybytes()


@pytest.mark.parametrize(("name", "whole"), list(corpora()), ids=lambda value: value if isinstance(value, str) else "")
def test_own_texts(tmp_path: Path, name: str, whole: bytes) -> None:
    assert len(load_own(bytes_of(tmp_path / name, whole)).train) == 16

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        answers(lambda: load_own(bytes_of(tmp_path / name, content)))

    tried()


def test_cells_of_any_type(tmp_path: Path) -> None:
    @fuzzed
    @given(swapped([{"text": text, "label": label} for text, label in ROWS]))
    def tried(rows: list[object]) -> None:
        lines = "\n".join(json.dumps(row) for row in rows)
        answers(lambda: load_own(bytes_of(tmp_path / "own.jsonl", lines.encode())))

    tried()


def test_settings(tmp_path: Path) -> None:
    whole = configure("imdb", "spiking", neuron="sigma-delta", out=Path("x"), data_dir=Path("y")).to_toml()
    path = tmp_path / "c.toml"

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        answers(lambda: parse_run(["--config", str(bytes_of(path, content))]))

    @fuzzed
    @given(swapped(tomllib.loads(whole.decode())))
    def changed(found: dict[str, object]) -> None:
        if (content := as_toml(found)) is not None:
            answers(lambda: parse_run(["--config", str(bytes_of(path, content))]))

    assert parse_run(["--config", str(bytes_of(path, whole))]).settings()["neuron"] == "sigma-delta"
    tried()
    changed()


def test_cost_tables(tmp_path: Path) -> None:
    whole = (Path(__file__).parent.parent / "neuromorphic" / "costs" / "loihi.toml").read_bytes()
    path = tmp_path / "mine.toml"

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        answers(lambda: read_table(str(bytes_of(path, content))))

    @fuzzed
    @given(swapped(tomllib.loads(whole.decode())))
    def changed(found: dict[str, object]) -> None:
        if (content := as_toml(found)) is not None:
            answers(lambda: read_table(str(bytes_of(path, content))))

    assert read_table(str(bytes_of(path, whole))).title == "Loihi"
    tried()
    changed()


@pytest.mark.parametrize("name", ["pcm", "cmos-mismatch"])
def test_device_models(tmp_path: Path, name: str) -> None:
    """Each answers; and what its synapses store is finite, whatever is in the file."""
    whole = (Path(__file__).parent.parent / "eqspike_seq" / "devices" / "profiles" / f"{name}.toml").read_bytes()
    path, weight = tmp_path / "mine.toml", torch.linspace(-1, 1, 12).view(3, 4)

    def used() -> None:
        device, random = read_device.__wrapped__(str(path)), torch.Generator().manual_seed(0)
        limit = device.limit(weight.shape[-1])
        stored = device.programmed(weight, limit, random)
        assert stored.isfinite().all() and device.written(stored, -0.1 * weight, limit, random).isfinite().all()
        for imperfection in device.imperfections.values():
            repr(imperfection)

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        bytes_of(path, content)
        answers(used)

    @fuzzed
    @given(swapped(tomllib.loads(whole.decode())))
    def changed(found: dict[str, object]) -> None:
        if (content := as_toml(found)) is not None:
            bytes_of(path, content)
            answers(used)

    bytes_of(path, whole)
    used()
    tried()
    changed()


patterns = st.lists(st.sampled_from(["a", "b", "c", "a b", "b a", "a b c", "b c", "", " ", "a  b", "é", "a b c a"]))


def test_vocabularies_of_patterns() -> None:
    """Names of patterns in any order are refused, or become the same names again."""

    @fuzzed
    @given(patterns)
    def tried(names: list[str]) -> None:
        try:
            grams = NGrams.of(names)
        except ValueError as error:
            assert str(error)
        else:
            assert grams.names() == names

    assert NGrams.of(["a", "b", "a b", "b a", "a b a"]).names() == ["a", "b", "a b", "b a", "a b a"]
    tried()


@pytest.mark.parametrize("form", ["bin", "txt", "npz"])
def test_word_vectors(tmp_path: Path, form: str) -> None:
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(3)
    vectors.add_vectors(["dull", "superb", "film"], np.eye(3, dtype=np.float32))
    path = tmp_path / f"vectors.{form}"
    if form == "npz":
        save_arrays(path, {"words": np.array(vectors.index_to_key), "vectors": vectors.vectors})
    else:
        vectors.save_word2vec_format(str(path), binary=form == "bin")
    whole = path.read_bytes()
    assert len(read_vectors(path, ["dull", "film"]).index) == 2

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        answers(lambda: read_vectors(bytes_of(path, content), ["dull", "film"]))

    tried()


def test_a_cache_harmed_in_any_way_gives_the_ids_of_the_texts() -> None:
    embeddings = random_vectors(TEXTS, 2, 1, "unicode")
    expected = as_words(TEXTS, "unicode", embeddings.index)
    token_ids(TEXTS, embeddings, "unicode")
    (path,) = (cache_dir() / "words").iterdir()
    whole = path.read_bytes()

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        bytes_of(path, content)
        found = token_ids(TEXTS, embeddings, "unicode")
        assert (found.ids == expected.ids).all() and (found.lengths == expected.lengths).all()
        assert found.letters == expected.letters

    tried()


def test_archives(tmp_path: Path) -> None:
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as archive:
        for place in ("train/pos", "train/neg", "test/pos", "test/neg"):
            member = tarfile.TarInfo(f"aclImdb/{place}/0_9.txt")
            member.size = 4
            archive.addfile(member, io.BytesIO(place[-4:].encode()))
    path = tmp_path / "aclImdb_v1.tar.gz"

    @fuzzed
    @given(harmed(file.getvalue()[: 9 * 512]), st.booleans())
    def tried(content: bytes, packed: bool) -> None:
        bytes_of(path, gzip.compress(content, 1) if packed else content)
        answers(lambda: load_imdb(tmp_path))

    bytes_of(path, gzip.compress(file.getvalue()))
    assert len(load_imdb(tmp_path).train) == 2
    tried()


def test_pairs_in_an_archive(tmp_path: Path) -> None:
    assert len(load_snli(bytes_of(tmp_path / "snli.zip", GOOD)).train) == 120
    lines = json_lines(pairs(3, "old"))

    @fuzzed
    @given(harmed(GOOD))
    def tried(content: bytes) -> None:
        answers(lambda: load_snli(bytes_of(tmp_path / "snli.zip", content)))

    @fuzzed
    @given(harmed(lines))
    def changed(content: bytes) -> None:
        answers(lambda: load_snli(bytes_of(tmp_path / "snli.zip", archive({DEV: content}))))

    tried()
    changed()


def test_images(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    few = {
        f"{kind}_{part}": np.zeros((2, 28, 28) if kind == "x" else 2, np.uint8)
        for kind in "xy"
        for part in ("train", "test")
    }
    save_arrays(path, few)
    whole = path.read_bytes()

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        bytes_of(path, content)
        answers(lambda: load_mnist(tmp_path))

    tried()


def look(folder: Path) -> None:
    """All that a report reads of a run, and in a long run all that it draws."""
    run = open_run(folder)
    table = read_table("loihi")
    for reader in (lambda: run.ledgers, lambda: run.curves, lambda: confusion(run), lambda: run.gradient_check):
        with suppress(EqspikeError):
            reader()
    cells(compare([run, run], table)[0])
    provenance(run, made_by)
    for rows in (accuracies, costs, table_of_settings):
        rows([[run]])
    texts(run)
    mistakes(run)
    if LONG:
        list(draw_all([run], table))


FILES = ("result.json", "metrics.jsonl", "ledger.json", "curves.json", "environment.json", "vocabulary.json")
ANSWERS = ("vocabulary.json", "vectors.safetensors", "checkpoint/model.safetensors")  # read for these, not by reports
BINARY = ("config.toml", "samples.npz", "predictions.parquet", "vectors.safetensors", "checkpoint/model.safetensors")


@pytest.fixture(scope="module")
def copy(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("harmed") / "run"
    shutil.copytree(finished, place)
    return place


@pytest.mark.parametrize("name", [*FILES, *BINARY])
def test_run_folders(copy: Path, name: str) -> None:
    path = copy / name
    whole = path.read_bytes()

    def used() -> None:
        if name not in ANSWERS:
            answers(lambda: look(copy))
        if name in (*ANSWERS, "result.json", "config.toml"):
            answers(lambda: Predictor.open(copy).predict("the plot was superb"))
            answers(lambda: trained(copy))

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        bytes_of(path, content)
        used()

    @fuzzed
    @given(
        swapped(json.loads(whole.splitlines()[0] if name == "metrics.jsonl" else whole) if name in FILES else {"a": 1})
    )
    def changed(found: object) -> None:
        bytes_of(path, json.dumps(found).encode())
        used()

    try:
        look(copy)
        tried()
        if name in FILES:
            changed()
    finally:
        path.write_bytes(whole)


def test_zips_of_runs(copy: Path, tmp_path: Path) -> None:
    pack(contents(copy), tmp_path / "whole.zip")
    whole = (tmp_path / "whole.zip").read_bytes()

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        path = bytes_of(tmp_path / f"{len(list(tmp_path.iterdir()))}.zip", content)
        answers(lambda: look(path))
        answers(lambda: Predictor.open(path).predict("the plot was superb"))

    tried()


@pytest.mark.parametrize("name", ["state.json", "optimizer.safetensors", "model.safetensors"])
def test_checkpoints(copy: Path, name: str) -> None:
    config = parse_run(["--config", str(copy / "config.toml")])
    dataset = load_dataset(config.data)
    trainer, path = Trainer(config, dataset, make_backend(config)), copy / "checkpoint" / name
    whole = path.read_bytes()

    def resumed() -> None:
        saved = RunFolder(copy, None).load_checkpoint()
        assert saved is not None
        trainer.restore(saved)
        trainer.checkpoint()

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        bytes_of(path, content)
        answers(resumed)

    @fuzzed
    @given(swapped(read_json(path) if name == "state.json" else {"a": 1}))
    def changed(found: object) -> None:
        bytes_of(path, json.dumps(found).encode())
        answers(resumed)

    try:
        resumed()
        tried()
        if name == "state.json":
            changed()
    finally:
        path.write_bytes(whole)


def test_sweeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    axes = dict([axis("beta=0.1,0.2")])
    spec = {"settings": {"seed": 0}, "seeds": [0], "points": [{"beta": "0.1"}, {"beta": "0.2"}]}
    opened(tmp_path, spec, axes)
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    trial = {"number": 1, "settings": {"beta": "0.1"}, "state": "fail", "validation_accuracy": None, "runs": ["r"]}
    summary = {"format": FORMAT, "settings": {}, "seeds": [0], "trials": [{**trial, "failed": "diverged"}]}

    @fuzzed
    @given(harmed(whole))
    def tried(content: bytes) -> None:
        bytes_of(journal, content)
        answers(lambda: opened(tmp_path, spec, axes))

    @fuzzed
    @given(swapped(summary))
    def changed(found: object) -> None:
        answers(lambda: show_sweep(bytes_of(tmp_path / "sweep.json", json.dumps(found).encode()), made_by))

    tried()
    changed()
    capsys.readouterr()
