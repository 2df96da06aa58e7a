"""Vectors kept while a long embedding runs, so that a killed run can go on where it stopped."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np

from stateshift.errors import StateshiftError

logger = logging.getLogger(__name__)


class VectorJournal:
    """An append-only file of vectors: one model, one record a sequence, plain bytes and no pickle.

    The file is a line of text (the model's SHA-256 and D) and then records of 32 bytes, the sequence's
    SHA-256, and D little-endian float32. A record cut short by a kill is dropped on opening.

    Parameters
    ----------
    path
        The journal; it goes on where it holds the same model's vectors and starts anew otherwise.
    model_sha256, width
        The model whose vectors it keeps.
    """

    def __init__(self, path: str | Path, model_sha256: str, width: int):
        self.path = Path(path)
        self._header = f"stateshift vectors {model_sha256} {width}\n".encode()
        self._record = np.dtype([("key", "V32"), ("vector", "<f4", (width,))])
        self._vectors = self._opened()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, sequence: str) -> np.ndarray | None:
        """The vector (D,) kept for a sequence, or None."""
        return self._vectors.get(_key(sequence))

    def add(self, sequence: str, vector: np.ndarray) -> None:
        """Keep a vector (D,); it is on its way to the disk when this returns."""
        vector = np.asarray(vector, dtype="<f4")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as handle:
                header = b"" if handle.tell() else self._header
                handle.write(header + _key(sequence) + vector.tobytes())
        except OSError as error:
            raise StateshiftError(f"{self.path} can't be written: {error.strerror or error}.") from error
        self._vectors[_key(sequence)] = vector

    def remove(self) -> None:
        """Delete the file: the work it kept is done."""
        self.path.unlink(missing_ok=True)

    def _opened(self) -> dict[bytes, np.ndarray]:
        """What the file holds for this model; the file is left ready to append to."""
        if not self.path.is_file():
            return {}
        try:
            content = self.path.read_bytes()
            if not content.startswith(self._header):
                logger.info("%s holds no vectors of this model and is begun anew.", self.path)
                self.path.unlink()
                return {}
            count = (len(content) - len(self._header)) // self._record.itemsize
            records = np.frombuffer(content, self._record, count, offset=len(self._header))
            with self.path.open("r+b") as handle:
                handle.truncate(len(self._header) + count * self._record.itemsize)
        except OSError as error:
            raise StateshiftError(f"{self.path} can't be taken up: {error.strerror or error}.") from error
        return {bytes(record["key"]): record["vector"].copy() for record in records}


def _key(sequence: str) -> bytes:
    return hashlib.sha256(sequence.encode()).digest()
