"""The worst machine: runs are killed, disks are full, folders vanish, two want the same, servers send rubbish.

python -m tests.stress.faults [--kills 50] [--soak] [--json results/faults.json]

An attempt disturbs one thing. It survives where the disturbed command goes on, or ends with exit code 2 and a message
that says what to do; nothing half-written remains in run folder and cache; and the run, continued with ``--resume
auto``, ends in the bytes of an undisturbed one (seconds, joules and memory apart). Exit code 1 if anything is lost.
``test_faults.py`` makes the quick attempts. Attempts whose outcomes are in the JSON file already are not repeated.
"""

import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import torch
import tyro
from rich.table import Table

from benchmarks.measure import command, in_fresh_process
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data import download
from eqspike_seq.errors import DataError
from eqspike_seq.files import read_json, write_json
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from eqspike_seq.runs.folder import completed
from tests.stress import rubbish
from tests.stress.survival import BATCHES, Outcome, config, differences, ended, eqspike, flags, quietly, remains

STEPS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}  # as auditing calls them
DISKS = (64, 512, 1024, 1536)  # KB, where a run takes about two thousand at most


def main(
    json_file: Annotated[Path | None, tyro.conf.arg(aliases=["--json"])] = None, kills: int = 50, soak: bool = False
) -> None:
    """Try everything and print a table.

    Args:
        json_file: Where the outcomes go, too.
        kills: Processes killed at random moments.
        soak: Train and predict for long, too, and watch memory and file handles.
    """
    reporter = Reporter()
    before = read_json(json_file) if json_file is not None and json_file.exists() else {"faults": [], "load": []}
    loads: list[dict[str, Any]] = before["load"]
    long = {found["name"] for found in loads}  # earlier files list them among the faults too
    outcomes = [Outcome(**found) for found in before["faults"] if found["fault"] not in long]
    attempts: list[Callable[[Path], Outcome]] = [
        lambda place: killed(place, "dense", kills // 2),
        lambda place: killed(place, "spiking", kills - kills // 2),
        lambda place: in_fresh_process(crashed, place),
        full_disk,
        small_files,
        full_output,
        read_only,
        broken_disk,
        vanished,
        two_at_once,
        one_cache,
        clock_set_back,
        network,
        lambda place: killed(place, "learnt words", kills),
        lambda place: in_fresh_process(crashed, place, 3, "learnt words"),
    ]

    def keep() -> None:
        if json_file is not None:
            about = {"command": command(), "environment": environment()}
            write_json(json_file, {"format": FORMAT, **about, "faults": [asdict(o) for o in outcomes], "load": loads})

    for attempt in attempts[len(outcomes) :]:
        with tempfile.TemporaryDirectory() as place, patch.dict(os.environ, {"EQSPIKE_CACHE": f"{place}/cache"}):
            outcomes.append(attempt(Path(place)))
            reporter.status(f"{outcomes[-1].fault}: {outcomes[-1].tried} tried, {len(outcomes[-1].lost)} lost")
        keep()
    if soak:
        from tests.stress.soak import load

        for found in load(len(loads)):
            loads.append(found)
            reporter.status(str(found))
            keep()
    tried = [*outcomes, *(Outcome(found["name"], 1, found["lost"]) for found in loads)]
    table = Table("fault", "tried", "survived", "lost")
    for one in tried:
        table.add_row(one.fault, str(one.tried), str(one.tried - len(one.lost)), str(len(one.lost)))
        for lost in one.lost:
            reporter.warn(f"{one.fault}: {lost}")
    reporter.out.print(table)
    sys.exit(any(one.lost for one in tried))


def killed(place: Path, kind: str, count: int, seed: int = 0) -> Outcome:
    """SIGKILL at random moments, as often as the run goes on."""
    outcome, rng = Outcome(f"SIGKILL at random moments, {kind}"), random.Random(seed)
    whole = place / "whole"
    first = eqspike(place / "cache", *flags(kind), "--out", whole)
    begun(first)
    started = time.perf_counter()
    outcome.add(ended(first, 0), tried=0)
    length = time.perf_counter() - started
    for number in itertools.count():
        parts, cache, before = place / f"parts{number}", place / f"cache{number}", outcome.tried
        while True:
            process = eqspike(cache, *flags(kind), "--out", parts, "--resume", "auto")
            begun(process)
            time.sleep(rng.uniform(0, length) if outcome.tried < count else 0)
            if outcome.tried == count or process.poll() is not None:
                break
            process.kill()
            process.communicate()
            outcome.tried += 1
        late = process.wait(600) == 2 and completed(parts)  # the last kill came when all was done
        lost = [] if late else ended(process, 0)
        kills = outcome.tried - before
        outcome.add([f"after {kills} kills: {one}" for one in lost + judged(whole, parts, cache)], tried=0)
        if outcome.tried == count:
            return outcome
        shutil.rmtree(parts)
    raise AssertionError


def begun(process: "subprocess.Popen[str]") -> None:
    """Wait for the first word of a run, which comes when it has its folder."""
    assert process.stderr is not None
    process.stderr.readline()


def judged(whole: Path, parts: Path, cache: Path) -> list[str]:
    """What is lost of a disturbed run that has come to its end."""
    return differences(whole, parts) + remains(parts, cache) if parts.exists() else [f"no folder {parts.name}"]


def crashed(place: Path, every: int = 1, kind: str = "dense") -> Outcome:
    """SIGKILL at each ``every``-th step that a run takes in the file system.

    To be called in a fresh process: every run but the undisturbed one is a fork of it, so that there is one thread.
    """
    torch.set_num_threads(1)
    outcome = Outcome("SIGKILL at a step in the file system" + (f", {kind}" if kind != "dense" else ""))

    def attempt(name: str, **more: Any) -> None:
        os.environ["EQSPIKE_CACHE"] = str(place / f"cache-{name}")
        said = quietly(config(place / name, kind, **more))
        if said and "complete" not in said:
            print(said, file=sys.stderr)
            os._exit(2)

    def crash(name: str, step: int) -> None:
        kill_at(step)
        attempt(name)

    attempt("whole")
    for step in itertools.count(0, every):
        name = str(step)
        if forked(crash, name, step) != -signal.SIGKILL:
            return outcome  # there is no such step any more
        code = forked(attempt, name, resume="auto")
        lost = [f"exit code {code}"] if code else judged(place / "whole", place / name, place / f"cache-{name}")
        outcome.add([f"step {step}: {one}" for one in lost])
        shutil.rmtree(place / name, ignore_errors=True)
    raise AssertionError


def kill_at(step: int) -> None:
    """This process shall be killed before its ``step``-th change of a file system from now on."""
    seen = itertools.count()

    def watch(event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in STEPS) and next(seen) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def forked(task: Callable[..., None], *arguments: Any, **settings: Any) -> int:
    """Do it in a fork of this process: 0, the exit code, or the negative of the signal that ended it."""
    if (child := os.fork()) == 0:
        code = 1
        try:
            task(*arguments, **settings)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def disk(place: Path, kilobytes: int) -> Iterator[Callable[[str], None]]:
    """A small disk mounted at ``place``; what is given changes its options. Raises OSError where it may not be."""
    place.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o"]
    if shutil.which("mount") is None or subprocess.run([*mount, f"size={kilobytes}k", "tmpfs", place]).returncode:
        raise OSError("no disk can be mounted here")

    def change(options: str) -> None:
        subprocess.run([*mount, f"remount,{options}", "tmpfs", place], check=True)

    try:
        yield change
    finally:
        subprocess.run(["umount", place], check=True)


def full_disk(place: Path) -> Outcome:
    """Run folder, then cache, on disks of many sizes, which grow before the run goes on."""
    outcome = Outcome("disk full")
    whole, parts, cache = place / "whole", place / "disk" / "parts", place / "cache"
    outcome.add(ended(eqspike(cache, *flags("dense"), "--out", whole), 0), tried=0)
    for size in DISKS:
        with disk(place / "disk", size) as change:
            lost = ended(eqspike(cache, *flags("dense"), "--out", parts), 2, "No space left on device", "ree space")
            lost += remains(cache)
            change("size=100m")
            lost += ended(eqspike(cache, *flags("dense"), "--out", parts, "--resume", "auto"), 0)
            outcome.add([f"{size} KB: {one}" for one in lost + judged(whole, parts, cache)])
    with disk(place / "disk", 4) as change:
        small, parts = place / "disk" / "cache", place / "parts"
        lost = ended(eqspike(small, *flags("dense"), "--out", parts), 2, "No space left on device", "EQSPIKE_CACHE")
        change("size=100m")
        lost += ended(eqspike(small, *flags("dense"), "--out", parts, "--resume", "auto"), 0)
        outcome.add(lost + judged(whole, parts, small))
    return outcome


def full_output(place: Path) -> Outcome:
    """What is printed goes to a full disk: the run is there all the same."""
    outcome, whole, full = Outcome("output full"), place / "whole", Path("/dev/full")
    for arguments in (("data",), ("env",), (*flags("dense"), "--out", whole), ("predict", whole, "a dull film")):
        with full.open("w") as out:
            outcome.add(ended(eqspike(place / "cache", *arguments, stdout=out), 2, "No space left on device"))
    outcome.add([] if completed(whole) else ["the run is not complete"], tried=0)
    with full.open("w") as out:
        process = eqspike(place / "cache", "predict", whole, "a dull film", stdout=out, stderr=out)
        outcome.add(ended(process, 2))
    return outcome


def small_files(place: Path) -> Outcome:
    """No file may grow beyond a limit, as on a disk that is full: every way of writing meets it."""
    outcome, whole = Outcome("no file larger than"), place / "whole"
    outcome.add([said] if (said := quietly(config(whole))) else [], tried=0)
    for limit in (0, 1_000, 20_000, 200_000, 600_000):
        parts, cache = place / f"parts{limit}", place / f"cache{limit}"
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        with patch.dict(os.environ, {"EQSPIKE_CACHE": str(cache)}):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            try:
                said = quietly(config(parts))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            lost = [] if "File too large" in said and "ree space" in said else [f"got {said!r}"]
            lost += remains(cache, *([parts] if parts.exists() else []))
            lost += [said] if (said := quietly(config(parts, resume="auto"))) else []
        outcome.add([f"{limit} bytes: {one}" for one in lost + judged(whole, parts, cache)])
    return outcome


def read_only(place: Path) -> Outcome:
    """Run folder or cache where nothing can be written."""
    outcome = Outcome("read-only folders")
    (place / "file").touch()
    for nowhere in (place / "file" / "under", Path("/proc/nowhere")):
        outcome.add(ended(eqspike(place / "cache", *flags("dense"), "--out", nowhere), 2, "cannot write"))
        outcome.add(ended(eqspike(nowhere, *flags("dense"), "--out", place / "parts"), 2, "EQSPIKE_CACHE"))
    with disk(place / "disk", 10_000) as change:
        change("ro")
        refused = eqspike(place / "cache", *flags("dense"), "--out", place / "disk" / "parts")
        outcome.add(ended(refused, 2, "Read-only file system"))
        refused = eqspike(place / "disk", *flags("dense"), "--out", place / "parts")
        outcome.add(ended(refused, 2, "Read-only file system", "EQSPIKE_CACHE"))
        change("rw")
        cache = place / "disk" / "cache"
        outcome.add(ended(eqspike(cache, *flags("dense"), "--out", place / "first"), 0), tried=0)
        change("ro")  # a cache that has everything needs no writing
        outcome.add(ended(eqspike(cache, *flags("dense"), "--out", place / "second"), 0))
    return outcome


@contextmanager
def at_batch(number: int, disturb: Callable[[], None]) -> Iterator[None]:
    """Runs of this process are disturbed after this batch."""
    original = Trainer.train_batch

    def train_batch(self: Trainer) -> None:
        original(self)
        if self.step == number:
            disturb()

    with patch.object(Trainer, "train_batch", train_batch):
        yield


def broken_disk(place: Path) -> Outcome:
    """From a batch on, or from the test split on, every change of the file system fails."""
    outcome, whole = Outcome("disk becomes read-only"), place / "whole"
    outcome.add([said] if (said := quietly(config(whole))) else [], tried=0)
    for batch in (1, 2, BATCHES):
        parts = place / f"parts{batch}"
        with Broken() as disk, at_batch(batch, disk.fail):
            said = quietly(config(parts))
        lost = [] if "Read-only file system" in said else [f"got {said!r}"]
        lost += [said] if (said := quietly(config(parts, resume="auto"))) else []
        outcome.add([f"batch {batch}: {one}" for one in lost + judged(whole, parts, place / "cache")])
    return outcome


class Broken:
    """A file system of which all changes fail, as they do when a disk becomes read-only, from ``fail`` on."""

    CALLS = ("open", "unlink", "mkdir", "rmdir", "rename", "replace", "remove")

    def __init__(self) -> None:
        self.failing = False
        self.patches = [patch.object(os, name, self.guarded(name, getattr(os, name))) for name in self.CALLS]

    def guarded(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """The function ``name`` of os, which fails from ``fail`` on."""

        def call(path: Any, *arguments: Any, **more: Any) -> Any:
            reads = name == "open" and not (arguments and arguments[0] & (os.O_WRONLY | os.O_RDWR))
            if self.failing and not reads:
                raise OSError(30, os.strerror(30), path)
            return original(path, *arguments, **more)

        return call

    def fail(self) -> None:
        """From now on."""
        self.failing = True

    def __enter__(self) -> "Broken":
        for one in self.patches:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.patches:
            one.stop()


def vanished(place: Path) -> Outcome:
    """The run folder is removed, moved away (and back again), or taken by another while a run writes to it."""
    outcome, whole, parts, moved = Outcome("run folder vanishes"), place / "whole", place / "parts", place / "moved"
    outcome.add([said] if (said := quietly(config(whole))) else [], tried=0)

    def taken() -> None:
        parts.rename(moved)
        parts.mkdir()
        (parts / ".lock").touch()

    for disturb in (lambda: shutil.rmtree(parts), lambda: parts.rename(moved), taken):
        for batch in (1, 2, BATCHES):
            with at_batch(batch, disturb):  # type: ignore[arg-type]
                said = quietly(config(parts))
            lost = [] if "disappeared" in said and "--resume auto" in said else [f"got {said!r}"]
            if parts.exists():
                lost += [] if [path.name for path in parts.iterdir()] == [".lock"] else ["the other's folder changed"]
                shutil.rmtree(parts)
            if moved.exists():
                moved.rename(parts)
            lost += [said] if (said := quietly(config(parts, resume="auto"))) else []
            outcome.add(lost + judged(whole, parts, place / "cache"))
            shutil.rmtree(parts)
    return outcome


def two_at_once(place: Path) -> Outcome:
    """The same command twice at the same time, in a named folder and without one."""
    outcome, whole, cache = Outcome("two runs at once"), place / "whole", place / "cache"
    outcome.add(ended(eqspike(cache, *flags("dense"), "--out", whole), 0), tried=0)
    for where in (["--out", "parts"], ["--out", "parts", "--resume", "auto"], []):
        folder = place / "work"
        folder.mkdir()
        pair = [eqspike(place / "both", *flags("dense"), *where, cwd=folder) for _ in range(2)]
        for process in pair:
            process.wait()
        pair.sort(key=lambda process: process.returncode)
        lost = ended(pair[0], 0)
        if where or pair[1].returncode:
            lost += ended(pair[1], 2, "--out")
        made = [folder / "parts"] if where else list((folder / "runs").iterdir())
        outcome.add(lost + [one for parts in made for one in judged(whole, parts, place / "both")])
        shutil.rmtree(folder)
    return outcome


def one_cache(place: Path) -> Outcome:
    """Three runs at once need the same word vectors, of texts of one's own: made once. And once more, one killed."""
    outcome = Outcome("one cache for all")
    words = [f"word{number}" for number in range(500)]
    rng = random.Random(0)
    rows = [f"{' '.join(rng.choices(words, k=100))},{'yes' if row % 2 else 'no'}" for row in range(2000)]
    (place / "texts.csv").write_text("\n".join(["text,label", *rows]))
    small = ("--network", "tokens", "--limit", 1000, "--epochs", 1, "--tokens", 20)
    given = ["run", place / "texts.csv", "--embeddings", "word2vec", *small]
    for kill in (False, True):
        cache, group = place / f"cache{kill}", {}
        for number in range(3):
            said = place / f"said{kill}{number}"
            with said.open("w") as error:
                out = place / f"{kill}{number}"
                group[said] = eqspike(cache, *given, "--out", out, "--resume", "auto", stdout=error, stderr=error)
        if kill:
            for maker in itertools.cycle(group):
                if "splitting" in maker.read_text():
                    break
                assert group[maker].poll() is None, maker.read_text()
            time.sleep(rng.uniform(0, 1))
            group[maker].kill()
            group.pop(maker).wait()
        lost = [f"exit code {process.returncode}" for process in group.values() if process.wait(600)]
        makers = sum("splitting" in said.read_text() for said in group)
        lost += [] if makers == 1 else [f"{makers} of {len(group)} made the vectors"]
        folders = [folder for number in range(3) if completed(folder := place / f"{kill}{number}")]
        lost += [one for folder in folders[1:] for one in differences(folders[0], folder)] + remains(cache)
        outcome.add(lost)
    return outcome


def clock_set_back(place: Path) -> Outcome:
    """The clock goes backwards, a day with each look at it."""
    outcome, whole, parts = Outcome("clock set back"), place / "whole", place / "parts"
    outcome.add([said] if (said := quietly(config(whole))) else [], tried=0)
    now = itertools.count(time.time(), -86_400)
    with patch.object(time, "time", lambda: next(now)), patch.object(time, "time_ns", lambda: int(next(now) * 1e9)):
        said = quietly(config(parts))
    outcome.add(([said] if said else []) + judged(whole, parts, place / "cache"))
    return outcome


def network(place: Path) -> Outcome:
    """A server that has something wrong each time, and one that is right the third time."""
    outcome, path = Outcome("servers"), place / "cache" / "data" / "archive"
    for behaviour, good in itertools.product(rubbish.BEHAVIOURS, (False, True)):
        pauses: list[float] = []
        answers = [behaviour, behaviour, "good"] if good else [behaviour] * 3
        with (
            rubbish.server(answers) as source,
            patch.multiple(download, SILENCE_S=0.2),
            patch("time.sleep", pauses.append),
        ):
            lost = []
            try:
                found = download.fetch(source)
                lost += [] if good and found.read_bytes() == rubbish.ARCHIVE else ["the wrong file was kept"]
                path.unlink()
            except DataError as error:
                lost += [f"refused: {error}"] if good or "Nothing was kept" not in str(error) else []
        lost += (
            [] if pauses == [2.0, 4.0] and answers == [] else [f"pauses {pauses}, {len(answers)} answers not asked for"]
        )
        lost += [f"{one.name} kept" for one in path.parent.iterdir()]
        outcome.add([f"{behaviour}: {one}" for one in lost])
    return outcome


if __name__ == "__main__":
    tyro.cli(main)
