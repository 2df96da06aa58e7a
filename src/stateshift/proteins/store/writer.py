"""A store of embeddings being filled, and gone on with after a kill or a power cut."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stateshift import __version__
from stateshift.errors import StateshiftError
from stateshift.files import is_disk_full, written_beside
from stateshift.progress import track
from stateshift.proteins.embedding.embed import LEVELS
from stateshift.proteins.store.reader import FORMAT, checksum, digest_of, due_size, opened

logger = logging.getLogger(__name__)


class StoreWriter:
    """A store being filled. What an earlier run left at `path`, is whole and still wanted, is kept.

    Parameters
    ----------
    path
        The unfinished file.
    sequences
        Id → sequence. Equal sequences are embedded and stored once.
    settings
        All that decides the values, as JSON has it; a file with others is not gone on with.
    model
        The model's name.
    width
        D.
    levels
        ``residue``, ``protein`` or both.
    half
        Whether residue rows are stored as float16; protein vectors are float32.
    alone
        Whether this is the only process that writes; two commands on one file are kept apart.

    Attributes
    ----------
    texts
        The distinct sequences, by number.
    done
        For each of them, whether it is embedded.

    Raises
    ------
    StateshiftError
        `path` holds embeddings of other settings, is no store, or is being written by another process; or the
        disk has no room.
    """

    def __init__(
        self,
        path: str | Path,
        sequences: Mapping[str, str],
        settings: Mapping[str, Any],
        *,
        model: str,
        width: int,
        levels: Sequence[str] = ("protein",),
        half: bool = False,
        alone: bool = True,
    ):
        self.path, self.alone = Path(path), alone
        self.texts = list(dict.fromkeys(sequences.values()))
        self._levels, self._digest = tuple(levels), digest_of(settings)
        dtypes = {"residue": "<f2" if half else "<f4", "protein": "<f4"}
        self._dtypes = {level: np.dtype(dtypes[level]) for level in levels}
        attributes = {"format": FORMAT, "stateshift": __version__, "model": model, "width": width}
        attributes["settings"] = json.dumps(settings, sort_keys=True)
        if self.path.exists():
            with open(self.path, "rb") as handle:
                _lock(handle, self.path, alone)
                try:
                    self._go_on(sequences, settings, attributes)
                except (KeyError, OSError, RuntimeError) as error:
                    if is_disk_full(error):
                        raise
                    raise StateshiftError(
                        f"{self.path} lost more than vectors, and where they lie can't be told: delete it to begin anew."
                    ) from error
        else:
            with written_beside(self.path) as beside:
                _create(beside, sequences, attributes, self._dtypes)
        with opened(self.path) as file:
            self._places = {name: file[name].id.get_offset() for name in self._names()}
            self._start = file["start"][:]
            self.done = _whole(file, self._levels, self._digest)
        self._handle = open(self.path, "r+b", buffering=0)  # noqa: SIM115
        _lock(self._handle, self.path, alone)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, as it is."""
        self._handle.close()

    def add(self, number: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a sequence's values, level → (L, D) or (D,); each counts once its checksum is written behind it."""
        for level in self._levels:
            with np.errstate(over="ignore"):
                array = np.ascontiguousarray(values[level], dtype=self._dtypes[level])
            if not np.isfinite(array).all():
                raise StateshiftError(
                    f"Some values of `{self.texts[number][:20]}…` are infinite or no numbers in {array.dtype}: "
                    "leave out --half, or look at the model."
                )
            row = int(self._start[number]) if level == "residue" else number
            self._put(self._places[level] + row * array.shape[-1] * array.itemsize, array.tobytes())
            noted = checksum(self._digest, self.texts[number], array)
            self._put(self._places[f"{level}_check"] + 8 * number, noted.to_bytes(8, "little"))
        self.done[number] = True

    def finish(self, output: str | Path) -> None:
        """Give the store its final name, once all of it is there and on the disk for sure."""
        if not self.done.all():
            raise StateshiftError(
                f"{self.path} lacks {(~self.done).sum()} sequences: the command that began it goes on."
            )
        os.fsync(self._handle.fileno())
        self.close()
        os.replace(self.path, output)

    def _names(self) -> list[str]:
        return [name for level in self._levels for name in (level, f"{level}_check")]

    def _put(self, place: int, content: bytes) -> None:
        self._handle.seek(place)
        self._handle.write(content)

    def _go_on(self, sequences: Mapping[str, str], settings: Mapping[str, Any], attributes: dict[str, Any]) -> None:
        """Make the file that is there fit; what it holds of other sequences is left out."""
        lengthen(self.path)
        wrong = differences(self.path, settings, self._dtypes)
        if wrong:
            raise StateshiftError(
                f"{self.path} was begun with {'; '.join(wrong)}: say the same to go on, or delete it to begin anew."
            )
        with opened(self.path) as file:
            same = (
                list(sequences) == file["id"].asstr()[:].tolist() and self.texts == file["sequence"].asstr()[:].tolist()
            )
        if same:
            return
        logger.info("%s was begun for other sequences: what still serves is kept.", self.path)
        with written_beside(self.path, overwrite=True) as beside:
            _create(beside, sequences, attributes, self._dtypes)
            options = {"model": attributes["model"], "width": attributes["width"], "levels": self._levels}
            half = self._dtypes.get("residue") == np.float16
            with StoreWriter(beside, sequences, settings, **options, half=half) as new:
                _copy(self.path, new, self._levels, self._digest)


def _lock(handle: Any, path: Path, alone: bool) -> None:
    """Keep other commands off; the system forgets the lock of a process that dies."""
    if not alone:
        return
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateshiftError(f"{path} is being written by another process: wait for it.") from error


def discard_other(path: str | Path, settings: Mapping[str, Any]) -> None:
    """Remove an unfinished store of other settings; one that was cut short is given its size again and stays.

    Raises
    ------
    StateshiftError
        It is no store, or another process is writing it.
    """
    path = Path(path)
    if not path.exists():
        return
    with open(path, "rb") as handle:
        _lock(handle, path, alone=True)
        lengthen(path)
        with opened(path) as file:
            if json.loads(file.attrs["settings"]) == settings:
                return
        logger.info("%s holds vectors of another model or other settings and is begun anew.", path)
        path.unlink()


def differences(path: Path, settings: Mapping[str, Any], dtypes: Mapping[str, np.dtype]) -> list[str]:
    """How a store was made otherwise than it is wanted, a clause each."""
    with opened(path) as file:
        theirs = json.loads(file.attrs["settings"])
        kept = {level: file[level].dtype for level in LEVELS if level in file}
    wrong = [
        f"{key} {theirs.get(key)} instead of {settings.get(key)}"
        for key in sorted(set(theirs) | set(settings))
        if theirs.get(key) != settings.get(key)
    ]
    if kept != dict(dtypes):
        told = [" and ".join(f"{level} ({dtype})" for level, dtype in have.items()) for have in (kept, dtypes)]
        wrong.append(f"levels {told[0]} instead of {told[1]}")
    return wrong


def _create(
    path: Path, sequences: Mapping[str, str], attributes: Mapping[str, Any], dtypes: Mapping[str, np.dtype]
) -> None:
    """Write the structure of a store and claim its room; all values are still to come."""
    import h5py

    texts = list(dict.fromkeys(sequences.values()))
    number_of = {text: number for number, text in enumerate(texts)}
    start = np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)])
    rows = {"residue": int(start[-1]), "protein": len(texts)}
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        file.create_dataset("id", data=list(sequences), dtype=h5py.string_dtype())
        file.create_dataset("sequence_of", data=np.array([number_of[s] for s in sequences.values()], dtype=np.int64))
        file.create_dataset("sequence", data=texts, dtype=h5py.string_dtype())
        file.create_dataset("start", data=start)
        for level in dtypes:
            file.create_dataset(f"{level}_check", data=np.zeros(len(texts), dtype="<u8"))
        for level in sorted(dtypes):
            _claim(file, level, (rows[level], attributes["width"]), dtypes[level])
    with open(path, "r+b") as handle:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
        os.fsync(handle.fileno())


