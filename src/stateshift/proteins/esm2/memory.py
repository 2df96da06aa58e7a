"""Memory that is freed and wanted again a moment later."""

from __future__ import annotations

import contextlib

# glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, mallopt(3)
TRIM, MMAP = -1, -3


def keep_freed_memory() -> None:
    """Have glibc keep large blocks that are freed, where the process runs on it.

    By default it hands each back to the system, and every new tensor of a few megabytes is paid for with a page fault
    for each 4 kB: about a sixth of the time of a forward pass on a CPU (docs/benchmarks.md).
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP, 2**30)
        libc.mallopt(TRIM, 2**31 - 1)
