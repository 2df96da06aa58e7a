"""Cells × genes as training reads them: dense or CSR, in memory or from the files of a cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, issparse, vstack

ROWS_AT_ONCE = 2048
LIMIT_OF_INT32 = 2**31 - 1


@dataclass
class Part:
    """Rows that lie together in memory: an array (n, G), or the three arrays of a CSR matrix.

    Parameters
    ----------
    shape
        (n, G).
    dense
        (n, G) float32; None for CSR.
    data, indices, indptr
        Of the CSR matrix: float32, int32 and int64 (n + 1,).
    """

    shape: tuple[int, int]
    dense: np.ndarray | None = None
    data: np.ndarray | None = None
    indices: np.ndarray | None = None
    indptr: np.ndarray | None = None
    _blocks: list[csr_matrix] = field(default_factory=list, repr=False)
    _starts: np.ndarray = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.dense is not None:
            return
        # scipy copies the indices where indptr needs 64 bits: blocks whose values are counted in 32 stay views
        start, starts = 0, [0]
        while start < self.shape[0]:
            end = int(np.searchsorted(self.indptr, self.indptr[start] + LIMIT_OF_INT32, side="right")) - 1
            end = min(max(end, start + 1), self.shape[0])
            first, last = self.indptr[start], self.indptr[end]
            block = csr_matrix((end - start, self.shape[1]), dtype=np.float32)
            block.indptr = (self.indptr[start : end + 1] - first).astype(np.int32)
            block.data, block.indices = self.data[first:last], self.indices[first:last]
            self._blocks.append(block)
            starts.append(end)
            start = end
        self._starts = np.array(starts)

    @property
    def is_dense(self) -> bool:
        """Whether it is no CSR matrix."""
        return self.dense is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self.dense, self.data, self.indices, self.indptr)
        return sum(a.nbytes for a in arrays if a is not None)

    def array(self, rows: np.ndarray) -> np.ndarray:
        """Rows of a dense part, (k, G)."""
        out = np.empty((len(rows), self.shape[1]), np.float32)
        # clipping, not needed, spares numpy a buffered copy
        return np.take(self.dense, rows, axis=0, out=out, mode="clip")

    def csr(self, rows: np.ndarray) -> csr_matrix:
        """Rows as a CSR matrix of their own."""
        if self.is_dense:
            return csr_matrix(self.dense[rows])
        if len(self._blocks) == 1:
            return self._blocks[0][rows]
        of_block = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(of_block, kind="stable")
        pieces = [self._blocks[b][rows[of_block == b] - self._starts[b]] for b in np.unique(of_block)]
        back = np.empty(len(rows), int)
        back[order] = np.arange(len(rows))
        return vstack(pieces, format="csr")[back]


@dataclass
class DiskPart:
    """Rows in the files of a cache, read as they are asked for; nothing but ``indptr`` stays in memory.

    Reads, not a memory map: where the system keeps files in large pages, a map makes megabytes resident for each
    row that is touched.

    Parameters
    ----------
    shape
        (n, G).
    dense
        A file of n · G float32; None for CSR.
    data, indices
        Files of float32 and int32.
    indptr
        (n + 1,) int64.
    """

    shape: tuple[int, int]
    dense: Path | None = None
    data: Path | None = None
    indices: Path | None = None
    indptr: np.ndarray | None = None

    @property
    def is_dense(self) -> bool:
        """Whether it is no CSR matrix."""
        return self.dense is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the files."""
        n_values = self.shape[0] * self.shape[1] if self.is_dense else int(self.indptr[-1])
        return n_values * 4 if self.is_dense else n_values * 8 + self.indptr.nbytes

    def array(self, rows: np.ndarray) -> np.ndarray:
        """Rows of a dense part, (k, G)."""
        width = self.shape[1]
        return _read_runs(self.dense, rows * width, np.full(len(rows), width), np.float32).reshape(len(rows), width)

    def csr(self, rows: np.ndarray) -> csr_matrix:
        """Rows as a CSR matrix of their own."""
        if self.is_dense:
            return csr_matrix(self.array(rows))
        starts = self.indptr[rows]
        lengths = self.indptr[rows + 1] - starts
        data = _read_runs(self.data, starts, lengths, np.float32)
        indices = _read_runs(self.indices, starts, lengths, np.int32)
        return csr_matrix((data, indices, np.concatenate([[0], np.cumsum(lengths)])), (len(rows), self.shape[1]))


