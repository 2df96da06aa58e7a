"""HDF5 files opened to be read: what leads outside of them is refused, and damage that HDF5 never comes back from."""

from __future__ import annotations

import contextlib
import mmap
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from stateshift.errors import StateshiftError, some

if TYPE_CHECKING:
    import h5py

HEAP = b"GCOL\x01\x00\x00\x00"
"""How a heap of texts begins, in version 1 of its format."""
LOOKED_THROUGH = 2**26
"""Bytes of a file up to which its heaps are looked at; texts are a vanishing part of larger ones."""


def open_hdf5(path: str | Path, locking: bool | None = None) -> h5py.File:
    """An HDF5 file to read.

    Parameters
    ----------
    path
        The file.
    locking
        As h5py has it; None for HDF5's own choice.

    Raises
    ------
    StateshiftError
        It is a pipe or a device, which HDF5 would wait for; parts of it lie in other files, or a heap of it is damaged so
        that HDF5 would read it for ever.
    OSError
        HDF5 can't open it.
    """
    import h5py

    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise StateshiftError(f"{path} is a pipe or a device, where HDF5 can't go back and forth: name a file.")
    _refuse_endless(path)
    file = h5py.File(path, "r", locking=locking)
    try:
        outside = _outside(file)
    except BaseException:
        file.close()
        raise
    if outside:
        file.close()
        raise StateshiftError(
            f"{path} takes {some(outside, 3)} from other files, which could be any of this machine: it is not read. Copy "
            "what is meant into the file."
        )
    return file


def _outside(file: h5py.File) -> list[str]:
    """Names of the links and arrays whose content lies in other files.

    Groups are gone through one by one, each once: going by whole names takes for ever where thousands are nested.
    """
    import h5py

    found, seen, left = [], set(), [("", file)]
    while left:
        before, group = left.pop()
        for name in group:
            link, held = group.get(name, getlink=True), None
            if isinstance(link, h5py.HardLink):
                with contextlib.suppress(Exception):  # damage is told by whoever reads it
                    held = group[name]
            elsewhere = isinstance(held, h5py.Dataset) and (held.is_virtual or held.external)
            if elsewhere or isinstance(link, h5py.ExternalLink):
                found.append(f"`{before}{name}`")
            if isinstance(held, h5py.Group) and (place := h5py.h5o.get_info(held.id).addr) not in seen:
                seen.add(place)
                left.append((f"{before}{name}/", held))
    return sorted(found)


def _refuse_endless(path: Path) -> None:
    """An object of no length in a heap is passed over by no step, and HDF5 (up to 2.0) stays there."""
    if not path.is_file() or not 0 < path.stat().st_size <= LOOKED_THROUGH:
        return
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(HEAP)
        while start >= 0:
            place = start + 16
            if place > len(content):
                return
            end = min(start + struct.unpack_from("<Q", content, start + 8)[0], len(content))
            while place + 16 <= end:
                number, length = struct.unpack_from("<H6xQ", content, place)
                step = 16 + -(-length // 8) * 8 if number else length
                if step == 0:
                    raise StateshiftError(
                        f"{path} is damaged: a heap of texts at byte {start:,} ends nowhere. Copy it again."
                    )
                place += step
            start = content.find(HEAP, start + 1)
