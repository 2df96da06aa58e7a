"""Files of arrays told apart by their content, each opened without running what it holds."""

from __future__ import annotations

import gzip
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.files import refuse_altered
from stateshift.hdf5 import open_hdf5
from stateshift.proteins.explore.stored.pickles import read_pickle
from stateshift.proteins.store.reader import cut_short, due_size

TORCH_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
"""What torch.save wrote first before it wrote zip files."""


def kind_of(path: Path) -> str:
    """``hdf5``, ``npz``, ``torch``, ``pickle``, ``fasta``, ``gzip`` or ``unknown``, from a file's first bytes."""
    with path.open("rb") as handle:
        start = handle.read(64)
    if start.startswith(b"\x89HDF\r\n"):
        return "hdf5"
    if start.startswith(b"PK"):
        return _kind_of_zip(path)
    if start.startswith(b"\x1f\x8b"):
        return _kind_of_gzip(path)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b">"):
        return "fasta"
    if start.startswith(b"\x80"):
        return "torch" if TORCH_MAGIC in start or path.suffix in (".pt", ".pth", ".bin") else "pickle"
    return "pickle" if path.suffix in (".pkl", ".pickle", ".p") else "unknown"


def _kind_of_gzip(path: Path) -> str:
    """A FASTA may be compressed, and one that is damaged is told so by its reader; anything else has to be unpacked."""
    try:
        with gzip.open(path, "rb") as handle:
            start = handle.read(64)
    except (OSError, EOFError, zlib.error):
        return "fasta"
    return "fasta" if not start or start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b">") else "gzip"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:  # UnicodeDecodeError of names among them
        raise StateshiftError(
            f"{path} is damaged or cut short: its table of contents can't be read ({error})."
        ) from error
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "unknown"


def _from_torch(path: Path) -> Any:
    import torch

    try:
        refuse_altered(path)
        # of a path, torch would look at the name
        with path.open("rb") as handle, warnings.catch_warnings(action="ignore"):
            return torch.load(handle, map_location="cpu", weights_only=True)
    except Exception as error:
        raise StateshiftError(
            f"{path} can't be read safely: it is damaged, or holds more than tensors and plain values, of which nothing "
            "was run."
        ) from error


def _from_npz(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                content[name] = archive[name]
    except Exception as error:
        if "Object arrays" in str(error):
            raise StateshiftError(
                f"{path}: array `{name}` holds Python objects, which are pickled code, and was not opened: save plain "
                "arrays, as in np.savez(file, **{id: array})."
            ) from error
        raise StateshiftError(f"{path} is damaged or cut short: {' '.join(str(error).split())[:120]}.") from error
    if content and all("/" in name for name in content):
        nested: dict[str, dict[str, Any]] = {}
        for name, array in content.items():
            id, _, key = name.rpartition("/")
            nested.setdefault(id, {})[key] = array
        return nested
    return content


def _from_hdf5(path: Path) -> Mapping[str, Any]:
    try:
        return open_hdf5(path, locking=False)
    except StateshiftError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, OSError) and due_size(error) is not None:
            raise cut_short(path, error) from error
        raise StateshiftError(f"{path} can't be opened as HDF5, it is damaged: copy it again.") from error


READERS = {"pickle": read_pickle, "torch": _from_torch, "npz": _from_npz, "hdf5": _from_hdf5}
