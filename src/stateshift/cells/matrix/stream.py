"""An h5ad file written block after block of cells, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from stateshift.files import plain_strings

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

CHUNK = 2**18


class CellStream:
    """An h5ad file that takes its cells in blocks: obs, var and uns first, then CSR counts.

    The layout is AnnData's (https://anndata.readthedocs.io/en/stable/fileformat-prose.html): ``X`` holds
    float32 values and int32 column numbers in chunks of 1 MiB, and row ends as int64 only where there are
    more values than int32 counts. Nothing is compressed: gzip at its fastest makes counts five times smaller, and
    takes two to three times as long to write. Column numbers are stored byte by byte (HDF5's shuffle), which whatever
    compresses the file does three times as fast.

    Parameters
    ----------
    path
        The file to write; one that exists is replaced (use `stateshift.files.written_beside`).
    obs, var
        The tables.
    uns
        Whatever ``anndata.io.write_elem`` writes.

    Examples
    --------
    >>> with CellStream("cells.h5ad", obs, var, {}) as stream:  # doctest: +SKIP
    ...     for block in blocks:
    ...         stream.append(block)
    """

    def __init__(self, path: str | Path, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any]):
        import h5py
        from anndata.io import write_elem

        self.shape = (len(obs), len(var))
        self._file = h5py.File(path, "w", rdcc_nbytes=2**24)
        self._file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        with plain_strings():
            for name, value in (("obs", obs), ("var", var), ("uns", uns)):
                write_elem(self._file, name, value)
        for name in ("layers", "obsm", "obsp", "varm", "varp"):
            write_elem(self._file, name, {})
        self._X = self._file.create_group("X")
        self._X.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": self.shape})
        for name, dtype in (("data", np.float32), ("indices", np.int32)):
            self._X.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,), shuffle=name == "indices")
        self._row_sizes: list[np.ndarray] = []

    def __enter__(self) -> CellStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write_row_ends()
        finally:
            self._file.close()

    def append(self, block: csr_matrix) -> None:
        """Write the next cells, CSR (n, G)."""
        for name in ("data", "indices"):
            values, new = self._X[name], getattr(block, name)
            start = len(values)
            values.resize((start + len(new),))
            values[start:] = new
        self._row_sizes.append(np.diff(block.indptr))

    def _write_row_ends(self) -> None:
        sizes = np.concatenate([np.empty(0, int), *self._row_sizes])
        if len(sizes) != self.shape[0]:
            raise RuntimeError(f"{len(sizes):,} cells were appended to a stream of {self.shape[0]:,}")
        self._X["indptr"] = row_ends(sizes)


def row_ends(sizes: np.ndarray) -> np.ndarray:
    """CSR's indptr (n + 1,) of row sizes (n,), int32 where that counts far enough, int64 otherwise.

    Examples
    --------
    >>> row_ends(np.array([2, 0, 3]))
    array([0, 2, 2, 5], dtype=int32)
    """
    ends = np.concatenate([[0], sizes]).cumsum(dtype=np.int64)
    return ends.astype(np.int32) if ends[-1] <= np.iinfo(np.int32).max else ends
