"""Large temporaries without page faults."""

import ctypes
import os
import sys
from collections.abc import Callable

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # numbers of glibc's mallopt parameters
LARGE = 2**31 - 1
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