def _read_runs(path: Path, starts: np.ndarray, lengths: np.ndarray, dtype: type) -> np.ndarray:
    """Stretches of a file of numbers, one after another; those that touch are read at once."""
    out = np.empty(int(lengths.sum()), dtype)
    if not len(out):
        return out
    buffer, size = memoryview(out).cast("B"), out.itemsize
    begins = np.concatenate([[True], starts[1:] != starts[:-1] + lengths[:-1]])
    first = np.flatnonzero(begins)
    run_lengths = np.add.reduceat(lengths, first) * size
    places = np.concatenate([[0], np.cumsum(run_lengths)])
    with open(path, "rb", buffering=0) as handle:
        for offset, place, length in zip((starts[first] * size).tolist(), places.tolist(), run_lengths.tolist()):
            done = 0
            while done < length:
                got = os.preadv(handle.fileno(), [buffer[place + done : place + length]], offset + done)
                if not got:
                    raise OSError(f"{path} is shorter than it was")
                done += got
    return out


class Expression:
    """Cells × genes, float32, as one or more parts of rows.

    Parameters
    ----------
    parts
        In the order of the cells, on one gene axis; an array or a sparse matrix is a part in memory.

    Examples
    --------
    >>> X = Expression([np.eye(2), csr_matrix([[0.0, 3.0]])])
    >>> X.shape
    (3, 2)
    >>> X.dense([2, 0])
    array([[0., 3.],
           [1., 0.]], dtype=float32)
    """

    def __init__(self, parts: Sequence[Part | DiskPart | np.ndarray | csr_matrix]):
        self.parts = [p if isinstance(p, Part | DiskPart) else _in_memory(p) for p in parts]
        self._starts = np.cumsum([0, *(p.shape[0] for p in self.parts)])

    @property
    def shape(self) -> tuple[int, int]:
        """(n, G)."""
        return int(self._starts[-1]), self.parts[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, in memory or on disk."""
        return sum(p.nbytes for p in self.parts)

    def dense(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Rows as an array (k, G) float32; −1 stands for a row of zeros."""
        rows = self._rows(rows)
        there = rows >= 0
        if not any(part.is_dense for part in self.parts):
            X = self.csr(rows[there])
            if not there.all():
                indptr = np.concatenate([[0], np.cumsum(there)])
                X = csr_matrix((X.data, X.indices, X.indptr[indptr]), (len(rows), self.shape[1]))
            return X.toarray()
        if len(self.parts) == 1:
            out = self.parts[0].array(np.maximum(rows, 0))
        else:
            out, kept = np.empty((len(rows), self.shape[1]), np.float32), np.flatnonzero(there)
            for part, mine, local in self._by_part(rows[there]):
                mine = kept if mine is None else kept[mine]
                out[mine] = part.array(local) if part.is_dense else part.csr(local).toarray()
        out[~there] = 0
        return out

    def csr(self, rows: Sequence[int] | np.ndarray | None = None) -> csr_matrix:
        """Rows (default: all) as a CSR matrix (k, G) in memory."""
        rows = self._rows(np.arange(self.shape[0]) if rows is None else rows)
        pieces, order = [], []
        for part, mine, local in self._by_part(rows):
            pieces.append(part.csr(local))
            order.append(np.arange(len(rows)) if mine is None else mine)
        if not pieces:
            return csr_matrix((0, self.shape[1]), dtype=np.float32)
        X = pieces[0] if len(pieces) == 1 else vstack(pieces, format="csr")
        if len(pieces) == 1:
            return X
        return X[np.argsort(np.concatenate(order))]

    def sums(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum and sum of squares of rows, (G,) float64 each."""
        total, squares = np.zeros(self.shape[1]), np.zeros(self.shape[1])
        rows = self._rows(rows)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            X = self.csr(rows[start : start + ROWS_AT_ONCE])
            values = X.data.astype(np.float64)
            total += np.bincount(X.indices, weights=values, minlength=len(total))
            squares += np.bincount(X.indices, weights=values**2, minlength=len(total))
        return total, squares

    def mean(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Mean of rows, (G,) float64; NaN for none."""
        rows = self._rows(rows)
        return self.sums(rows)[0] / len(rows) if len(rows) else np.full(self.shape[1], np.nan)

    def _rows(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        return np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64, copy=False)

    def _by_part(self, rows: np.ndarray) -> Iterator[tuple[Part | DiskPart, np.ndarray | None, np.ndarray]]:
        """Parts that hold any of the rows, where these stand among ``rows`` (None: all), their rows in the part."""
        if len(self.parts) == 1:
            yield self.parts[0], None, rows
            return
        of_part = np.searchsorted(self._starts, rows, side="right") - 1
        for p in np.unique(of_part):
            mine = np.flatnonzero(of_part == p)
            yield self.parts[p], mine if len(mine) < len(rows) else None, rows[mine] - self._starts[p]


def _in_memory(X: np.ndarray | csr_matrix) -> Part:
    if not issparse(X):
        return Part(X.shape, dense=np.ascontiguousarray(X, dtype=np.float32))
    X = X.tocsr().astype(np.float32, copy=False)
    return Part(X.shape, data=X.data, indices=X.indices.astype(np.int32, copy=False), indptr=X.indptr.astype(np.int64))
