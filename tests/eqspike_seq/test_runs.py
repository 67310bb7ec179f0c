"""The run folder: what it holds, that interrupted work goes on to the same end, and what is refused."""

import json
import os
import re
import signal
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from eqspike.build import configure, run
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.data.encoding import Encoded
from eqspike_seq.errors import ConfigError, RunError
from eqspike_seq.files import read_arrays, sha256_of
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.folder import RunFolder
from eqspike_seq.runs.samples import check_samples
from eqspike_seq.runs.schema import Curves, LedgerFile, Metrics, Result
from tests.conftest import is_whole


def small(out: Path | None, backend: str = "dense", **settings: object) -> RunConfig:
    fixed = {
        "batch": 32,
        "beta": 0.1,
        "limit": 96,
        "epochs": 2,
        "checkpoint_every": 2,
        "free_steps": 60,
        "nudge_steps": 60,
        **({"window": 40} if backend == "spiking" and settings.get("neuron") != "sigma-delta" else {}),
    }
    return configure("mini", backend, out=out, **(fixed | settings))


def weights(folder: Path) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {name: tensor.numpy() for name, tensor in load_file(folder / "checkpoint" / "model.safetensors").items()}


def test_files_hold_what_their_schemas_declare_and_nothing_else(finished: Path, tmp_path: Path) -> None:
    for name, schema in (("result.json", Result), ("ledger.json", LedgerFile), ("curves.json", Curves)):
        assert is_whole(finished / name, schema), name
    for line in (finished / "metrics.jsonl").read_text().splitlines():
        (tmp_path / "line.json").write_text(line)
        assert is_whole(tmp_path / "line.json", Metrics)
    check_samples(read_arrays(finished / "samples.npz"))


@pytest.mark.parametrize("backend", ["dense", "spiking"])
def test_a_run_folder_holds_what_reports_rely_on(tmp_path: Path, backend: str) -> None:
    folder = tmp_path / "run"
    result = run(small(folder, backend), Reporter())
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.toml",
        "environment.json",
        "vocabulary.json",
        "vectors.safetensors",
        "metrics.jsonl",
        "checkpoint",
        "halfway.safetensors",
        "ledger.json",
        "result.json",
        "predictions.parquet",
        "samples.npz",
        "curves.json",
    }
    assert {p.name for p in (folder / "checkpoint").iterdir()} == {
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    }
    saved = json.loads((folder / "result.json").read_text())
    assert saved["complete"] is True and saved["format"] == FORMAT and saved["test_accuracy"] == result["test_accuracy"]
    for name in ("environment.json", "vocabulary.json", "curves.json", "ledger.json", "checkpoint/state.json"):
        assert json.loads((folder / name).read_text())["format"] == FORMAT
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    vectors = load_file(folder / "vectors.safetensors")["vectors"].numpy()
    digest = sha256_of(["\n".join(vocabulary["words"]).encode(), vectors.tobytes()])
    assert digest == json.loads((folder / "environment.json").read_text())["embedding_sha256"]
    assert vocabulary["classes"] == ["negative", "positive"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4, 6] and all(line["format"] == FORMAT for line in lines)
    assert ["validation_accuracy" in line for line in lines] == [False, True, False, True]
    table = pq.read_table(folder / "predictions.parquet").to_pydict()
    right = np.mean(np.array(table["label"]) == np.array(table["predicted"]))
    assert right == pytest.approx(saved["test_accuracy"]) and len(table["row"]) == saved["n_test"] == 96
    samples = np.load(folder / "samples.npz", allow_pickle=False)
    assert samples["attention"].shape == (16, 40, 40) and samples["tokens"].shape == (16, 40)
    np.testing.assert_allclose(samples["attention"].astype(float).sum(-1), 1, atol=0.02)
    rates = np.array([table["rate_negative"], table["rate_positive"]]).T
    ahead = {row: abs(rates[row, 0] - rates[row, 1]) for row in range(96) if table["label"][row] != rates[row].argmax()}
    rows = samples["mistakes_rows"]
    assert rows.tolist() == sorted(ahead, key=lambda row: (-ahead[row], row))[:20]
    np.testing.assert_array_equal(samples["mistakes_outputs"], rates[rows])
    texts = load_dataset(small(None).data).test_texts
    for row, words, mask in zip(rows, samples["mistakes_tokens"], samples["mistakes_mask"], strict=True):
        assert words[mask].tolist() == re.findall("[a-z]+", texts[row].lower())
    even = samples["mistakes_attention"].astype(float).sum(1) / samples["mistakes_mask"].sum(1)
    np.testing.assert_allclose(even, 1, atol=0.02)  # of even shares, the mean is one
    curves = json.loads((folder / "curves.json").read_text())
    assert curves["accuracy"][-1] == pytest.approx(saved["test_accuracy"])
    if backend == "spiking":
        raster = samples["free_spikes_s2"]
        assert samples["free_phi"].shape == samples["free_residual"].shape == (3, 16)
        assert np.isfinite(samples["nudge+_residual"]).all()
        assert raster.shape == (60, 16, 64) and raster.dtype == bool and raster.any()
        ledger = json.loads((folder / "ledger.json").read_text())["inference"]
        events = sum(kinds["free"]["synaptic_events"] for kinds in ledger["counts"].values())
        per_synapse = events / sum(ledger["synapses"].values())
        assert saved["spikes_per_synapse_per_inference"] == pytest.approx(per_synapse)
        assert curves["events_per_text"][-1] == pytest.approx(events / 96)
    else:
        assert saved["spikes"] is None and saved["spikes_per_synapse_per_inference"] is None


