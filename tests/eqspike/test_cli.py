"""The command line as its users meet it: real processes, exit codes, no tracebacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EQSPIKE = [sys.executable, "-c", "from eqspike.cli import main; main()"]


def eqspike(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    environment.pop("EQSPIKE_DATA", None)
    return subprocess.run([*EQSPIKE, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


def test_help_names_the_commands_and_loads_nothing_heavy() -> None:
    found = eqspike("--help")
    assert found.returncode == 0 and all(name in found.stdout for name in ("run", "data", "env"))
    heavy = ("torch", "gensim", "brian2", "matplotlib", "snntorch", "scipy", "numpy", "pyarrow", "pooch", "pydantic")
    script = (
        "import sys; sys.argv = ['eqspike', '--help']\nfrom eqspike.cli import main\n"
        f"try: main()\nexcept SystemExit: pass\nprint([m for m in {heavy} if m in sys.modules])"
    )
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert listed.stdout.splitlines()[-1] == "[]"


def test_run_help_names_the_data_sets_and_explains_every_flag() -> None:
    found = eqspike("run", "--help")
    assert found.returncode == 0
    for part in (
        "{imdb,snli,mini,mnist,digits}|FILE|FOLDER",
        "--backend",
        "--beta",
        "--resume",
        "--queries",
        "influence factor",
    ):
        assert part in found.stdout, part


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "COMMAND"),
        (("walk",), "walk"),
        (("run",), "dataset"),
        (("run", "sst2"), "sst2"),
        (("run", "mini", "--betta", "1"), "--betta"),
        (("run", "mini", "--beta", "0"), "--beta"),
        (("run", "mini", "--free-steps", "0"), "--free-steps"),
        (("run", "mini", "--epochs", "many"), "--epochs"),
        (("run", "mini", "--backend", "analog"), "analog"),
        (("run", "mini", "--backend", "spiking", "--estimator", "bptt"), "--estimator"),
        (("run", "mini", "--preset", "huge"), "--preset"),
        (("run", "mini", "--config", "nowhere.toml"), "nowhere.toml"),
        (("run", "mini", "--embeddings", "nowhere.bin"), "nowhere.bin"),
        (("run", "imdb", "--data-dir", "nowhere"), "nowhere"),
        (("run", "mini", "--resume", "nowhere"), "nowhere"),
        (("export", "nowhere", "--format", "nir", "--out", "a.nir"), "nowhere"),
    ],
)
def test_mistakes_exit_with_2_and_no_traceback(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    found = eqspike(*arguments, cwd=tmp_path)
    assert found.returncode == 2, found.stderr
    assert says in found.stdout + found.stderr and "Traceback" not in found.stderr


def test_a_run_ends_with_accuracy_spikes_and_the_place_of_its_folder(tmp_path: Path) -> None:
    found = eqspike("run", "mini", "--backend", "spiking", "--limit", "64", "--epochs", "1", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    for part in ("test accuracy", "baseline", "energy", "spikes", "synthetic", "eqspike report runs/mini-spiking"):
        assert part in found.stdout
    assert (tmp_path / "runs/mini-spiking-mini-seed0/result.json").is_file()


def test_env_and_data() -> None:
    env, data = eqspike("env"), eqspike("data")
    assert env.returncode == data.returncode == 0
    assert "torch" in env.stdout and "cores" in env.stdout and "imdb" in env.stdout
    assert "imdb" in data.stdout and "mini" in data.stdout and "not found" in data.stdout
