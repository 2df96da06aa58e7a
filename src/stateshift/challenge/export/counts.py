"""The counts that log1p expression was made of."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from stateshift.cells.matrix.scale import LOG1P_LIMIT
from stateshift.errors import StateshiftError

OFF = 0.05
"""How far a multiple may be from a whole number: float32 logarithms leave 1e-6 of it."""
LEAST = 16
"""Counts that a cell's least value is tried as."""


def counts_of(X: csr_matrix, where: str) -> csr_matrix:
    """Whole counts of cells: as they are, or those that log1p expression was made of.

    However a cell was scaled before log1p, its expm1 are whole multiples of what one count became. That is the least of
    them, or a fraction of it in a cell without a gene of one count. No total has to be known, and genes may have been cut
    away since.

    Parameters
    ----------
    X
        (n, G): counts, or log1p of counts scaled cell by cell; no stored zeros.
    where
        The file's name, for the error.

    Raises
    ------
    StateshiftError
        Fractions that no counts lead to.

    Examples
    --------
    >>> counts = np.array([[1.0, 0, 7], [3, 1, 2]])
    >>> scaled = csr_matrix(np.log1p(counts / counts.sum(1, keepdims=True) * 54_000))
    >>> counts_of(scaled, "cells.h5ad").toarray().tolist()
    [[1.0, 0.0, 7.0], [3.0, 1.0, 2.0]]
    """
    if not X.nnz or (X.data == np.rint(X.data)).all():
        return X
    in_row = np.diff(X.indptr)
    linear, counts = np.expm1(np.minimum(X.data, LOG1P_LIMIT).astype(np.float64)), np.zeros(X.nnz)
    left, logarithms = np.flatnonzero(in_row), X.data.min() >= 0 and X.data.max() < LOG1P_LIMIT
    for least in range(1, LEAST + 1) if logarithms else ():
        values = np.repeat(np.isin(np.arange(len(in_row)), left), in_row)
        whole, fits = _multiples(linear[values], in_row[left], least)
        counts[values] = whole
        left = left[~fits]
        if not len(left):
            break
    if len(left):
        raise StateshiftError(
            f"{where}: its control cells hold fractions that are not log1p of scaled counts. Counts are emitted onto counts: "
            "give cells with counts in X, or predict with `stateshift predict` and hand in the predicted h5ad."
        )
    return csr_matrix((counts.astype(np.float32), X.indices, X.indptr), X.shape)


def _multiples(linear: np.ndarray, in_row: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole multiples of what one count became, the least value of a row being so many; and which rows they fit."""
    starts, of_row = np.cumsum(in_row) - in_row, np.repeat(np.arange(len(in_row)), in_row)
    near = np.rint(linear * (least / np.minimum.reduceat(linear, starts))[of_row])
    # the least value alone is known to six digits; with all values of a cell, one count is known better
    multiples = linear * (np.add.reduceat(near, starts) / np.add.reduceat(linear, starts))[of_row]
    counts = np.rint(multiples)
    return counts, np.maximum.reduceat(np.abs(multiples - counts), starts) <= OFF
