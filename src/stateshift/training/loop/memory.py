"""Memory that one step frees and the next one uses."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
LARGEST = 2**30
"""Bytes of an array that is kept for reuse, and of free memory that is kept."""


@contextlib.contextmanager
def kept_for_reuse() -> Iterator[None]:
    """Let the process keep large arrays that it frees, and hand them back at the end.

    glibc returns arrays of more than 32 MB to the kernel when they are freed, and gets the next one page by page,
    each zeroed first: a seventh of a training step at 18,080 genes. Nothing is done where the C library is
    another one.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
    libc.mallopt(M_TRIM_THRESHOLD, LARGEST)
    try:
        yield
    finally:
        libc.malloc_trim(0)
