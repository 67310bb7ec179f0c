"""Runs whose patterns are learnt: checkpoints, going on from them, the best epoch, answers, several processes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from analysis.folders import open_run
from eqspike.build import config_of, configure, make_backend, run
from eqspike.prediction import Predictor
from eqspike_seq.checks.gradients import stages
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.dataset import Dataset, load_dataset
from eqspike_seq.devices.chip import Chip
from eqspike_seq.devices.device_model import read_device
from eqspike_seq.errors import RunError
from eqspike_seq.learning import training
from eqspike_seq.learning.evaluation import Evaluation, evaluate
from eqspike_seq.learning.optimisers import RowDescent
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.model.synapses import RowProduct
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.folder import RunFolder
from eqspike_seq.runs.weights import read_rows, read_table, row_files
from tests.conftest import command
from tests.eqspike_seq.test_parallel import assert_same, torchrun

SMALL = {"limit": 96, "batch": 16, "epochs": 2, "checkpoint_every": 2, "network": "pooling", "hidden": (6,), "dim": 8}
QUIET = Reporter(quiet=True)
NO_CHIP = Chip(read_device("ideal"), {}, 0)


def small(out: Path, **settings: object) -> RunConfig:
    return configure("mini", "dense", out=out, **{**SMALL, "learning_rate": (1e-2,), **settings})


def table_of(folder: Path) -> Any:
    return read_table(folder, folder / "checkpoint/model.safetensors").numpy()


def weights(folder: Path) -> dict[str, Any]:
    found = load_file(folder / "checkpoint/model.safetensors")
    return {**{name: tensor.numpy() for name, tensor in found.items()}, "X": table_of(folder)}


def assert_equal(one: Path, other: Path) -> None:
    """Bit for bit."""
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(mine[name], value, err_msg=name)


def interrupted(monkeypatch: pytest.MonkeyPatch, config: RunConfig, step: int) -> None:
    """Train until ``step``, when the process is killed: nothing more is written."""
    original = Trainer.train_batch

    def train_batch(self: Trainer) -> None:
        if self.step == step:
            raise MemoryError
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_batch", train_batch)
        with pytest.raises(MemoryError):
            run(config, QUIET)


@pytest.mark.parametrize("step", [3, 6, 9])
def test_a_run_that_goes_on_ends_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run(small(tmp_path / "whole"), QUIET)
    interrupted(monkeypatch, small(tmp_path / "cut"), step)
    run(small(tmp_path / "cut", resume="auto"), QUIET)
    assert_equal(tmp_path / "cut", tmp_path / "whole")
    lines = [(tmp_path / name / "predictions.parquet").read_bytes() for name in ("cut", "whole")]
    assert lines[0] == lines[1]


def test_a_checkpoint_writes_the_rows_that_its_batches_touched(tmp_path: Path) -> None:
    config = small(tmp_path / "run", epochs=1)
    trainer, seen = Trainer(config, load_dataset(config.data), make_backend(config)), set[int]()
    folder = RunFolder.open(config)
    start = trainer.gather.table.clone()
    for last in (2, 4):
        fresh = set[int]()
        while trainer.step < last:
            rows = trainer.order[trainer.step * 16 : (trainer.step + 1) * 16]
            words = np.random.default_rng([0, trainer.step])
            batch = trainer.gather.lookup(trainer.dataset.train, rows, config.learning.word_dropout, words)
            fresh |= set(batch.ids[batch.ids > 0].tolist())
            with torch.no_grad():
                trainer.train_batch()
        saved = trainer.checkpoint()
        folder.save_checkpoint(saved)
        trainer.written(saved)
        seen |= fresh
        newest = load_file(row_files(folder.path / "checkpoint")[-1])
        assert set(newest["ids"].tolist()) - {0} == fresh
    folder.close()
    assert len(row_files(folder.path / "checkpoint")) == 2
    found = read_rows(row_files(folder.path / "checkpoint"))
    assert found is not None and set(found.ids.tolist()) - {0} == seen
    table = start.clone()
    table[found.ids] = found.vectors
    torch.testing.assert_close(table, trainer.gather.table, rtol=0, atol=0)


def test_files_with_rows_do_not_grow_without_bound() -> None:
    """At most twice the table is kept, whatever the number of checkpoints."""
    descent, kept = RowDescent(torch.zeros(10, 2)), 0
    for step in range(50):
        ids = torch.tensor([step % 10, (step + 1) % 10, (step + 3) % 10])
        descent.step(RowProduct(ids, torch.ones(3, 2)).whole(10), 0.1, NO_CHIP, step)
        rows = descent.rows()
        kept = len(rows.ids) + (0 if rows.whole else kept)
        descent.written(rows)
        assert kept <= 2 * 10 and not descent.touched.any()
        assert not rows.whole or torch.equal(rows.ids, descent.moved.nonzero().squeeze(1))


def test_steps_are_gradient_descent_in_units_of_the_root_mean_square() -> None:
    """v is the running mean of squares, its start corrected: here two steps by hand."""
    descent = RowDescent(torch.zeros(4, 1))
    ids = torch.tensor([3, 1, 1])  # what comes twice is added up
    descent.step(RowProduct(ids, torch.tensor([[4.0], [1.0], [2.0]])).whole(4), 0.5, NO_CHIP, 0)
    size = (12.5) ** 0.5
    torch.testing.assert_close(descent.table[:, 0], torch.tensor([0, -1.5 / size, 0, -2 / size]))
    descent.step(RowProduct(ids[:2], torch.tensor([[1.0], [1.0]])).whole(4), 0.5, NO_CHIP, 0)
    other = ((0.01 * 0.99 * 12.5 + 0.01 * 1) / (1 - 0.99**2)) ** 0.5
    torch.testing.assert_close(descent.table[1, 0], torch.tensor(-1.5 / size - 0.5 / other))


def scripted(monkeypatch: pytest.MonkeyPatch, accuracies: list[float]) -> None:
    """Validation after each epoch has these accuracies."""
    given = iter(accuracies)

    def evaluated(*arguments: Any, **more: Any) -> Evaluation:
        found = evaluate(*arguments, **more)
        if len(arguments) > 5:  # the test split, with a bar
            return found
        wanted = next(given)
        right = np.arange(len(found.labels)) < round(wanted * len(found.labels))
        predicted = np.where(right, found.labels, 1 - found.labels)
        return Evaluation(**{**vars(found), "predicted": predicted})

    monkeypatch.setattr(training, "evaluate", evaluated)


def test_training_stops_after_its_patience_and_takes_the_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small(tmp_path / "two", epochs=9), QUIET)  # rates decay over all nine: the first two are the same
    scripted(monkeypatch, [0.25, 0.75, 0.5, 0.5, 1.0])
    out = tmp_path / "run"
    result = run(small(out, epochs=9, patience=2), QUIET)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "validation_accuracy" in line] == [1, 2, 3, 4]
    state = json.loads((out / "checkpoint/state.json").read_text())
    assert (state["step"], state["best"]["epoch"]) == (24, 2)
    assert result["validation_accuracy"] == pytest.approx(0.75, abs=0.01) and not (out / "best").exists()
    config = config_of(out)
    data = load_dataset(config.data)
    end = stages(config, data, out)[-1]
    again = evaluate(make_backend(config), end.network, end.gather, data.test, 16)
    tested = pq.read_table(out / "predictions.parquet")
    np.testing.assert_allclose(again.rates[:, 0], tested[f"rate_{data.classes[0]}"].to_numpy(), atol=1e-6)
    assert open_run(out).metrics[-1].epoch == 4
    ledger = json.loads((out / "ledger.json").read_text())
    assert ledger["training_samples"] == 4 * len(data.train)


def test_a_run_killed_after_its_best_epoch_still_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.75, 0.5, 0.25])
    run(small(tmp_path / "whole", epochs=5, patience=2), QUIET)
    scripted(monkeypatch, [0.75, 0.5, 0.25])
    interrupted(monkeypatch, small(tmp_path / "cut", epochs=5, patience=2), 14)
    run(small(tmp_path / "cut", epochs=5, patience=2, resume="auto"), QUIET)
    assert_equal(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("harm", ["ids", "vectors", "name"])
def test_rows_that_are_not_of_the_table_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    from safetensors.torch import save_file

    interrupted(monkeypatch, small(tmp_path / "run"), 5)
    (*_, last) = row_files(tmp_path / "run/checkpoint")
    tensors = load_file(last)
    if harm == "ids":
        tensors["ids"] = tensors["ids"] + 10**6
    elif harm == "vectors":
        tensors["vectors"] = tensors["vectors"][:, :3].contiguous()
    else:
        tensors = {"ids": tensors["ids"], "words": tensors["vectors"]}
    save_file(tensors, last)
    with pytest.raises(RunError, match="row|rows"):
        run(small(tmp_path / "run", resume="auto"), QUIET)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on texts of one's own: word order tells the classes, and n-grams know it."""
    place = tmp_path_factory.mktemp("learnt")
    order = [("not good but bad", "no"), ("not bad but good", "yes")]
    rows = [(f"{text} number{i % 7} {'really ' * (i % 3)}", label) for i in range(60) for text, label in order]
    (place / "own.csv").write_text(
        "text,label\n" + "".join(f"{i} {text},{label}\n" for i, (text, label) in enumerate(rows))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQSPIKE_CACHE", str(place / "cache"))
        command("run", place / "own.csv", "--out", place / "run")
    return place / "run"


def test_n_grams_tell_what_single_words_cannot(learnt: Path) -> None:
    result = json.loads((learnt / "result.json").read_text())
    assert result["test_accuracy"] == 1.0 and result["preset"] == "own" and result["baseline"]["test_accuracy"] == 1.0


def test_a_predictor_answers_as_the_test_did(learnt: Path) -> None:
    config = config_of(learnt)
    data: Dataset = load_dataset(config.data)
    end = stages(config, data, learnt)[-1]
    tested = evaluate(make_backend(config), end.network, end.gather, data.test, 16)
    predictor = Predictor.open(learnt)
    for row, text in enumerate(data.test_texts[:12]):
        found = predictor.predict(text, explain=True)
        np.testing.assert_allclose(list(found.rates.values()), tested.rates[row], atol=1e-4)
        assert found.label == data.classes[tested.predicted[row]]
        assert sum(found.attention) == pytest.approx(len(found.read), rel=1e-3)
        assert found.ledger.total("spikes") == 0 and found.ledger.total("multiply_accumulates") > 0
    long = predictor.predict("not bad but good " * 5000)
    assert long.label == "yes" and len(long.read) == 20_000  # nothing is cut
    assert predictor.predict("zzz qqq").label is None


def test_every_command_takes_such_a_run(learnt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(learnt, tmp_path / "run")
    command("energy", tmp_path / "run")
    command("report", tmp_path / "run", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "dense EP, pooling" in page and "really" in page
    command("compare", tmp_path / "run", "--out", tmp_path / "compared")
    command("export", tmp_path / "run", "--format", "safetensors", "--out", tmp_path / "weights.safetensors")
    exported = load_file(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(exported["X"].numpy(), table_of(tmp_path / "run"))
    about = json.loads((tmp_path / "weights.json").read_text())
    assert about["tensors"]["X"]["axes"] == ["pattern", "D"] and len(about["patterns"]) == len(exported["X"]) - 1
    command("check", "convergence", tmp_path / "run", "--texts", 8)
    command("check", "gradients", tmp_path / "run", "--texts", 8)
    checked = json.loads((tmp_path / "run/checks/gradients.json").read_text())
    assert {"q", "X", "w2"} <= {record["parameter"] for record in checked["records"]}
    sizes = checked["over_beta"]["initial"]
    assert min(sizes["cosine"]["X"]) > 0.9999 and sizes["relative_rmse"]["q"][0] > 10 * sizes["relative_rmse"]["q"][2]
    with pytest.raises(SystemExit) as end:
        command("rerun", tmp_path / "run", "--out", tmp_path / "again")
    assert end.value.code == 0, capsys.readouterr()


def test_two_processes_make_the_run_of_one(tmp_path: Path) -> None:
    """The gradients of patterns, sparse, are averaged as all others are."""
    flags = (
        "run mini --network pooling --hidden 6 --dim 8 --limit 81 --epochs 2 --batch 20 --learning-rate 0.01".split()
    )
    done = torchrun("-m", "eqspike", *flags, "--out", tmp_path / "parts")
    assert done.returncode == 0, done.stderr
    command(*flags, "--out", tmp_path / "whole")
    assert_same(tmp_path / "parts", tmp_path / "whole")
    np.testing.assert_allclose(table_of(tmp_path / "parts"), table_of(tmp_path / "whole"), rtol=1e-4, atol=1e-6)
