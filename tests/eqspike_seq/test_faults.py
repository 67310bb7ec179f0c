"""The quick ones of the attempts of ``tests.stress.faults``: nothing half-written is left, and nothing is lost."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from benchmarks.measure import in_fresh_process
from eqspike_seq.data import embeddings
from eqspike_seq.data.cache import cache_dir, kept
from eqspike_seq.errors import DataError, RunError
from eqspike_seq.runs.folder import Checkpoint, RunFolder
from eqspike_seq.runs.weights import Rows
from tests.stress import faults
from tests.stress.survival import Outcome, config, quietly, remains


@pytest.mark.parametrize(
    "attempt", [faults.small_files, faults.broken_disk, faults.vanished, faults.clock_set_back, faults.network]
)
def test_nothing_is_lost(attempt: Callable[[Path], Outcome], tmp_path: Path) -> None:
    found = attempt(tmp_path)
    assert found.tried and found.lost == []


@pytest.mark.parametrize(("kind", "every"), [("dense", 29), ("learnt words", 43)])
def test_a_kill_between_any_two_steps_in_the_file_system_loses_nothing(tmp_path: Path, kind: str, every: int) -> None:
    found = in_fresh_process(faults.crashed, tmp_path, every, kind)
    assert found.tried > 4 and found.lost == []


class Killed(BaseException):
    pass


@contextmanager
def killed_after(steps: int) -> Iterator[None]:
    """The next change of the file system after so many is not made, nor is anything after it."""
    count = itertools.count()

    def step(original: Callable[..., Any], *given: Any, **more: Any) -> Any:
        if next(count) == steps:
            raise Killed
        return original(*given, **more)

    with ExitStack() as patches:
        for name in ("rename", "mkdir", "unlink", "rmdir", "fsync"):
            patches.enter_context(patch.object(os, name, partial(step, getattr(os, name))))
        yield


@pytest.mark.parametrize("left", ["checkpoint", "checkpoint.old"])
def test_kill_after_kill_there_is_a_whole_checkpoint(tmp_path: Path, left: str) -> None:
    """Of two kills in a row the first may have left the older checkpoint only; so too of the best one."""

    def save(folder: RunFolder, step: int) -> None:
        weights, rows = {"w1": torch.full((3,), float(step))}, Rows(torch.tensor([step]), torch.ones(1, 2))
        folder.save_checkpoint(Checkpoint(weights, weights, {"step": step}, replace(rows, whole=False)))
        folder.keep_best()

    for steps in itertools.count():
        folder = RunFolder.open(config(tmp_path / str(steps)))
        save(folder, 1)
        if left == "checkpoint.old":
            (folder.path / "checkpoint").rename(folder.path / left)
            folder.close()
            folder = RunFolder.open(config(tmp_path / str(steps)))
        ended = False
        with suppress(Killed), killed_after(steps):
            save(folder, 2)
            ended = True
        folder.close()
        folder = RunFolder.open(config(tmp_path / str(steps)))
        for found in (folder.load_checkpoint(), folder.take_best()):
            assert found is not None and found.rows is not None
            step = int(found.model["w1"][0])
            assert found.model["w1"].tolist() == [step] * 3
            assert found.rows.ids.tolist() == [1, 2][:step]
        folder.close()
        if ended:
            assert steps > 12 and step == 2
            break


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".unfinished-result.json-abc.json").write_text("{")
    (run / ".lock").touch()
    assert quietly(config(run, resume="auto")) == "" and remains(run, cache_dir()) == []


def test_a_lock_left_beside_a_whole_file_of_the_cache_goes(tmp_path: Path) -> None:
    path, arrays = tmp_path / "made.npz", {"x": np.arange(3)}
    for _ in range(2):  # made, then found
        found = kept(path, lambda: arrays, lambda given: given["x"], print)
        assert found.tolist() == [0, 1, 2] and remains(tmp_path) == []
        (tmp_path / ".made.npz.lock").touch()  # as by a kill between the two steps


def test_of_several_that_want_the_same_vectors_one_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fit(corpus: Path, texts: int, *_: object) -> tuple[list[str], Any]:
        calls.append(texts)
        time.sleep(0.2)
        return ["a", "b"], np.eye(2, dtype=np.float32)

    monkeypatch.setattr(embeddings, "_fit", fit)
    said: list[str] = []
    found: list[str] = []

    def want() -> None:
        found.append(embeddings.train_word2vec(["a b"] * 9, 2, 1, "ascii", said.append).digest)

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [9] and len(found) == 4 and len(set(found)) == 1
    assert sum("waiting for another process" in one for one in said) == 3
    assert [path.suffix for path in (cache_dir() / "embeddings").iterdir()] == [".npz"]


def test_a_maker_that_fails_lets_the_next_one_make_it(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"

    def fail() -> dict[str, Any]:
        raise DataError("no word")

    with pytest.raises(DataError, match="no word"):
        kept(path, fail, dict, print)
    (tmp_path / ".unfinished-a.npz-x.npz").touch()
    assert kept(path, lambda: {"a": np.arange(3)}, lambda arrays: arrays["a"].tolist(), print) == [0, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_what_is_damaged_in_the_cache_is_made_anew(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    arrays = {"a": np.arange(100), "b": rng.standard_normal(300)}
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return arrays

    def read(found: dict[str, Any]) -> int:
        return int(found["a"].sum()) + len(found["b"])

    kept(path, make, read, print)
    whole = path.read_bytes()
    for place in rng.integers(0, len(whole), 100):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        assert kept(path, make, read, print) == 99 * 50 + 300
        path.write_bytes(whole[:place])
        assert kept(path, make, read, print) == 99 * 50 + 300
    assert len(made) > 100


def test_no_two_processes_hold_one_run_folder(tmp_path: Path) -> None:
    first = RunFolder.open(config(tmp_path / "run"))
    with pytest.raises(RunError, match="another run is writing there"):
        RunFolder.open(config(tmp_path / "run"))
    first.close()
    assert not (tmp_path / "run").exists()
    second = RunFolder.open(config(tmp_path / "run"))
    first.path.rename(tmp_path / "moved")
    with pytest.raises(RunError, match="disappeared"):
        second.write_json("result.json", {})
    assert not (tmp_path / "run").exists()
    second.close()
