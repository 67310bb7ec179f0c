"""Strangers' files, for long: `python -m tests.stress.fuzz --json results/fuzz.json` gives readers many inputs.

Random harm is that of ``tests/test_fuzz.py``, each test in a process of its own. Where atheris is installed (it is no
dependency) three readers are fuzzed too with inputs that it derives from those that reached new branches. Exit code 1
if an input ends in anything but an answer or an EqspikeError. The same command continues.
"""

import gc
import inspect
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import tyro

from benchmarks.measure import command
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.patterns import NGrams
from eqspike_seq.devices.device_model import read_device
from eqspike_seq.errors import EqspikeError
from eqspike_seq.files import read_json, write_json
from eqspike_seq.runs import archive
from eqspike_seq.runs.environment import environment
from tests import test_fuzz
from tests.stress.survival import ROOT

SLOW = {"test_zips_of_runs": 40, "test_settings": 20, "test_cells_of_any_type": 4}  # times slower than the others
LEFT_OUT = ("test_run_folders", "test_checkpoints")  # slower than these
WATCHED = ("eqspike_seq", "tomllib", "zipfile")
PROFILES = ROOT / "eqspike_seq" / "devices" / "profiles"
Found = dict[str, Any]


def main(
    inputs: int = 4_000,
    seconds: int = 240,
    json_file: Annotated[Path | None, tyro.conf.arg(aliases=["--json"])] = None,
) -> None:
    """Fuzz every reader.

    Args:
        inputs: Of each kind; fewer where a reader is slow. 40,000 make about a million in all.
        seconds: Of fuzzing guided by coverage, for each of three readers.
        json_file: Where the outcomes go; those that it has are not repeated.
    """
    about = {"format": FORMAT, "command": command(), "environment": environment()}
    found: list[Found] = read_json(json_file)["readers"] if json_file is not None and json_file.exists() else []
    tests = [name for name in vars(test_fuzz) if name.startswith("test_") and name not in LEFT_OUT]
    attempts: list[tuple[str, Callable[..., Found], Any]] = [(name, harmed, inputs) for name in tests]
    if find_spec("atheris"):
        attempts += [(name, by_coverage, seconds) for name in READERS]
    for name, attempt, much in attempts:
        if any(row["name"] == name for row in found):
            continue
        found.append({"name": name, **measured(attempt, name, much)})
        print(found[-1], flush=True)
        if json_file is not None:
            write_json(json_file, {**about, "readers": found})
    sys.exit(any(row["lost"] for row in found))


def measured(attempt: Callable[..., Found], *given: Any) -> Found:
    """What an attempt found, with its seconds, and those of the processor."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    found = attempt(*given)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**found, "seconds": time.perf_counter() - started, "processor_seconds": used}


def harmed(name: str, inputs: int) -> Found:
    """A test of ``test_fuzz.py`` with so many inputs for each of its properties and parameters."""
    test = getattr(test_fuzz, name)
    each = inputs // SLOW.get(name, 1)
    quiet = ("-q", "--timeout=0", "-p", "no:cacheprovider")
    call = [sys.executable, "-m", "pytest", *quiet, f"{test_fuzz.__file__}::{name}"]
    end = subprocess.run(call, env={**os.environ, "EQSPIKE_FUZZ": str(each)}, capture_output=True, text=True)
    cases = 1
    for mark in getattr(test, "pytestmark", []):
        cases *= len(mark.args[1]) if mark.name == "parametrize" else 1
    properties = inspect.getsource(test).count("@fuzzed")
    return {"inputs": each * cases * properties, "lost": [end.stdout[-3000:]] if end.returncode else []}


def by_coverage(name: str, seconds: int) -> Found:
    """A reader, with inputs derived from those that reached new branches, for so long."""
    call = [sys.executable, "-c", f"from tests.stress import fuzz; fuzz.follow({name!r}, {seconds})"]
    end = subprocess.run(call, capture_output=True, text=True)
    done = [line for line in end.stderr.splitlines() if line.startswith("Done ")]  # Done 1234 runs in 5 second(s)
    lost = [] if end.returncode == 0 and done else [end.stderr[-3000:]]
    return {"inputs": int(done[0].split()[1]) if done else 0, "lost": lost}


def device(content: bytes, place: Path) -> None:
    """A device model."""
    path = place / "mine.toml"
    path.write_bytes(content)
    read_device.__wrapped__(str(path))


def vocabulary(content: bytes, _: Path) -> None:
    """Names of patterns, one a line, in any order."""
    names = content.decode(errors="replace").split("\n")
    try:
        found = NGrams.of(names)
    except ValueError:
        return
    assert found.names() == names


def zipped(content: bytes, place: Path) -> None:
    """A zip of a run, down to the files that it is unpacked to."""
    path = place / "mine.zip"
    path.write_bytes(content)
    with patch.object(archive, "_unpacked", unpacked_once):
        archive.opened(path)


def unpacked_once(path: Path, *_: int) -> Path:
    """As the archive does it, removed at once."""
    with tempfile.TemporaryDirectory() as place:
        return archive._unpack(path, Path(place) / "run")


READERS: dict[str, Callable[[bytes, Path], None]] = {
    "device models": device,
    "vocabularies": vocabulary,
    "zips of runs": zipped,
}


def seeds(name: str) -> list[bytes]:
    """What a reader takes, to derive other inputs from: small, since large ones are slow."""
    if name == "device models":
        return [path.read_bytes() for path in sorted(PROFILES.glob("*.toml"))]
    if name == "vocabularies":
        return [b"a\nb\na b\nb a\na b a", b"a\na a"]
    with (
        zipfile.ZipFile(next(archive.MODELS.glob("*.zip"))) as whole,
        zipfile.ZipFile(file := io.BytesIO(), "w") as few,
    ):
        for member in ("config.toml", "result.json", "ledger.json"):
            few.writestr(member, whole.read(member), zipfile.ZIP_DEFLATED)
    return [file.getvalue()]


def follow(name: str, seconds: int) -> None:
    """Fuzz a reader for so long, watching which branches of ours and of the standard library's readers are reached."""
    import atheris

    for each in gc.get_objects():
        if inspect.isfunction(each) and each.__module__ and each.__module__.split(".")[0] in WATCHED:
            atheris.instrument_func(each)
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(name)):
            (corpus / str(number)).write_bytes(seed)

        def one(content: bytes) -> None:
            try:
                READERS[name](content, Path(place))
            except EqspikeError as error:
                assert str(error).strip()

        atheris.Setup(["fuzz", str(corpus), f"-max_total_time={seconds}", "-rss_limit_mb=4096"], one)
        atheris.Fuzz()


if __name__ == "__main__":
    tyro.cli(main)
