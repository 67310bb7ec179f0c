"""``--precision auto``: what is faster is chosen, once, and kept."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measure import synthetic
from eqspike.build import configure, run
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.batches import random_batch
from eqspike_seq.data.dataset import load_dataset, shape_of
from eqspike_seq.files import read_tensors, read_toml
from eqspike_seq.learning import precision
from eqspike_seq.learning.precision import FEWEST, MOST, ROUNDS, large_products, sample, settled
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Shape
from eqspike_seq.progress import Reporter
from tests.conftest import command
from tests.eqspike_seq.test_parallel import SCRIPT, torchrun

IMDB = Shape(256, 100, (256, 40), 2)
NATIVE = {"avx512_bf16": True}


def burn(seconds: float) -> None:
    """Take processor time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def timed_as(monkeypatch: pytest.MonkeyPatch, seconds: dict[torch.dtype, float]) -> list[torch.dtype]:
    """Each type takes so long; returns the types in the order in which they are timed."""
    asked: list[torch.dtype] = []

    def three_phases(config: RunConfig, shape: Shape, batch: Batch, dtype: torch.dtype) -> Callable[[], object]:
        def task() -> None:
            asked.append(dtype)
            burn(seconds[dtype])

        return task

    monkeypatch.setattr(precision, "three_phases", three_phases)
    return asked


def chosen_at_once(monkeypatch: pytest.MonkeyPatch, bfloat16: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: NATIVE)
    monkeypatch.setattr(precision, "faster", lambda *_: bfloat16)


def small(folder: Path, **settings: Any) -> RunConfig:
    fixed: dict[str, Any] = {"limit": 48, "batch": 16, "epochs": 1, "checkpoint_every": 1, "out": folder}
    return configure("mini", "dense", **{**fixed, **settings})


def taken(folder: Path) -> tuple[str, str]:
    """The precision in config.toml and the type that environment.json says."""
    environment = json.loads((folder / "environment.json").read_text())
    return read_toml(folder / "config.toml")["run"]["precision"], environment["product_dtype"]


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [(0.006, 0.003, "bfloat16"), (0.003, 0.006, "float32"), (0.006, 0.0057, "float32"), (0.006, 0.006, "float32")],
)
def test_bfloat16_is_chosen_where_it_is_clearly_faster(
    float32: float, bfloat16: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: NATIVE)
    asked = timed_as(monkeypatch, {torch.float32: float32, torch.bfloat16: bfloat16})
    config = configure("imdb", "dense", "paper-small")
    assert settled(config, IMDB, synthetic(IMDB, 32)).run.precision == expected
    assert asked == [torch.float32, torch.bfloat16] * (len(asked) // 2) and len(asked) <= 2 * (1 + ROUNDS)


def test_timing_ends_where_products_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: NATIVE)
    asked = timed_as(monkeypatch, {torch.float32: 0.1, torch.bfloat16: 0.05})
    assert settled(configure("imdb", "dense", "paper-small"), IMDB, synthetic(IMDB, 32)).run.precision == "bfloat16"
    assert len(asked) == 2 * (1 + 2)  # once to warm up, two rounds


