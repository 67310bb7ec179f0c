"""``eqspike rerun``: what is the same is the same bit for bit, what differs is named, what cannot be is refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from analysis.repetition import compare, report
from eqspike_seq.errors import RunError
from eqspike_seq.files import read_arrays, save_arrays
from tests.conftest import command
from tests.eqspike_seq.test_own_data import made, write

EQSPIKE = [sys.executable, "-m", "eqspike"]
KINDS = [
    ["dense"],
    ["spiking", "--neuron", "if"],
    ["spiking", "--neuron", "lif"],
    ["spiking", "--neuron", "bernoulli"],
    ["spiking", "--neuron", "sigma-delta"],
    ["spiking", "--neuron", "sigma-delta", "--circuit", "wta"],
]

PICKLED = 'embeddings = "a.kv"\ntrust_pickle = true'


def small(out: Path, *flags: object) -> Path:
    command("run", "mini", "--limit", 32, "--epochs", 1, "--batch", 16, "--out", out, *flags)
    return out


def rerun(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        command("rerun", *arguments)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spiking run, not to be changed."""
    return small(tmp_path_factory.mktemp("runs") / "run", "--backend", "spiking")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_the_same_settings_seed_and_vectors_give_the_same_bits(
    tmp_path: Path, kind: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = small(tmp_path / "run", "--word-dropout", 0.1, "--backend", *kind)
    assert rerun(before) == 0 and "Matched" in capsys.readouterr().out
    after = tmp_path / "run-rerun"
    for name in ("ledger.json", "curves.json", "predictions.parquet", "checkpoint/model.safetensors"):
        assert (before / name).read_bytes() == (after / name).read_bytes(), name
    lines = [(path / "metrics.jsonl").read_text().splitlines() for path in (before, after)]
    for was, now in zip(*([json.loads(line) for line in part] for part in lines), strict=True):
        assert {**was, "seconds": 0} == {**now, "seconds": 0}
    mine, theirs = (read_arrays(path / "samples.npz") for path in (before, after))
    assert mine.keys() == theirs.keys() and any("spikes" in name for name in mine) == (kind != ["dense"])
    assert all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)


