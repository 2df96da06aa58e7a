"""Memory that is freed and wanted again a moment later."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
from collections.abc import Iterator

TRIM, MMAP = -1, -3
"""glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, mallopt(3)."""
LARGEST = 2**30
"""Bytes of an array that is kept."""


def keep_freed_memory() -> None:
    """Have glibc keep large arrays that are freed, where the process runs on it.

    By default it hands those of more than 32 MB back to the system, and gets the next one page by page, each zeroed
    first: a sixth of the time of a forward pass on a CPU, a seventh of a training step at 18,080 genes
    (docs/benchmarks.md).
    """
    if libc := _glibc():
        libc.mallopt(MMAP, LARGEST)
        libc.mallopt(TRIM, 2**31 - 1)


@contextlib.contextmanager
def kept_for_reuse() -> Iterator[None]:
    """`keep_freed_memory`, and what is free handed back at the end."""
    keep_freed_memory()
    try:
        yield
    finally:
        if libc := _glibc():
            libc.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
