import resource
import subprocess
import sys
from pathlib import Path

import pytest

from eqspike_seq import memory

LARGE = 400 * 2**20
CHILD = """
from eqspike_seq.memory import resident
before = resident()
held = bytearray(b"x") * {size}
print(before, resident("VmRSS"), resident())
del held
print(resident("VmRSS"), resident())
"""


def test_system_without_glibc_is_left_alone(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory.keep_freed_memory()
    memory.release_freed_memory()


def test_glibc_takes_the_settings() -> None:
    memory.keep_freed_memory()
    memory.release_freed_memory()
    mallopt = memory._glibc("mallopt")
    assert mallopt is None or mallopt(memory.TRIM_THRESHOLD, memory.LARGE) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a peak is not inherited")
def test_a_process_reports_the_peak_of_its_own_and_not_of_the_one_that_started_it() -> None:
    size, here = 100 * 2**20, bytearray(b"x") * LARGE
    found = subprocess.run(
        [sys.executable, "-c", CHILD.format(size=size)], check=True, capture_output=True, text=True
    ).stdout
    (before, now, peak), (later, kept) = (map(int, line.split()) for line in found.splitlines())
    assert before < LARGE // 4 and len(here) == LARGE
    assert peak - before == pytest.approx(size, rel=0.1) and now == pytest.approx(peak, rel=0.1)
    assert kept == pytest.approx(peak, rel=0.02) and kept - later == pytest.approx(size, rel=0.1)


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd", 1024), ("linux", 1024)])
def test_without_proc_the_unit_is_that_of_the_system(
    platform: str, unit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS: "the maximum resident set size utilized (in bytes)"; Linux and FreeBSD: in kilobytes (getrusage(2))."""
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(memory.sys, "platform", platform)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert memory.resident() == memory.resident("VmRSS") == unit * peak


def test_a_proc_that_keeps_no_peak_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t    2048 kB\n")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert memory.resident("VmRSS") == 2048 * 1024
    assert memory.resident() == 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss or sys.platform == "darwin"
