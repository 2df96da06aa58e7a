"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stateshift.errors import StateshiftError, first_line, is_out_of_memory, some
from stateshift.leftovers import beside_of, name_leftovers

if TYPE_CHECKING:
    import pandas as pd

FULL = (
    "No space left",
    "File too large",
    "quota exceeded",
    "PytorchStreamWriter failed",
    "iostream error",
    "unexpected pos ",
)
"""What errors without a number say of a full disk; the last three are torch's, as it writes parts and closes a file."""


@contextlib.contextmanager
def written_beside(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Write to a neighbour of `path` that takes its name only when all went well.

    What killed processes left half written in its folder is named.

    Parameters
    ----------
    path
        The final name: a file, or a folder (make it inside the block).
    overwrite
        Whether an existing file may be replaced. A folder is never replaced.

    Yields
    ------
    Path
        The name to write to, in the same folder and with the same suffix.

    Raises
    ------
    StateshiftError
        `path` exists and `overwrite` is not set, also where another process made it meanwhile; it is a device or a pipe;
        or its folder can't be made or written to.
    """
    path = Path(path)
    refuse_output(path, overwrite and not path.is_dir())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateshiftError(f"{path.parent} can't be made: {error.strerror or error}.") from error
    name_leftovers(path.parent.resolve())
    beside = beside_of(path)
    try:
        yield beside
        if path.exists() and not overwrite:
            raise StateshiftError(f"{path} was made by another process meanwhile, which is kept: choose another name.")
        os.replace(beside, path)
    except StateshiftError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise StateshiftError(
                f"{path} could not be written: no room is left on the disk of {path.parent.resolve()}. "
                "Nothing half-written was left; make room or name another place."
            ) from error
        raise
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: str | Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock that one process at a time can have, on any machine that sees the file.

    The system forgets the lock of a process that dies. On a network file system it holds where that passes ``flock`` on, as
    NFS 4, Lustre (``-o flock``) and GPFS do.

    Parameters
    ----------
    path
        The lock's file; it stays.
    wait
        Wait for a process that has it.

    Yields
    ------
    bool
        Whether the lock is held: always, where it was waited for.
    """
    import fcntl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            # closing alone would leave it to a process that was forked meanwhile
            fcntl.flock(handle, fcntl.LOCK_UN)


def refuse_output(path: str | Path, overwrite: bool = False) -> None:
    """A StateshiftError where an output can't have its name: what takes long asks before it begins."""
    path = Path(path)
    if path.exists() and not path.is_dir() and not path.is_file():
        raise StateshiftError(f"{path} is a device or a pipe, which can't be replaced by a whole file: name a file.")
    if path.exists() and not overwrite:
        raise StateshiftError(f"{path} exists already: choose another name or pass --overwrite where offered.")
    refuse_unwritable(path)


def refuse_unwritable(path: str | Path) -> None:
    """A StateshiftError where nothing can be written at `path`: by its folder, or the nearest that is there, or its length."""
    path = Path(path)
    nearest = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
    if not nearest.is_dir():
        raise StateshiftError(f"{path} can't be written: {nearest} is no folder. Choose another place.")
    if not os.access(nearest, os.W_OK):
        raise StateshiftError(f"{path} can't be written: {nearest} is read-only to you. Choose another place.")
    longer = len(os.fsencode(beside_of(path).name)) - os.pathconf(nearest, "PC_NAME_MAX")
    if longer > 0:
        raise StateshiftError(f"{path} can't be written: shorten its name by {longer} letters.")


def new_folder(path: str | Path) -> Path:
    """Make an empty folder; a StateshiftError where something lies there already or it can't be made."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StateshiftError(f"{path} exists and is not empty: choose another folder with --output.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateshiftError(f"{path} can't be made: {error.strerror or error}.") from error
    return path


def reserve_room(path: str | Path, size: int) -> None:
    """Claim `size` bytes for a new file where the system can, so that a full disk shows before HDF5 writes.

    HDF5 takes the whole process down when a write fails; here it is still a harmless OSError.
    """
    with open(path, "wb") as handle:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle.fileno(), 0, size)


def h5ad_bytes(X: Any) -> int:
    """About the bytes of an uncompressed h5ad file of a CSR matrix and slim tables."""
    return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes + 100 * sum(X.shape) + 2**20


def refuse_parquet_without_pyarrow(path: str | Path) -> None:
    """Raise a StateshiftError where a path is a parquet table and pyarrow, which reads and writes those, is absent."""
    if Path(path).suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise StateshiftError(
            f"{path} is a parquet table, which needs pyarrow: install it with `pip install 'stateshift[structure]'`, or "
            "use another format."
        )


@contextlib.contextmanager
def plain_strings() -> Iterator[None]:
    """Let anndata write names as every reader knows them: pandas 3's own form is read by neither cell-load 0.10 nor older tools."""
    import anndata

    with anndata.settings.override(allow_write_nullable_strings=False):
        yield


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that a file could not grow.

    HDF5 and torch hide the errno in their own message, so the text is looked at too; torch says the same of a write that
    lacked memory.
    """
    if is_out_of_memory(error):
        return False
    seen: BaseException | None = error
    while seen is not None:
        said = str(seen)
        if getattr(seen, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if any(sign in said for sign in FULL):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextlib.contextmanager
def intact(path: str | Path, way_out: str) -> Iterator[None]:
    """One sentence for whatever fails while a file that may be damaged is read and taken apart.

    Parameters
    ----------
    path
        The file.
    way_out
        A sentence on what to do.

    Raises
    ------
    StateshiftError
        Reading failed; an error of ours, or a full disk, stays as it is.
    """
    try:
        yield
    except StateshiftError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise
        reason = first_line(error)
        raise StateshiftError(f"{path} is damaged: {reason}. {way_out}") from error


def read_json(path: str | Path, way_out: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    Parameters
    ----------
    path
        The file, in UTF-8.
    way_out
        A sentence on what to do with a damaged one.

    Raises
    ------
    StateshiftError
        It is missing or damaged, or holds something else.
    """
    with intact(path, way_out):
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__} in place of an object")
    return content


