"""Emitted populations on the disk, a file each: what is done stays done when an export is killed."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from stateshift.errors import InputProblems, StateshiftError
from stateshift.files import intact, read_json, written_beside

ABOUT = "about.json"
LEVEL = 1


class Parts:
    """A folder of populations, written once each.

    Parameters
    ----------
    folder
        Beside the output.
    about
        What all of them depend on: a folder made of something else is refused.

    Raises
    ------
    StateshiftError
        The folder holds parts of another export, can't be made, or is damaged.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]):
        self.folder = folder
        text = json.dumps(about, sort_keys=True, indent=1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateshiftError(f"{folder} can't be used: {error.strerror or error}.") from error
        if self.finished and (folder / ABOUT).exists():
            before, now = read_json(folder / ABOUT, f"Remove {folder} and export again."), json.loads(text)
            other = [key for key in {*before, *now} if before.get(key) != now.get(key)]
            if other:
                raise StateshiftError(
                    f"{folder} holds parts of an export with another {', '.join(sorted(other))}: finish that one with its "
                    "own settings, or remove the folder."
                )
        else:
            with written_beside(folder / ABOUT, overwrite=True) as part:
                part.write_text(text)

    @property
    def finished(self) -> int:
        """How many populations are written."""
        return len(list(self.folder.glob("*.npz.zst")))

    @contextlib.contextmanager
    def kept_on_errors(self) -> Iterator[None]:
        """An error says that finished populations are kept for the next time; without any, the folder is removed."""
        try:
            yield
        except Exception as error:
            if not self.finished:
                self.remove()
            elif isinstance(error, StateshiftError) and not isinstance(error, InputProblems):
                raise StateshiftError(
                    f"{error} {self.folder} keeps {self.finished:,} finished populations: the same command goes on there."
                ) from error
            raise

    def path(self, i: int) -> Path:
        """The file of the population i."""
        return self.folder / f"{i:06d}.npz.zst"

    def has(self, i: int) -> bool:
        """Whether it is written."""
        return self.path(i).exists()

    def write(self, i: int, X: csr_matrix) -> None:
        """Write the population i, whole or not at all."""
        import zstandard

        held = io.BytesIO()
        np.savez(held, data=X.data, indices=X.indices, indptr=X.indptr, shape=np.array(X.shape))
        with written_beside(self.path(i), overwrite=True) as part:
            part.write_bytes(zstandard.ZstdCompressor(level=LEVEL).compress(held.getbuffer()))

    def read(self, i: int) -> csr_matrix:
        """The population i."""
        import zstandard

        with intact(self.path(i), "Remove it and export again."):
            plain = zstandard.ZstdDecompressor().decompress(self.path(i).read_bytes())
            with np.load(io.BytesIO(plain), allow_pickle=False) as held:
                return csr_matrix((held["data"], held["indices"], held["indptr"]), shape=tuple(held["shape"]))

    def all(self, count: int) -> Iterator[tuple[int, csr_matrix]]:
        """All populations in order, each with the number of cells before it."""
        before = 0
        for i in range(count):
            X = self.read(i)
            yield before, X
            before += X.shape[0]

    def remove(self) -> None:
        """Take the folder away: the output holds everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
