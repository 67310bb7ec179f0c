"""Large temporaries without page faults."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # numbers of glibc's mallopt parameters
LARGE = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next batch, where it would hand every large one back to the system.

    Half of a training batch on a processor can otherwise go to page faults. Without glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, LARGE)
