"""Memory: large temporaries without page faults, and how much a process holds."""

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # numbers of glibc's mallopt parameters
LARGE = 2**31 - 1
STATUS = Path("/proc/self/status")
KERNELS = "32"  # of oneDNN, one for each size of a product: it would keep 1,024, which can fill 0.5 GB


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc, or None on another system."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next batch, where it would hand every large one back to the system.

    Half of a training batch on a processor can otherwise go to page faults. Without glibc nothing happens. To be called
    before the first product, so that oneDNN keeps ``KERNELS`` compiled products at most.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    if mallopt := _glibc("mallopt"):
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, LARGE)


def release_freed_memory() -> None:
    """Hand back what has been freed: called now and then, so that blocks of changing sizes do not pile up."""
    if trim := _glibc("malloc_trim"):
        trim(0)


def resident(when: Literal["VmHWM", "VmRSS"] = "VmHWM") -> int:
    """Bytes of this process that were resident at most (``VmHWM``) or are now (``VmRSS``).

    On Linux from /proc: the peak that ``getrusage`` reports there survives fork and exec, so that a process started by
    a larger one would report that one's. Elsewhere only ``getrusage`` is there, with the peak for both, in bytes on
    macOS and in KiB on other systems.
    """
    try:
        for line in STATUS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == when:
                return int(value.split()[0]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
