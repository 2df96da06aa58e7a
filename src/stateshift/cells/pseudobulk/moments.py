"""Sums over sets of cells, read once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stateshift.cells.matrix.expression import ROWS_AT_ONCE, Expression


@dataclass
class Moments:
    """Sums over L sets of cells.

    Parameters
    ----------
    n
        Array (L,): cells.
    total, squares
        Arrays (L, G) float64: sums of the values and of their squares.
    linear
        Array (L, G) float64: sums of expm1 of the values; None where they are no logarithms.
    """

    n: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    linear: np.ndarray | None


def sums_by_label(X: Expression, rows: np.ndarray, labels: np.ndarray, n_labels: int, with_linear: bool) -> Moments:
    """Sums of rows by label, each row read once and a few thousand held at a time.

    Parameters
    ----------
    X
        The cells.
    rows, labels
        Arrays (k,): rows of X, and the label 0 … L − 1 of each.
    n_labels
        L.
    with_linear
        Whether the values are log1p, so that linear sums mean something.
    """
    order = np.argsort(labels, kind="stable")
    rows, labels = rows[order], labels[order]
    total, squares = np.zeros((2, n_labels, X.shape[1]))
    linear = np.zeros_like(total) if with_linear else None
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block, of_row = X.csr(rows[start : start + ROWS_AT_ONCE]), labels[start : start + ROWS_AT_ONCE]
        columns, values = block.indices.astype(np.intp), block.data.astype(np.float64)
        firsts = np.flatnonzero(np.diff(of_row, prepend=-1))
        edges = block.indptr[[*firsts, len(of_row)]]
        for label, first, last in zip(of_row[firsts], edges[:-1], edges[1:]):
            at, x = columns[first:last], values[first:last]
            total[label] += np.bincount(at, x, X.shape[1])
            squares[label] += np.bincount(at, x * x, X.shape[1])
            if linear is not None:
                linear[label] += np.bincount(at, np.expm1(x), X.shape[1])
    return Moments(np.bincount(labels, minlength=n_labels), total, squares, linear)
