"""Several processes, started by torchrun, as one run: the same result, one folder, one message, no hang."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from eqspike.build import configure, make_backend, run
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.learning.metrics import Window
from eqspike_seq.learning.optimisers import RowDescent
from eqspike_seq.learning.parallel import ALONE, Job, join
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.weights import read_table

RUN = "run mini --limit 81 --epochs 2 --batch 20 --checkpoint-every 2 --precision float32 --word-dropout 0.1".split()
# step 3 of 10 is in the middle of an epoch, one after a checkpoint
SCRIPT = """
import os, signal
from eqspike.cli import main
from eqspike_seq.learning.trainer import Trainer

original = Trainer.train_batch

def train_batch(self):
    original(self)
    if self.step == 3 and self.job.rank == {rank}:
        os.kill(os.getpid(), signal.{name})

Trainer.train_batch = train_batch
main()
"""

TEN_BATCHES = """
import sys
import torch
import torch.distributed as dist
from eqspike_seq.learning.parallel import join
from tests.eqspike_seq.test_parallel import ten_batches

torch.set_default_dtype(torch.float64)
rows, whole = [], dist.all_reduce

def watched(tensor, *arguments, **named):
    if tensor.is_sparse:
        rows.append(len(tensor.values()))
    return whole(tensor, *arguments, **named)

dist.all_reduce = watched
job = join()
found = ten_batches(job)
if job.rank == 0:
    torch.save({**found, "rows": torch.tensor(rows)}, sys.argv[1])