def _claim(file: Any, name: str, shape: tuple[int, int], dtype: np.dtype) -> None:
    """A contiguous dataset with its place in the file, which HDF5 neither fills nor moves."""
    import h5py

    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), layout)


def lengthen(path: Path) -> None:
    """Give a file that lost its end its full size again; checksums tell what is left of it."""
    import h5py

    try:
        h5py.File(path, "r", locking=False).close()
    except OSError as error:
        due = due_size(error)
        if due is not None:
            logger.info("%s was cut short: what is whole of it is sought and kept.", path)
            os.truncate(path, due)


def _whole(file: Any, levels: Sequence[str], digest: bytes) -> np.ndarray:
    """Which sequences of a store are embedded and match their checksums at every level."""
    noted = {level: file[f"{level}_check"][:] for level in levels}
    done = np.all([checks != 0 for checks in noted.values()], axis=0)
    texts, start = file["sequence"].asstr()[:], file["start"][:]
    for number in track(np.flatnonzero(done), "Checking what is there", total=int(done.sum())):
        for level in levels:
            where = slice(start[number], start[number + 1]) if level == "residue" else number
            done[number] &= checksum(digest, texts[number], file[level][where]) == int(noted[level][number])
    return done


def _copy(path: Path, new: StoreWriter, levels: Sequence[str], digest: bytes) -> None:
    """Write what a store holds of another's sequences into that one."""
    number_of = {text: number for number, text in enumerate(new.texts)}
    with opened(path) as file:
        done, texts, start = _whole(file, levels, digest), file["sequence"].asstr()[:], file["start"][:]
        for number in np.flatnonzero(done):
            if texts[number] in number_of:
                where = {"residue": slice(start[number], start[number + 1]), "protein": number}
                new.add(number_of[texts[number]], {level: file[level][where[level]] for level in levels})
