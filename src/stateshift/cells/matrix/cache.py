"""Matrices converted once to files that training reads: keyed by content, built whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.catalogue import cache_folder
from stateshift.cells.matrix.expression import DiskPart
from stateshift.cells.matrix.filling import Allocate
from stateshift.errors import StateshiftError
from stateshift.files import locked, sha256, written_beside

logger = logging.getLogger(__name__)

FORMAT = 1
INDEX = "index.json"
NO_RECORD = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What a record that was damaged ends in; it is written anew."""


def default_cache() -> Path:
    """Where converted matrices go unless a command names another place."""
    return cache_folder() / "cells"


def content_of(path: Path, cache: Path) -> tuple[str, list]:
    """SHA-256 of a file's or zarr store's content, and the stamp that it had.

    It is remembered in the cache beside size, times and inode, and taken anew when any of these has
    changed: a file that was changed after it was cached is seen.
    """
    stamp = file_stamp(path)
    note = cache / "sources" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, *NO_RECORD):
        known = json.loads(note.read_text())
        if known["stamp"] == stamp:
            return known["sha256"], stamp
        logger.info("%s has changed since it was cached: it is read anew", path)
    content = checksum(path)
    if file_stamp(path) != stamp:
        raise StateshiftError(f"{path} changed while it was read: run again when it is complete.")
    with written_beside(note, overwrite=True) as part:
        part.write_text(json.dumps({"path": str(path.resolve()), "stamp": stamp, "sha256": content}, indent=1))
    return content, stamp


def file_stamp(path: Path) -> list[list[int | str]]:
    """What changes when a file is written: name, size, times and inode, of each file of a zarr store."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [(f, f.stat()) for f in files]
    return [
        [str(f.relative_to(path)) if f != path else "", s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino]
        for f, s in stats
    ]


def cached_part(
    cache: Path,
    source: Path,
    key: dict[str, Any],
    build: Callable[[Allocate, Callable[[], None]], tuple[dict[str, np.ndarray], dict[str, Any]]],
    n_bytes: int,
) -> tuple[DiskPart, dict[str, Any]]:
    """A matrix from the cache, converted first where it isn't there.

    Parameters
    ----------
    cache
        The cache's folder.
    source
        The file or store that the matrix comes from.
    key
        What else the arrays depend on; with the source's content it names the entry.
    build
        Fills arrays that it allocates, and calls its second argument after each block; returns the arrays
        (those shorter than allocated are cut) and facts to keep, ``n_genes`` among them.
    n_bytes
        Upper bound of the arrays' size, for which there has to be room.

    Raises
    ------
    StateshiftError
        The source changed while it was read, or the disk has no room.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateshiftError(
            f"{cache} can't be made: {error.strerror or error}. Name another place: --cache DIR."
        ) from error
    digest, stamp = content_of(source, cache)
    content = {"format": FORMAT, "content": digest, **key}
    name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    folder = cache / name
    with locked(cache / f"{name}.lock"):
        index = _index(folder)
        if index is None:
            _build(folder, source, stamp, build, n_bytes)
            index = _index(folder)
            if index is None:
                raise StateshiftError(f"{folder} was written and can't be read: is {cache} on a sound disk?")
            logger.info("%s: converted to %s", source, folder)
    return _part(folder, index), index["facts"]


def _build(folder: Path, source: Path, stamp: list, build: Callable, n_bytes: int) -> None:
    unfinished = folder.with_name(f"{folder.name}.part")
    for stale in (unfinished, folder):
        shutil.rmtree(stale, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < n_bytes:
        raise StateshiftError(
            f"{folder.parent} has {free / 1e9:.1f} GB free, and {source} needs up to {n_bytes / 1e9:.1f} GB there: make "
            "room, or name another place with --cache DIR."
        )
    unfinished.mkdir()
    maps: list[mmap.mmap] = []

    def allocate(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        array, mapped = _allocate(unfinished / name, shape, dtype)
        maps.append(mapped)
        return array

    try:
        arrays, facts = build(allocate, lambda: _give_back(maps))
        if file_stamp(source) != stamp:
            raise StateshiftError(f"{source} changed while it was read: run again when it is complete.")
        for mapped in maps:
            mapped.flush()
        described = {}
        for name, array in arrays.items():
            os.truncate(unfinished / name, array.nbytes)
            described[name] = {"shape": array.shape, "dtype": array.dtype.name}
        (unfinished / INDEX).write_text(json.dumps({"arrays": described, "facts": facts}))
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _allocate(path: Path, shape: tuple[int, ...], dtype: type) -> tuple[np.ndarray, mmap.mmap]:
    size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    with open(path, "w+b") as handle:
        # writing to a mapped file that the disk has no room for would kill the process
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle.fileno(), 0, size)
        else:
            handle.truncate(size)
        mapped = mmap.mmap(handle.fileno(), size)
    return np.frombuffer(mapped, dtype, count=int(np.prod(shape))).reshape(shape), mapped


def _give_back(maps: list[mmap.mmap]) -> None:
    """Let the system take the pages of mapped files: what was written to them stays written."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for mapped in maps:
            mapped.madvise(mmap.MADV_DONTNEED)


def _index(folder: Path) -> dict[str, Any] | None:
    """What an entry holds; None where it is absent or not whole."""
    try:
        index = json.loads((folder / INDEX).read_text())
        for name, array in index["arrays"].items():
            if (folder / name).stat().st_size < int(np.prod(array["shape"])) * np.dtype(array["dtype"]).itemsize:
                return None
    except (OSError, *NO_RECORD):
        return None
    return index


def _part(folder: Path, index: dict[str, Any]) -> DiskPart:
    arrays: dict[str, Any] = {name: folder / name for name in index["arrays"]}
    if "indptr" in arrays:
        arrays["indptr"] = np.fromfile(folder / "indptr", np.int64, count=index["arrays"]["indptr"]["shape"][0])
        n_cells = len(arrays["indptr"]) - 1
    else:
        n_cells = index["arrays"]["dense"]["shape"][0]
    return DiskPart((n_cells, index["facts"]["n_genes"]), **arrays)


def checksum(path: Path) -> str:
    """The SHA-256 of a file, or of all files of a zarr store."""
    if not path.is_dir():
        return sha256(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()
