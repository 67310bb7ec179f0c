"""A run of seconds to disturb, and whether it survives: it must end in the bytes of an undisturbed one."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eqspike.build import configure, run
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.errors import EqspikeError
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.weights import read_rows, row_files

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {"limit": 192, "batch": 32, "epochs": 2, "checkpoint_every": 2}
SETTINGS |= {"free_steps": 60, "nudge_steps": 60}
KINDS: dict[str, dict[str, Any]] = {
    "dense": {"backend": "dense"},
    "spiking": {"backend": "spiking", "window": 40},
    "learnt words": {"backend": "dense", "network": "pooling"},  # with a sparse state of the optimiser
}
BATCHES = 4  # of the run in this process
MEASURED = {"seconds", "train_seconds", "test_seconds", "joules", "measured_joules", "peak_memory_bytes"}


@dataclass
class Outcome:
    """How often a fault was tried, and what was lost in each attempt that the run did not survive."""

    fault: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, lost: list[str], tried: int = 1) -> None:
        """One attempt, of so many disturbances."""
        self.tried += tried
        if lost:
            self.lost.append("; ".join(lost))


def config(out: Path, kind: str = "dense", **settings: Any) -> RunConfig:
    """The run, in ``out``, with fewer texts: two epochs of two batches, a checkpoint after each."""
    return configure("mini", out=out, **{**SETTINGS, **KINDS[kind], "limit": 64, "checkpoint_every": 1, **settings})


def flags(kind: str) -> list[str]:
    """The run for the command line."""
    given = ((f"--{name.replace('_', '-')}", str(value)) for name, value in {**SETTINGS, **KINDS[kind]}.items())
    return ["run", "mini", *itertools.chain.from_iterable(given)]


def quietly(settings: RunConfig) -> str:
    """Run in this process; the message of the error that it ends in, else nothing."""
    try:
        run(settings, Reporter(quiet=True))
        return ""
    except EqspikeError as error:
        return str(error)


def eqspike(cache: Path, *arguments: object, **how: Any) -> "subprocess.Popen[str]":
    """``eqspike`` in a process of its own, on one thread."""
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    settings = {**os.environ, "EQSPIKE_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-m", "eqspike", *map(str, arguments)]
    return subprocess.Popen(call, text=True, env=settings, **how)


def ended(process: "subprocess.Popen[str]", code: int, *says: str) -> list[str]:
    """What is wrong with how a process ends: it must with ``code``, say all of ``says`` and show no traceback."""
    out, error = process.communicate(timeout=600)
    said = " ".join(f"{out or ''} {error or ''}".split())  # however it was wrapped
    right = process.returncode == code and "Traceback" not in said and all(part in said for part in says)
    return [] if right else [f"exit code {process.returncode}, expected {code} and {says}: {said[-300:]}"]


def differences(whole: Path, parts: Path) -> list[str]:
    """What the folder of a disturbed run has other than that of an undisturbed one.

    Learnt vectors are compared as a whole: a resumed run spreads them over other files.
    """
    names = [
        {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.match("rows-*")}
        for folder in (whole, parts)
    ]
    found = [f"{name} is in one folder only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        if (whole / name).is_file() and content(whole / name) != content(parts / name):
            found.append(f"{name} differs")
    if learnt(whole) != learnt(parts):
        found.append("the learnt vectors differ")
    return found


def learnt(run: Path) -> tuple[list[int], bytes]:
    """Ids and vectors of all rows that a run has learnt."""
    if (rows := read_rows(row_files(run / "checkpoint"))) is None:
        return [], b""
    order = rows.ids.argsort()
    return rows.ids[order].tolist(), rows.vectors[order].numpy().tobytes()


def content(path: Path) -> Any:
    """Of a file, less what is measured and where it lies."""
    if path.suffix in (".json", ".jsonl"):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        return [json.loads(line, object_hook=unmeasured) for line in lines]
    if path.name == "config.toml":
        return [line for line in path.read_text().splitlines() if not line.startswith(("out =", "resume ="))]
    return path.read_bytes()


def unmeasured(values: dict[str, Any]) -> dict[str, Any]:
    """What no clock and no meter gave, of one object in JSON."""
    return {name: value for name, value in values.items() if name not in MEASURED}


def remains(*folders: Path) -> list[str]:
    """Locks and half-written files."""
    return [f"{path.name} remains" for folder in folders for path in folder.rglob(".*")]