def test_a_fresh_process_with_other_hashes_in_another_folder_matches_too(folder: Path, tmp_path: Path) -> None:
    variables = {**os.environ, "PYTHONHASHSEED": "7", "COLUMNS": "200"}
    arguments = [*EQSPIKE, "rerun", str(folder), "--out", "again"]
    found = subprocess.run(arguments, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Matched" in found.stdout and (tmp_path / "again/result.json").is_file()


def test_of_one_bit_the_place_is_told(folder: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = {name: array.copy() for name, array in load_file(copy / "checkpoint/model.safetensors").items()}
    weights["w2"].view(np.uint32)[2, 5] ^= 1
    save_file(weights, copy / "checkpoint/model.safetensors")
    found = compare("checkpoint/model.safetensors", folder, copy)
    assert found is not None and found.values == sum(array.size for array in weights.values())
    assert found.differ == 1 and found.first.startswith("w2[2, 5]: was ")
    assert report(folder, copy, ["threads was 1, is 2"]) == 1
    said = capsys.readouterr().out
    assert "Not matched: checkpoint/model.safetensors" in said and said.endswith("threads was 1, is 2\n")


def changed_json(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda path: (path / name).write_text(change((path / name).read_text())) and None


def changed_samples(path: Path) -> None:
    arrays = read_arrays(path / "samples.npz")
    arrays["free_spikes_s2"][3, 1, 4] ^= True
    save_arrays(path / "samples.npz", arrays)


def changed_predictions(path: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(path / "predictions.parquet")
    rates = table["rate_positive"].to_numpy().copy()
    rates[7] = np.nextafter(rates[7], np.float32(2))
    place = table.column_names.index("rate_positive")
    pq.write_table(table.set_column(place, "rate_positive", [rates]), path / "predictions.parquet")


@pytest.mark.parametrize(
    ("name", "change", "first"),
    [
        ("samples.npz", changed_samples, "free_spikes_s2[3, 1, 4]: was "),
        ("predictions.parquet", changed_predictions, "rate_positive[7]: was "),
        (
            "result.json",
            changed_json("result.json", lambda t: t.replace('"n_test": 32', '"n_test": 33')),
            "n_test: was 32",
        ),
        (
            "metrics.jsonl",
            changed_json("metrics.jsonl", lambda t: t.replace('"loss": ', '"loss": 1')),
            "step 2 loss: was",
        ),
        ("metrics.jsonl", changed_json("metrics.jsonl", lambda t: ""), "step 2 format: was str"),
    ],
)
def test_what_differs_is_named(folder: Path, copy: Path, name: str, change: Callable[[Path], None], first: str) -> None:
    change(copy)
    found = compare(name, folder, copy)
    assert found is not None and found.differ >= 1 and found.first.startswith(first), found


def test_what_a_run_took_is_its_own_and_what_was_not_kept_is_told(
    folder: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = json.loads((copy / "result.json").read_text())
    own = {"train_seconds": 1e9, "test_seconds": 1e9, "peak_memory_bytes": 1, "measured_joules": {"training": 3.0}}
    (copy / "result.json").write_text(json.dumps({**result, **own}))
    assert report(folder, copy, []) == 0
    (copy / "samples.npz").unlink()
    assert report(copy, folder, []) == 0 and "not in copy" in capsys.readouterr().out


def test_other_versions_threads_and_processes_are_told_before_it_starts_and_after(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    about = json.loads((copy / "environment.json").read_text())
    about["versions"]["torch"] = "0.9"
    (copy / "environment.json").write_text(json.dumps({**about, "threads": 99, "processes": 3}))
    line = (copy / "metrics.jsonl").read_text().replace('"loss": 0', '"loss": 1')
    (copy / "metrics.jsonl").write_text(line)
    assert rerun(copy) == 1
    out, err = capsys.readouterr()
    for said in ("torch was 0.9, is ", "threads was 99, is ", "OMP_NUM_THREADS=99", "--nproc-per-node 3"):
        assert said in out.split("Not matched: metrics.jsonl")[1], said
        assert err.index(said) < err.index("reading mini"), said


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: shutil.rmtree(path), "it has no config.toml"),
        (lambda path: (path / "environment.json").unlink(), "it has no environment.json"),
        (lambda path: (path / "environment.json").write_text("[]"), "environment.json is not that of a run"),
        (changed_json("result.json", lambda t: t.replace("true", "false")), "the run has not ended"),
        (changed_json("config.toml", lambda t: t + "colour = 3\n"), "unknown setting 'colour'"),
        (
            changed_json(
                "config.toml", lambda t: t.replace('embeddings = "random"', 'embeddings = "a.kv"\ntrust_pickle = true')
            ),
            "are a pickle",
        ),
        (
            changed_json("environment.json", lambda t: t.replace('"data_sha256": "', '"data_sha256": "0')),
            "its texts and labels have changed",
        ),
        (
            changed_json("environment.json", lambda t: t.replace('"embedding_sha256": "', '"embedding_sha256": "0')),
            "its word vectors have changed",
        ),
        (lambda path: shutil.copytree(path, path.with_name("copy-rerun")), "holds a finished run"),
    ],
)
def test_what_cannot_be_repeated_ends_with_2_and_leaves_nothing(
    copy: Path, spoil: Callable[[Path], object], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(copy)
    before = sorted(copy.parent.rglob("*"))
    assert rerun(copy) == 2
    assert says in capsys.readouterr().err
    assert [path for path in sorted(copy.parent.rglob("*")) if "cache" not in path.parts] == before


def test_own_data_is_looked_for_where_it_is_now_and_must_be_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    file = write(tmp_path / "reviews.csv", made(30, 2))
    flags = ("--epochs", 1, "--embeddings", "word2vec", "--workers", 2, "--out", tmp_path / "run")
    command("run", file, *flags)
    (vectors,) = (Path(os.environ["EQSPIKE_CACHE"]) / "embeddings").glob("*")
    (tmp_path / "moved").mkdir()
    moved = file.rename(tmp_path / "moved/reviews.csv")
    assert rerun(tmp_path / "run") == 2 and "Give its folder with --data-dir" in capsys.readouterr().err
    there = (tmp_path / "run", "--data-dir", tmp_path / "moved")
    assert rerun(*there) == 0 and "2 threads trained the word vectors" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "run-rerun")
    whole = moved.read_text()
    moved.write_text(whole + "one more,class 0\n")
    assert rerun(*there) == 2 and "its texts and labels have changed" in capsys.readouterr().err
    moved.write_text(whole)
    arrays = read_arrays(vectors)
    save_arrays(vectors, {**arrays, "vectors": arrays["vectors"] + np.eye(*arrays["vectors"].shape, dtype=np.float32)})
    assert rerun(*there) == 2 and "2 threads trained them" in capsys.readouterr().err


def test_an_interrupted_repetition_is_continued_by_the_same_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from eqspike_seq.learning.trainer import Trainer

    original = Trainer.train_batch

    def interrupted(self: Trainer) -> None:
        original(self)
        os.kill(os.getpid(), 2)

    monkeypatch.setattr(Trainer, "train_batch", interrupted)
    assert rerun(folder, "--out", tmp_path / "again") == 130
    assert "continue by the same command" in capsys.readouterr().err
    monkeypatch.setattr(Trainer, "train_batch", original)
    assert rerun(folder, "--out", tmp_path / "again") == 0
    out, err = capsys.readouterr()
    assert "resumed at batch 1 of 2" in err and "Matched" in out


@pytest.mark.parametrize(
    ("backend", "precision", "most"),
    [("dense", "float32", 1e-3), ("dense", "auto", 5e-2), ("spiking", "float32", 5e-2), ("spiking", "auto", 5e-2)],
)
def test_two_threads_compute_what_one_does_within_a_tolerance(
    tmp_path: Path, backend: str, precision: str, most: float
) -> None:
    """``most``: of what training changes. Where sums are split, a last digit differs, and it may move spikes."""
    before, folders = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            folders.append(small(tmp_path / f"{threads}", "--backend", backend, "--precision", precision))
            assert json.loads((folders[-1] / "environment.json").read_text())["threads"] == threads
    finally:
        torch.set_num_threads(before)
    one, two = (load_file(folder / "checkpoint/model.safetensors") for folder in folders)
    for name, halfway in load_file(folders[0] / "halfway.safetensors").items():
        changed = np.linalg.norm(one[name] - halfway)
        assert 0 < changed and np.linalg.norm(two[name] - one[name]) <= most * changed, name
    was, now = (json.loads((folder / "ledger.json").read_text())["inference"]["counts"] for folder in folders)
    for layer, phases in was.items():
        for kind, count in phases["free"].items():
            assert now[layer]["free"][kind] == pytest.approx(count, rel=most), (layer, kind)


def test_a_table_that_unpacks_to_too_much_is_not_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.repetition.LARGEST_TABLE", 100)
    with pytest.raises(RunError, match="predictions.parquet cannot be read.*unpacks to over 100 bytes"):
        compare("predictions.parquet", copy, copy)
