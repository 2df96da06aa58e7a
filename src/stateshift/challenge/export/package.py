"""The tar of a submission: members without time or owner, the matrix compressed straight into it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

BLOCK = 512
COPY_AT_ONCE = 2**22
MOST_THREADS = 8
"""Each holds some 10 MB."""


def write_package(
    path: Path, matrix: Path, name: str, level: int, first: dict[str, bytes], last: dict[str, bytes]
) -> None:
    """Write an uncompressed tar of small members, a file compressed by zstd, and more small members.

    The compressed file goes straight into the tar, and its header, which tells its size, is filled in afterwards: no
    second copy of it is ever on the disk.

    Parameters
    ----------
    path
        The tar to write.
    matrix
        The file to compress.
    name, level
        The compressed member's name, and zstd's level.
    first, last
        Name → bytes of the members before and after it.
    """
    import zstandard

    from stateshift.progress import track

    with open(path, "wb") as target, open(matrix, "rb") as source:
        for member, content in first.items():
            _add(target, member, content)
        header = target.tell()
        target.write(bytes(BLOCK))
        size = matrix.stat().st_size
        compressor = zstandard.ZstdCompressor(level=level, threads=_threads()).chunker(size=size)
        for _ in track(range(0, size, COPY_AT_ONCE), "compressing"):
            for packed in compressor.compress(source.read(COPY_AT_ONCE)):
                target.write(packed)
        for packed in compressor.finish():
            target.write(packed)
        length = target.tell() - header - BLOCK
        _pad(target, length)
        for member, content in last.items():
            _add(target, member, content)
        # a tar ends with two empty blocks, filled up to a record
        target.write(bytes(2 * BLOCK))
        target.write(bytes(-target.tell() % tarfile.RECORDSIZE))
        target.seek(header)
        target.write(_header(name, length))


def _threads() -> int:
    """At least one, which cuts the file as any number does: the bytes don't depend on the machine."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(processors, MOST_THREADS)


def _add(target: io.BufferedWriter, name: str, content: bytes) -> None:
    target.write(_header(name, len(content)))
    target.write(content)
    _pad(target, len(content))


def _header(name: str, size: int) -> bytes:
    """A tar header without time or owner, so that the same prediction gives the same bytes."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, 0
    return entry.tobuf(tarfile.GNU_FORMAT)


def _pad(target: io.BufferedWriter, length: int) -> None:
    target.write(bytes(-length % BLOCK))