job.leave()
"""


def ten_batches(job: Job) -> dict[str, torch.Tensor]:
    """Parameters and patterns of a network that learns its patterns, after ten batches in float64."""
    settings: dict[str, Any] = {"network": "pooling", "embeddings": "random", "min_texts": 1, "dim": 12}
    config = configure("mini", "dense", limit=150, batch=15, word_dropout=0.3, precision="float32", **settings)
    data, backend = load_dataset(config.data), replace(make_backend(config), dtype=torch.float64)  # type: ignore[type-var]
    trainer = Trainer(config, data, backend, job)
    assert trainer.patterns is not None
    trainer.patterns = RowDescent(trainer.patterns.table.double())
    trainer.gather = replace(trainer.gather, table=trainer.patterns.table)
    with torch.no_grad():
        for _ in range(10):
            trainer.train_batch()
    return {**trainer.parameters, "X": trainer.patterns.table}


def torchrun(*arguments: object, processes: int = 2, **variables: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300", **variables}
    return subprocess.run(
        [*start, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=200, check=False
    )


def single(out: Path, **settings: object) -> None:
    fixed = {"limit": 81, "epochs": 2, "batch": 20, "checkpoint_every": 2, "precision": "float32", "word_dropout": 0.1}
    run(configure("mini", "dense", out=out, **(fixed | settings)), Reporter(quiet=True))


def weights(folder: Path) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in load_file(folder / "checkpoint" / "model.safetensors").items()}


def assert_same(parts: Path, whole: Path, elementwise: bool = False) -> None:
    """Parameters to 1e-5; all that is counted, exactly."""
    found, expected = weights(parts), weights(whole)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.linalg.norm(found[name] - values) <= 1e-5 * np.linalg.norm(values), name
        if elementwise:
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-7, err_msg=name)
    ledgers = [json.loads((folder / "ledger.json").read_text()) for folder in (parts, whole)]
    assert ledgers[0] == ledgers[1]
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (parts, whole)]
    for mine, theirs in zip(*([json.loads(line) for line in part] for part in lines), strict=True):
        assert mine.pop("seconds") and theirs.pop("seconds")
        assert mine["step"] == theirs["step"] and mine["train_accuracy"] == theirs["train_accuracy"]
        for group in ("sweeps", "residual", "converged", "rates", "silent", "saturated"):
            assert mine[group] == pytest.approx(theirs[group], rel=1e-3, abs=1e-6)
    results = [json.loads((folder / "result.json").read_text()) for folder in (parts, whole)]
    assert results[0]["complete"] and results[0]["test_accuracy"] == results[1]["test_accuracy"]


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 128])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_make_up_the_batch_and_the_first_is_never_empty(rows: int, size: int) -> None:
    numbers = list(range(rows))
    shares = [numbers[Job(rank, size).share(rows)] for rank in range(size)]
    assert sum(shares, []) == numbers and shares[0]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_is_the_same_texts_with_the_same_words_left_out() -> None:
    config = configure("mini", "dense", limit=20)
    data = load_dataset(config.data)
    gather, rows = Batches.of(config, data), np.array([7, 2, 11, 5, 3])
    whole = gather.lookup(data.train, rows, 0.3, np.random.default_rng(1)).whole()
    for rank in range(2):
        share = Job(rank, 2).share(5)
        part = gather.lookup(data.train, rows, 0.3, np.random.default_rng(1), share).whole()
        assert (part.x == whole.x[share]).all() and (part.mask == whole.mask[share]).all()
        assert (part.labels == whole.labels[share]).all() and part.seed == whole.seed


def test_random_numbers_are_each_process_s_own() -> None:
    assert Job().seed(5) == 5
    seeds = {Job(rank, 4).seed(5) for rank in range(4)} | {Job(rank, 4).seed(6) for rank in range(4)}
    assert len(seeds) == 8 and Job(3, 4).seed(5) in seeds


def test_without_torchrun_there_is_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert join() is ALONE
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some clusters set it for every program
    assert join() is ALONE


@pytest.mark.parametrize("settings", [{"optimizer": "sgd", "learning_rate": (0.05,)}, {}], ids=["sgd", "adam"])
def test_two_processes_compute_what_one_does(tmp_path: Path, settings: dict[str, Any]) -> None:
    """The last batch of an epoch has one text: the second process has none of it."""
    single(tmp_path / "one", **settings)
    flags = ["--optimizer", "sgd", "--learning-rate", "0.05"] if settings else []
    found = torchrun("-m", "eqspike", *RUN, *flags, "--out", tmp_path / "two")
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("test accuracy") == 1 and found.stderr.count("epoch 2:") == 1
    assert_same(tmp_path / "two", tmp_path / "one", elementwise=bool(settings))
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    assert {p.name for p in (tmp_path / "two").iterdir()} == {p.name for p in (tmp_path / "one").iterdir()}


def test_two_processes_learn_patterns_as_one_does_and_exchange_only_the_rows_of_their_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text(TEN_BATCHES)
    found = torchrun(tmp_path / "script.py", tmp_path / "two.pt", PYTHONPATH=str(Path(__file__).parents[2]))
    assert found.returncode == 0, found.stderr
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        expected = ten_batches(ALONE)
    finally:
        torch.set_default_dtype(before)
    two = torch.load(tmp_path / "two.pt")
    rows = two.pop("rows")
    assert two.keys() == expected.keys()
    for name, values in expected.items():
        assert values.dtype == torch.float64
        torch.testing.assert_close(two[name], values, rtol=1e-5, atol=1e-12, msg=name)
    assert len(rows) == 10 and rows.min() > 0 and rows.max() < len(expected["X"]) / 3


def test_spiking_neurons_run_in_several_processes_too(tmp_path: Path) -> None:
    flags = "--limit 32 --epochs 1 --batch 16 --backend spiking --neuron sigma-delta --circuit wta".split()
    found = torchrun("-m", "eqspike", "run", "mini", *flags, "--out", tmp_path / "two", processes=3)
    assert found.returncode == 0, found.stderr
    saved = json.loads((tmp_path / "two" / "ledger.json").read_text())
    assert saved["training_samples"] == 32 and saved["training"]["samples"]["update"] == 32
    again = torchrun("-m", "eqspike", "rerun", tmp_path / "two", processes=3)
    assert again.returncode == 0 and again.stdout.count("Matched: ") == 1, again.stdout + again.stderr
    assert "processes was" not in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "settings"),
    [(0, {}), (1, {}), (0, {"network": "pooling", "dim": 12})],
    ids=["first", "second", "with patterns that are learnt"],
)
def test_a_killed_process_ends_the_job_which_goes_on_to_the_same_result(
    tmp_path: Path, rank: int, settings: dict[str, Any]
) -> None:
    single(tmp_path / "one", **settings)
    script = tmp_path / "killed.py"
    script.write_text(SCRIPT.format(rank=rank, name="SIGKILL"))
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = (*RUN, *flags, "--out", tmp_path / "two", "--resume", "auto")
    found = torchrun(script, *command)
    assert found.returncode != 0 and not (tmp_path / "two" / "result.json").exists()
    assert f"eqspike: process {1 - rank} of the job: another one has ended" in found.stderr
    assert "--resume auto" in found.stderr
    state = json.loads((tmp_path / "two" / "checkpoint" / "state.json").read_text())
    assert state["step"] == 2
    found = torchrun("-m", "eqspike", *command)
    assert found.returncode == 0 and "resumed at batch 2 of 10" in found.stderr, found.stderr
    assert_same(tmp_path / "two", tmp_path / "one")
    tables = [read_table(tmp_path / name, tmp_path / name / "checkpoint/model.safetensors") for name in ("one", "two")]
    torch.testing.assert_close(*tables, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_torchrun_can_go_on_by_itself(tmp_path: Path) -> None:
    """With --resume auto from the start and --max-restarts, and a fresh store for the processes to meet in."""
    single(tmp_path / "one")
    script = tmp_path / "killed.py"
    once = "if self.step == 3 and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0' and self"
    script.write_text(SCRIPT.format(rank=1, name="SIGKILL").replace("if self.step == 3 and self", once))
    command = (*RUN, "--out", tmp_path / "two", "--resume", "auto")
    found = torchrun("--max-restarts=1", script, *command, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    assert found.returncode == 0 and "resumed at batch 2 of 10" in found.stderr, found.stderr
    assert_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "name"), [(0, "SIGINT"), (1, "SIGTERM")])
def test_a_signal_to_one_process_stops_all_at_the_same_batch(tmp_path: Path, rank: int, name: str) -> None:
    single(tmp_path / "one")
    script = tmp_path / "stopped.py"
    script.write_text(SCRIPT.format(rank=rank, name=name))
    found = torchrun(script, *RUN, "--out", tmp_path / "two")
    assert found.returncode != 0
    assert found.stderr.count("eqspike: interrupted; continue with --resume auto") == 1, found.stderr
    assert json.loads((tmp_path / "two" / "checkpoint" / "state.json").read_text())["step"] == 3
    found = torchrun("-m", "eqspike", *RUN, "--out", tmp_path / "two", "--resume", "auto")
    assert found.returncode == 0 and "resumed at batch 3 of 10" in found.stderr, found.stderr
    assert_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--beta", "0"), "--beta: "),
        (("--betta", "1"), "Unrecognized options: --betta"),
        (("--out", "FILE"), "eqspike: --out"),
        (("--embeddings", "nowhere.bin"), "eqspike: --embeddings"),
        (("--learning-rate", "1e38"), "eqspike: training diverged"),
    ],
)
def test_a_mistake_is_told_once_and_all_processes_exit_with_2(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "FILE").write_text("")
    given = [str(tmp_path / "FILE") if value == "FILE" else value for value in arguments]
    out = () if "--out" in arguments else ("--out", tmp_path / "run")
    found = torchrun("-m", "eqspike", *RUN, *given, *out)
    assert found.returncode != 0
    shown = found.stdout + found.stderr
    assert shown.count(says) == 1 and "another one" not in shown, shown
    codes = re.findall(r"exitcode\s*:\s*(-?\d+)", shown)
    assert codes and set(codes) == {"2"}, shown


def test_one_process_needs_nobody() -> None:
    made = object()
    assert ALONE.first(lambda: made) is made and ALONE.total(Window(texts=3)) == Window(texts=3)
    assert ALONE.agree(True) and not ALONE.agree(False)


def test_the_seconds_foretold_are_those_of_the_model() -> None:
    found = json.loads((Path(__file__).parents[2] / "results/scaling.json").read_text())
    size, (a, b, c) = found["bytes_of_gradients"], found["model"].values()
    for p, seconds in found["seconds_foretold"]["this machine"].items():
        assert seconds == pytest.approx(a + b * 128 / int(p) + 2 * (int(p) - 1) / int(p) * size * c)
