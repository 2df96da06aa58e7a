"""Embeddings on disk: an HDF5 file that is laid out whole at the start and then filled in place.

All lengths are known before the first protein is embedded, so the file's structure is written once, its datasets
contiguous and with their room claimed. From then on only values are written, at places that are known, and HDF5 is not
involved: a kill at any moment leaves a file that opens. A vector counts as done only by a checksum over its settings,
sequence and bytes, written behind it; after a power cut, when the disk may have kept some writes and lost others, what
does not match its checksum is embedded anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stateshift.errors import StateshiftError, some, suggestion
from stateshift.files import intact
from stateshift.hdf5 import open_hdf5
from stateshift.proteins.embedding.embed import LEVELS

if TYPE_CHECKING:
    import h5py

FORMAT = "stateshift protein embeddings 1"
PART = ".part"
WAY_OUT = "Copy it again, or embed anew."


class EmbeddingStore:
    """A file of embeddings, read lazily: an id's rows come from the disk when they are asked for.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    ids
        In the order of the FASTA.
    settings
        Model, layer, pooling, windows and precision that it was made with.
    width
        D.
    levels
        ``residue``, ``protein`` or both.

    Raises
    ------
    StateshiftError
        The file is missing, cut short, or no store of ours.

    Examples
    --------
    >>> with EmbeddingStore("x.h5") as store:  # doctest: +SKIP
    ...     rows, vector = store.residue("WT"), store.protein("WT")  # (L, D), (D,)
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with intact(self.path, WAY_OUT):
            self._file = opened(self.path)
            self.settings: dict[str, Any] = json.loads(self._file.attrs["settings"])
            self.model: str = self._file.attrs["model"]
            self.width = int(self._file.attrs["width"])
            self.levels = tuple(level for level in LEVELS if level in self._file)
            self.ids: list[str] = self._file["id"].asstr()[:].tolist()
            self._row = dict(zip(self.ids, self._file["sequence_of"][:].tolist()))
            self._start = self._file["start"][:]
            self._digest = digest_of(self.settings)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, name: object) -> bool:
        return name in self._row

    def __enter__(self) -> EmbeddingStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def sequence(self, name: str) -> str:
        """The sequence that an id's embedding was made of."""
        number = self._number(name)
        with intact(self.path, WAY_OUT):
            return self._file["sequence"].asstr()[number]

    def length(self, name: str) -> int:
        """Residues of an id."""
        return -int(np.subtract(*self._span(name)))

    def residue(self, name: str) -> np.ndarray:
        """Rows (L, D) of an id, as stored: float32, or float16."""
        return self._values("residue", slice(*self._span(name)), self._number(name), name)

    def protein(self, name: str) -> np.ndarray:
        """The vector (D,) float32 of an id."""
        number = self._number(name)
        return self._values("protein", number, number, name)

    def proteins(self) -> np.ndarray:
        """The vectors (P, D) float32 of all ids, in their order."""
        vectors = [self.protein(name) for name in self.ids]
        return np.stack(vectors) if vectors else np.zeros((0, self.width), dtype=np.float32)

    def _span(self, name: str) -> tuple[int, int]:
        """The first row of an id and the one behind its last."""
        number = self._number(name)
        with intact(self.path, WAY_OUT):
            return int(self._start[number]), int(self._start[number + 1])

    def _number(self, name: str) -> int:
        if name not in self._row:
            raise StateshiftError(f"{self.path} holds no `{name}`{suggestion(name, self.ids)}.")
        return self._row[name]

    def _values(self, level: str, where: int | slice, number: int, name: str) -> np.ndarray:
        if level not in self.levels:
            raise StateshiftError(f"{self.path} holds the {self.levels[0]} level alone: embed with --level both.")
        with intact(self.path, WAY_OUT):
            values = self._file[level][where]
            noted = int(self._file[f"{level}_check"][number])
            sequence = self._file["sequence"].asstr()[number]
        if noted == 0:
            raise StateshiftError(f"{self.path} is unfinished and lacks `{name}`: the command that began it goes on.")
        if noted != checksum(self._digest, sequence, values):
            raise StateshiftError(f"{self.path} is damaged: `{name}` doesn't match its checksum. Embed it anew.")
        return values


def opened(path: Path) -> h5py.File:
    """The HDF5 file of a store, to read; one that is cut short or something else is told in a sentence."""
    if not path.is_file():
        raise StateshiftError(f"{path}: there is no such file of embeddings.")
    try:
        file = open_hdf5(path, locking=False)
    except OSError as error:
        if due_size(error) is not None:
            raise cut_short(path, error) from error
        raise StateshiftError(f"{path} is no store of embeddings: HDF5 can't open it.") from error
    wrote, parts = file.attrs.get("format"), set(file)
    if wrote != FORMAT:
        file.close()
        raise StateshiftError(f"{path} is no store that `stateshift protein embed` wrote.")
    lacking = {"id", "sequence", "sequence_of", "start"} - parts
    if lacking:
        file.close()
        raise StateshiftError(f"{path} is damaged: it lacks {some(sorted(lacking))}. Embed it anew.")
    return file


def cut_short(path: Path, error: OSError) -> StateshiftError:
    """What to say of a file that is shorter than HDF5 says it should be."""
    return StateshiftError(
        f"{path} is cut short: {path.stat().st_size:,} of {due_size(error):,} bytes. Copy it again; or, if "
        f"`stateshift protein embed` wrote it, name it {path.name.removesuffix(PART)}{PART} and give the command that "
        "made it: what is whole is kept."
    )


def due_size(error: OSError) -> int | None:
    """Bytes that a file should have, where HDF5 says that it is shorter."""
    told = re.search(r"truncated file.*stored_eof = (\d+)", str(error))
    return int(told[1]) if told else None


def digest_of(settings: Mapping[str, Any]) -> bytes:
    """A digest of all that decides the values."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).digest()


def checksum(digest: bytes, sequence: str, values: np.ndarray) -> int:
    """64 bits over settings, sequence and values; never 0, which says that there are none yet."""
    said = hashlib.blake2b(digest + sequence.encode() + b"\n", digest_size=8)
    said.update(values.tobytes())
    return int.from_bytes(said.digest(), "little") or 1
