"""A sweep: what it varies, that it survives its processes, and that nobody's work is done twice."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eqspike.commands import sweep as module
from eqspike.commands.sweep import axis, drawn, flags_of, grid
from eqspike_seq.errors import ConfigError, DivergenceError
from eqspike_seq.runs.schema import Sweep
from tests.conftest import command, is_whole

BASE = ("sweep", "mini", "--backend", "dense", "--limit", "64", "--epochs", "1")


def trials(out: Path) -> list[dict[str, object]]:
    return list(json.loads((out / "sweep.json").read_text())["trials"])


def test_a_grid_is_every_combination_as_flags() -> None:
    axes = dict(map(axis, ["hidden=32,64x8", "attention=true,false"]))
    flags = [flags_of(point) for point in grid(axes)]
    assert flags == [
        ["--hidden", "32", "--attention"],
        ["--hidden", "32", "--no-attention"],
        ["--hidden", "64", "8", "--attention"],
        ["--hidden", "64", "8", "--no-attention"],
    ]


def test_random_points_lie_in_their_range_repeat_themselves_and_do_not_come_twice() -> None:
    axes = dict(map(axis, ["learning-rate=1e-4..1e-2:log", "batch=8..16"]))
    points = drawn(axes, 200)
    assert points == drawn(axes, 200) and points[:20] == drawn(axes, 20)
    rates = [float(point["learning_rate"]) for point in points]
    assert 1e-4 <= min(rates) < 2e-4 and 5e-3 < max(rates) <= 1e-2
    assert 0.4 < sum(rate < 1e-3 for rate in rates) / len(rates) < 0.6  # the middle of a log-uniform draw
    assert {int(point["batch"]) for point in points} == set(range(8, 17))
    assert len(drawn(dict([axis("beta=0.1,0.2")]), 50)) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--vary", "betta=1,2"), "betta"),
        (("--vary", "seed=1,2"), "--seeds"),
        (("--vary", "out=a,b"), "out"),
        (("--vary", "beta"), "beta"),
        (("--vary", "beta=0.1,0.1"), "different"),
        (("--vary", "beta=0.1..0.5"), "single values"),
        (("--vary", "beta=0.5..0.1", "--search", "random"), "LOW"),
        (("--vary", "beta=0..1:log", "--search", "random"), "log"),
        (("--vary", "beta=0.1,0.2", "beta=0.3,0.4"), "twice"),
        (("--vary", "beta=0.1,0.2", "--search", "random", "--trials", "0"), "--trials"),
        (("--vary", "beta=0.1,99"), "--beta"),
        (("--vary", "masked=yes,no"), "true or false"),
        (("--vary", "beta=0.1,0.2", "--betta", "1"), "--betta"),
        ((), "--vary"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(*BASE, "--out", tmp_path / "s", *arguments)
    said = capsys.readouterr()
    assert stopped.value.code == 2 and says in said.out + said.err and not (tmp_path / "s").exists()


def test_it_runs_each_setting_with_each_seed_and_compares(tmp_path: Path) -> None:
    out = tmp_path / "s"
    command(*BASE, "--vary", "beta=0.1,0.3", "--seeds", "0", "1", "--out", out)
    assert is_whole(out / "sweep.json", Sweep)
    assert {path.name for path in out.glob("trial*")} == {f"trial{n}-seed{s}" for n in (1, 2) for s in (0, 1)}
    for trial in trials(out):
        results = [json.loads((out / name / "result.json").read_text()) for name in trial["runs"]]  # type: ignore[attr-defined]
        assert [result["seed"] for result in results] == [0, 1]
        assert trial["validation_accuracy"] == pytest.approx(sum(r["validation_accuracy"] for r in results) / 2)
        config = (out / trial["runs"][0] / "config.toml").read_text()  # type: ignore[index]
        assert f"beta = {trial['settings']['beta']}" in config  # type: ignore[index]
    with (out / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    ranked = [float(row["validation_accuracy"]) for row in rows]
    assert len(rows) == 2 and ranked == sorted(ranked, reverse=True)
    report = (out / "report.html").read_text()
    assert "Best of 2 settings on validation" in report and 'id="sweep"' in report
    drawn_before = (out / "sweep.svg").read_bytes()
    command(*BASE, "--vary", "beta=0.1,0.3", "--seeds", "0", "1", "--out", out)  # nothing is left to run
    assert (out / "sweep.svg").read_bytes() == drawn_before


def test_an_interrupted_sweep_goes_on_and_other_settings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "s", (*BASE, "--vary", "beta=0.1,0.2,0.3", "--out", tmp_path / "s")
    original, calls = module.run, []

    def stopped_in_the_second(config: object, reporter: object, **more: object) -> object:
        calls.append(config)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(config, reporter)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run", stopped_in_the_second)
    with pytest.raises(SystemExit) as stop:
        command(*again)
    assert stop.value.code == 130 and "same command" in capsys.readouterr().err
    first = (out / "trial1-seed0/result.json").stat().st_mtime_ns
    with pytest.raises(SystemExit) as stop:
        command(*again, "--batch", "16")
    assert stop.value.code == 2 and "other settings" in capsys.readouterr().err
    command(*again)
    assert [config.learning.beta for config in calls] == [0.1, 0.2, 0.2, 0.3]  # type: ignore[attr-defined]
    assert (out / "trial1-seed0/result.json").stat().st_mtime_ns == first
    assert [trial["state"] for trial in trials(out)] == ["complete"] * 3


def test_a_setting_that_diverges_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = module.run

    def diverging(config: object, reporter: object, **more: object) -> object:
        if config.learning.beta == 0.2:  # type: ignore[attr-defined]
            raise DivergenceError("training diverged: a gradient of step 7 is not finite")
        return original(config, reporter)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run", diverging)
    command(*BASE, "--vary", "beta=0.2,0.3", "--out", tmp_path / "s")
    assert "trial 1: training diverged" in capsys.readouterr().out
    assert [trial["state"] for trial in trials(tmp_path / "s")] == ["fail", "complete"]
    monkeypatch.setattr(module, "run", lambda *_, **__: (_ for _ in ()).throw(ConfigError("a disk that is full")))
    with pytest.raises(SystemExit):
        command(*BASE, "--vary", "beta=0.2,0.3", "--out", tmp_path / "t")
    assert not (tmp_path / "t/sweep.json").exists()  # no fault of the setting: nothing is held against it


def test_processes_share_a_sweep_and_take_over_from_one_that_was_killed(tmp_path: Path) -> None:
    script = "from eqspike.cli import main; main()"
    arguments = (*BASE, "--vary", "beta=0.1,0.2,0.3,0.4", "--out", str(tmp_path / "s"))
    start = [sys.executable, "-c", script, *map(str, arguments)]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(start, env=environment, **quiet)  # type: ignore[call-overload]
    assert killed.stderr is not None
    next(line for line in killed.stderr if "trial 1 of 4" in line)
    killed.kill()
    killed.communicate()
    both = [subprocess.Popen(start, env=environment, **quiet) for _ in range(2)]  # type: ignore[call-overload]
    said = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    began = [line.split(" of ")[0] for text in said for line in text.splitlines() if line.startswith("trial ")]
    assert sorted(began) == ["trial 1", "trial 2", "trial 3", "trial 4"]
    assert [trial["state"] for trial in trials(tmp_path / "s")] == ["complete"] * 4