def yaml_text(path: str | Path) -> str:
    """A YAML file's text; a ValueError where it nests without end or refers to itself: ten lines could fill any memory."""
    import yaml

    text, depth = Path(path).read_text(encoding="utf-8"), 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > 100 or isinstance(event, yaml.AliasEvent):
            raise ValueError("it refers to parts of itself (`*name`), or nests too deep: write its values out")
    return text


def read_csv(path: str | Path, **options: Any) -> pd.DataFrame:
    """A text table in UTF-8 with a header, by pandas.

    Where lines have more fields than the header, pandas takes the first column for names of rows, and each value for
    one of the column before: such a table is refused.

    Parameters
    ----------
    path
        The file.
    options
        Of ``pandas.read_csv``.

    Raises
    ------
    StateshiftError
        It is no such table.
    """
    import pandas as pd

    if not Path(path).is_file():
        raise StateshiftError(f"{path}: there is no such file.")
    try:
        frame = pd.read_csv(path, encoding="utf-8-sig", **options)
    except (ValueError, OSError) as error:
        raise StateshiftError(f"{path} can't be read as a table: {first_line(error)}") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise StateshiftError(
            f"{path}: its lines have more fields than its header. Name every column there, and end no line with a separator."
        )
    return frame


def read_arrays(path: str | Path, texts: Iterable[str], way_out: str) -> dict[str, Any]:
    """The arrays of an ``.npz`` file of ours, nothing unpickled.

    Parameters
    ----------
    path
        The file.
    texts
        Names of the arrays that hold text; all others hold numbers.
    way_out
        A sentence on what to do with a damaged one.

    Raises
    ------
    StateshiftError
        It is missing or damaged, or an array is of another kind.
    """
    import numpy as np

    texts = set(texts)
    with intact(path, way_out), np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
        strange = [name for name, array in arrays.items() if array.dtype.kind not in ("U" if name in texts else "fiub")]
        if strange:
            raise ValueError(f"its `{strange[0]}` holds {arrays[strange[0]].dtype}")
    return arrays


def read_tensors(path: str | Path, mmap: bool = False) -> Any:
    """What `torch.save` wrote, every part of it as it was written and no pickled code executed.

    Tensors are real numbers that lie there, and ask for no gradient.

    Parameters
    ----------
    path
        The file.
    mmap
        Leave the tensors on disk until they are used.

    Raises
    ------
    Exception
        Of many kinds, for damage and for anything but tensors and plain values: the caller says what the file should be.
    """
    import torch

    if mmap and not zipfile.is_zipfile(path):
        raise ValueError("it is cut short, or no file that torch wrote")
    refuse_altered(path)
    with warnings.catch_warnings():
        # of a file that isn't torch's, which is told by the error that follows
        warnings.filterwarnings("ignore", "Detected pickle protocol")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    left, seen = [content], set()
    while left:
        part = left.pop()
        if isinstance(part, torch.Tensor):
            if part.layout != torch.strided or part.is_meta or part.is_quantized or part.is_complex():
                raise ValueError("it holds a tensor that is sparse, quantised, complex or without values")
            part.requires_grad_(False)
        elif isinstance(part, dict | list | tuple) and id(part) not in seen:
            seen.add(id(part))
            left += part.values() if isinstance(part, dict) else part
    return content


def refuse_broken(weights: Mapping[str, Any], path: str | Path) -> None:
    """Raise a StateshiftError where weights hold NaN or infinity, which would be silent in what they predict."""
    broken = sorted(name for name, weight in weights.items() if not bool(weight.isfinite().all()))
    if broken:
        raise StateshiftError(f"{path} holds NaN or infinity in {some(broken, 3)}: copy it anew, or train again.")


def refuse_altered(path: str | Path) -> None:
    """Raise a ``BadZipFile`` where a part of a zip file doesn't match its checksum: torch doesn't compare them."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = [part for part in archive.infolist() if part.compress_type == zipfile.ZIP_STORED]
        if not any(part.CRC for part in parts):  # torch.serialization.set_crc32_options(False)
            return
        for part in parts:
            with archive.open(part) as stream:
                while stream.read(2**22):
                    pass


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
