"""Cells × genes as training reads them: dense or CSR, in memory or mapped from disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix, issparse, vstack

ROWS_AT_ONCE = 2048
LIMIT_OF_INT32 = 2**31 - 1
MAPPED_BYTES_KEPT = 500_000_000
"""Bytes read from mapped files after which their pages are given back to the system."""


@dataclass
class Part:
    """Rows that lie together: an array (n, G), or the three arrays of a CSR matrix.

    Parameters
    ----------
    shape
        (n, G).
    dense
        (n, G) float32; None for CSR.
    data, indices, indptr
        Of the CSR matrix: float32, int32 and int64 (n + 1,).
    release
        Called after reads from mapped files, to give their pages back; None in memory.
    """

    shape: tuple[int, int]
    dense: np.ndarray | None = None
    data: np.ndarray | None = None
    indices: np.ndarray | None = None
    indptr: np.ndarray | None = None
    release: Callable[[], None] | None = None
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
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self.dense, self.data, self.indices, self.indptr)
        return sum(a.nbytes for a in arrays if a is not None)

    def csr(self, rows: np.ndarray) -> csr_matrix:
        """Rows as a CSR matrix of their own."""
        if self.dense is not None:
            return csr_matrix(self.dense[rows])
        if len(self._blocks) == 1:
            return self._blocks[0][rows]
        of_block = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(of_block, kind="stable")
        pieces = [self._blocks[b][rows[of_block == b] - self._starts[b]] for b in np.unique(of_block)]
        back = np.empty(len(rows), int)
        back[order] = np.arange(len(rows))
        return vstack(pieces, format="csr")[back]

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write rows into ``out`` (k, G), C-contiguous float32."""
        if self.dense is not None:
            np.take(self.dense, rows, axis=0, out=out, mode="clip")
        elif len(rows):
            self.csr(rows).toarray(out=out)


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

    def __init__(self, parts: Sequence[Part | np.ndarray | csr_matrix]):
        self.parts = [p if isinstance(p, Part) else _in_memory(p) for p in parts]
        self._starts = np.cumsum([0, *(p.shape[0] for p in self.parts)])
        self._read_since_release = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(n, G)."""
        return int(self._starts[-1]), self.parts[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, in memory or mapped."""
        return sum(p.nbytes for p in self.parts)

    @property
    def is_mapped(self) -> bool:
        """Whether any part lies on disk."""
        return any(p.release is not None for p in self.parts)

    def dense(self, rows: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Rows as an array (k, G) float32, written into ``out`` where one is given."""
        rows = self._rows(rows)
        if out is None:
            out = np.empty((len(rows), self.shape[1]), np.float32)
        for part, mine, local in self._by_part(rows):
            if mine is None:
                part.fill(local, out)
            else:
                gathered = np.empty((len(local), out.shape[1]), np.float32)
                part.fill(local, gathered)
                out[mine] = gathered
        self._released(out.nbytes)
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
        self._released(X.data.nbytes * 2)
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

    def _by_part(self, rows: np.ndarray) -> Iterator[tuple[Part, np.ndarray | None, np.ndarray]]:
        """Parts that hold any of the rows, where these stand among ``rows`` (None: all), their rows in the part."""
        if len(self.parts) == 1:
            yield self.parts[0], None, rows
            return
        of_part = np.searchsorted(self._starts, rows, side="right") - 1
        for p in np.unique(of_part):
            mine = np.flatnonzero(of_part == p)
            yield self.parts[p], mine if len(mine) < len(rows) else None, rows[mine] - self._starts[p]

    def _released(self, n_bytes: int) -> None:
        """Count what was read from disk, and give the pages back from time to time."""
        if not self.is_mapped:
            return
        self._read_since_release += n_bytes
        if self._read_since_release > MAPPED_BYTES_KEPT:
            self._read_since_release = 0
            for part in self.parts:
                if part.release is not None:
                    part.release()


def _in_memory(X: np.ndarray | csr_matrix) -> Part:
    if not issparse(X):
        return Part(X.shape, dense=np.ascontiguousarray(X, dtype=np.float32))
    X = X.tocsr().astype(np.float32, copy=False)
    return Part(X.shape, data=X.data, indices=X.indices.astype(np.int32, copy=False), indptr=X.indptr.astype(np.int64))