@pytest.mark.parametrize("backend", ["dense", "spiking"])
@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_interrupted_and_resumed_is_bit_for_bit_uninterrupted(
    tmp_path: Path, stop_after: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = run(small(whole, backend), Reporter())
    original, calls = Trainer.train_batch, []

    def interrupted(self: Trainer) -> None:
        original(self)
        calls.append(self.step)
        if len(calls) == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "train_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(small(parts, backend), Reporter())
    assert not (parts / "result.json").exists()
    found = run(small(parts, backend, resume="auto"), Reporter())
    assert calls == [1, 2, 3, 4, 5, 6]
    assert found["test_accuracy"] == expected["test_accuracy"] and found["spikes"] == expected["spikes"]
    for name, tensor in weights(whole).items():
        assert np.array_equal(tensor, weights(parts)[name]), name
    assert (parts / "curves.json").read_bytes() == (whole / "curves.json").read_bytes()
    assert (parts / "ledger.json").read_bytes() == (whole / "ledger.json").read_bytes()
    drop = ("seconds",)
    lines = [
        [
            {k: v for k, v in json.loads(line).items() if k not in drop}
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in (whole, parts)
    ]
    assert lines[0] == lines[1]


def test_the_test_split_is_read_when_training_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, original = [], Batches.ids

    def noted(self: Batches, part: Encoded, *arguments: Any) -> Any:
        read.append(part)
        return original(self, part, *arguments)

    monkeypatch.setattr(Batches, "ids", noted)
    config = small(tmp_path / "run", "spiking", epochs=2)
    run(config, Reporter())
    data = load_dataset(config.data)
    names = [name for part in read for name in ("train", "validation", "test") if same(part, getattr(data, name))]
    before = names[: names.index("test")]
    choosing = ["train"]  # a batch, by which the precision is chosen
    assert len(names) == len(read) and before == choosing + (["train"] * 3 + ["validation"] * 3) * 2
    assert "validation" not in names[len(before) :]


def same(one: Encoded, other: Encoded) -> bool:
    return one.ids.tobytes() == other.ids.tobytes() and one.labels.tobytes() == other.labels.tobytes()


def test_resume_auto_starts_afresh_without_a_checkpoint_and_finds_the_unfinished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = run(small(None, resume="auto", epochs=1), Reporter())["path"]
    assert first == Path("runs/mini-dense-mini-seed0")
    second = run(small(None, resume="auto", epochs=1), Reporter())["path"]
    assert second == Path("runs/mini-dense-mini-seed0-2")
    (second / "result.json").unlink()
    assert run(small(None, resume="auto", epochs=1), Reporter())["path"] == second


def test_what_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(small(folder, epochs=1), Reporter())
    with pytest.raises(RunError, match="holds a run already"):
        run(small(folder, epochs=1), Reporter())
    with pytest.raises(RunError, match="complete"):
        run(small(folder, epochs=1, resume="auto"), Reporter())
    (folder / "result.json").unlink()
    with pytest.raises(RunError, match=r"--beta 0.1 != 0.2"):
        run(small(folder, epochs=1, resume="auto", beta=0.2), Reporter())
    with pytest.raises(RunError, match="no run folder"):
        run(small(None, resume=str(tmp_path / "nothing")), Reporter())
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        run(small(tmp_path / "file"), Reporter())
    held = RunFolder.open(small(tmp_path / "held"))
    with pytest.raises(RunError, match="another run is writing"):
        run(small(tmp_path / "held"), Reporter())
    held.close()


def test_damaged_checkpoints_are_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(small(folder, epochs=1), Reporter())
    (folder / "result.json").unlink()
    model = folder / "checkpoint" / "model.safetensors"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="cannot be read"):
        run(small(folder, epochs=1, resume="auto"), Reporter())
    model.write_bytes(whole)
    (folder / "checkpoint" / "state.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        run(small(folder, epochs=1, resume="auto"), Reporter())


def test_a_crash_between_two_checkpoints_leaves_the_older_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(small(folder, epochs=1), Reporter())
    (folder / "result.json").unlink()
    (folder / "checkpoint").rename(folder / "checkpoint.old")
    (folder / "checkpoint.new").mkdir()
    assert run(small(folder, epochs=1, resume="auto"), Reporter())["complete"]
    assert not (folder / "result.json").read_text().startswith("{}")


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        place = Path("/proc/eqspike-cannot-be-here")
    else:
        place = tmp_path / "locked"
        place.mkdir()
        place.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RunError, match="cannot write"):
        run(small(place), Reporter())


def test_full_disk_leaves_no_half_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from eqspike_seq import files

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        files.write_json(tmp_path / "a.json", {"b": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"batch": 1, "limit": 6, "epochs": 1},
        {"batch": 1000, "epochs": 1},
        {"tokens": 1, "epochs": 1},
        {"free_steps": 1, "nudge_steps": 1, "epochs": 1},
        {"estimator": "two-phase", "epochs": 1},
        {"estimator": "bptt", "epochs": 1, "bptt_steps": 3},
        {"attention": False, "epochs": 1},
        {"masked": False, "epochs": 1},
        {"order": "synchronous", "epochs": 1},
        {"precision": "bfloat16", "epochs": 1},
        {"hidden": (8, 6, 5), "epochs": 1, "learning_rate": (1e-2, 1e-3, 1e-3, 1e-3, 1e-3)},
    ],
)
def test_settings_at_their_edges_work(tmp_path: Path, settings: dict[str, object]) -> None:
    assert run(small(tmp_path / "run", **settings), Reporter())["complete"]