@pytest.mark.parametrize("given", ["float32", "bfloat16", "auto"])
def test_nothing_is_timed_where_there_is_nothing_to_choose(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A precision was given, the processor has no bfloat16, or the products are small: of digits there are none."""
    asked = timed_as(monkeypatch, {})
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    config = configure("imdb", "dense", "paper-small", precision=given)
    assert settled(config, IMDB, synthetic(IMDB, 32)).run.precision == ("float32" if given == "auto" else given)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: NATIVE)
    for name in ("mini", "digits"):
        config = configure(name, "dense", precision=given)
        data = load_dataset(config.data)
        batch = random_batch(config, data, config.learning.batch)
        assert settled(config, shape_of(config, data), batch).run.precision == ("float32" if given == "auto" else given)
    assert not asked


def test_what_is_timed_is_a_small_network_with_the_shares_of_the_whole_one() -> None:
    """HopAttn takes N² D products twice, w₂ N D H₂ twice: scaled down alike their ratio, H₂/N, stays."""
    shape, texts = sample(IMDB, synthetic(IMDB, 128)) or pytest.fail("nothing is timed")
    assert len(texts) == 32 and texts.x.shape[2] == texts.mask.shape[2] == shape.rows < 256
    assert shape.hidden[0] / shape.rows == pytest.approx(1, rel=0.02) and shape.dim == 100
    by_hand = 32 * (2 * shape.rows**2 * 100 + 2 * shape.rows * 100 * shape.hidden[0])
    assert large_products(shape, texts) == by_hand == pytest.approx(MOST, rel=0.05)


@pytest.mark.parametrize(("words", "longest"), [(60, 64), (200, 200)])
def test_the_lengths_are_those_of_the_texts_and_not_those_there_is_room_for(words: int, longest: int) -> None:
    full = synthetic(Shape(600, 100, (256, 40), 2), 64)
    mask = torch.arange(600).expand(64, 1, 600) < words
    shape, texts = sample(Shape(600, 100, (256, 40), 2), Batch(full.x, mask, full.labels)) or pytest.fail("none")
    assert shape.rows <= longest and texts.mask.sum() <= 32 * words
    short = Batch(full.x, torch.arange(600).expand(64, 1, 600) < 4, full.labels)
    assert 32 * (2 * 4**2 * 100 + 2 * 4 * 100 * 256) < FEWEST
    assert sample(Shape(600, 100, (256, 40), 2), short) is None


@pytest.mark.parametrize("first", [True, False])
def test_a_run_keeps_what_it_chose(first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted, and continued where the other type is faster, it comes to what it would have come to."""
    name = "bfloat16" if first else "float32"
    run(small(tmp_path / "whole", precision=name), Reporter(quiet=True))
    chosen_at_once(monkeypatch, first)
    original = Trainer.train_batch

    def interrupted(self: Trainer) -> None:
        original(self)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_batch", interrupted)
        run(small(tmp_path / "parts"), Reporter(quiet=True))
    assert taken(tmp_path / "parts") == (name, f"torch.{name}")
    chosen_at_once(monkeypatch, not first)
    run(small(tmp_path / "parts", resume="auto"), Reporter(quiet=True))
    assert taken(tmp_path / "parts") == (name, f"torch.{name}")
    mine, theirs = (read_tensors(tmp_path / f / "checkpoint/model.safetensors") for f in ("parts", "whole"))
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_a_rerun_takes_what_the_run_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(small(tmp_path / "run", precision="bfloat16"), Reporter(quiet=True))
    chosen_at_once(monkeypatch, False)
    with pytest.raises(SystemExit) as ended:
        command("rerun", tmp_path / "run")
    assert ended.value.code == 0 and "Matched" in capsys.readouterr().out
    assert taken(tmp_path / "run-rerun") == ("bfloat16", "torch.bfloat16")


def test_all_processes_take_what_the_first_one_chose(tmp_path: Path) -> None:
    choice = """
from dataclasses import replace

from eqspike_seq.learning import training

def settled(config, *_):
    assert os.environ["RANK"] == "0", "another process chooses"
    return replace(config, run=replace(config.run, precision="bfloat16"))

training.settled = settled
made = training.Trainer.__init__

def init(self, *arguments):
    made(self, *arguments)
    print(f"rank {self.job.rank}: {self.config.run.precision} {self.backend.dtype}\\n", end="", flush=True)

training.Trainer.__init__ = init
main()
"""
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(rank=-1, name="SIGINT").removesuffix("main()\n") + choice)
    found = torchrun(script, *"run mini --limit 32 --epochs 1 --batch 16 --out".split(), tmp_path / "two")
    assert found.returncode == 0, found.stderr
    for rank in (0, 1):
        assert f"rank {rank}: bfloat16 torch.bfloat16" in found.stdout, found.stdout
    assert taken(tmp_path / "two") == ("bfloat16", "torch.bfloat16")