@pytest.mark.parametrize(
    "settings",
    [
        {"batch": 1, "limit": 6, "epochs": 1},
        {"tokens": 1, "epochs": 1},
        {"estimator": "two-phase", "epochs": 1},
        {"attention": False, "epochs": 1},
        {"free_steps": 20, "nudge_steps": 20, "window": 20, "epochs": 1},
    ],
)
def test_spiking_settings_at_their_edges_work(tmp_path: Path, settings: dict[str, object]) -> None:
    assert run(small(tmp_path / "run", "spiking", **settings), Reporter())["complete"]


def test_divergence_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="diverged"):
        run(small(tmp_path / "run", learning_rate=(1e38,), epochs=3), Reporter())


def test_no_cuda_here(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(ConfigError, match="no CUDA device"):
        run(small(tmp_path / "run", device="cuda"), Reporter())


def test_tensorboard_shows_the_lines_of_metrics_an_interrupted_run_included(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, original = tmp_path / "run", Trainer.train_batch

    def interrupted(self: Trainer) -> None:
        original(self)
        if self.step == 3:
            raise RunError("the machine went off")

    monkeypatch.setattr(Trainer, "train_batch", interrupted)
    with pytest.raises(RunError):
        run(small(folder, tensorboard=True), Reporter())
    monkeypatch.setattr(Trainer, "train_batch", original)
    run(small(folder, tensorboard=True, resume="auto"), Reporter())
    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for name, group in (("loss", None), ("s2", "rates"), ("free", "residual")):
        shown = board.Scalars(f"{group}/{name}" if group else name)
        assert [event.step for event in shown] == [line["step"] for line in lines]
        values = [(line[group] if group else line)[name] for line in lines]
        assert [event.value for event in shown] == pytest.approx(values)


def test_tensorboard_without_its_package_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eqspike_seq.runs.board.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        run(small(tmp_path / "run", tensorboard=True), Reporter())
