"""Cells made ready for the test: their values sorted by gene, and their mean, on either of two scales."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix, issparse

from stateshift.errors import StateshiftError
from stateshift.evaluation.significance.ranks import tie_sums

Scale = Literal["log1p", "counts"]
MILLION = 1e6
# Σ t³ is counted in 64 bits
MOST_CELLS = 2_000_000


@dataclass(frozen=True)
class Columns:
    """The stored values of n cells, sorted gene by gene.

    Parameters
    ----------
    values
        Of gene j ``values[starts[j] : starts[j + 1]]``, ascending, without zeros.
    starts
        (G + 1,).
    mean
        (G,): on ``log1p`` the mean of the values as they are, on ``counts`` the mean of counts per million.
    n_cells
        n, those with a zero included.
    """

    values: np.ndarray
    starts: np.ndarray
    mean: np.ndarray
    n_cells: int


@dataclass(frozen=True)
class Controls:
    """Control cells sorted once, for any number of tests against them.

    Parameters
    ----------
    columns
        Their values.
    ties
        Σ t³ − t over the ties of each gene (G,).
    scale
        What the values are.
    """

    columns: Columns
    ties: np.ndarray
    scale: Scale


def sorted_controls(cells: csr_matrix | np.ndarray, scale: Scale) -> Controls:
    """Sort the controls (n, G) gene by gene.

    Raises
    ------
    StateshiftError
        No cells, or values that are negative or NaN.
    """
    columns = sorted_columns(cells, scale, "the controls")
    return Controls(columns, tie_sums(columns.values, columns.starts, columns.n_cells), scale)


def sorted_columns(cells: csr_matrix | np.ndarray, scale: Scale, who: str) -> Columns:
    """Sort cells (n, G) gene by gene; on ``counts`` log1p of counts per million is what is sorted.

    Means are scipy's or numpy's in the precision of the cells, as `pdex` takes them, so that fold changes
    that nearly tie fall into the same order. `log1p` after the division is no rank's change but may make two values one.
    """
    n_cells = cells.shape[0]
    if not n_cells:
        raise StateshiftError(f"{who}: there are no cells to rank.")
    if n_cells > MOST_CELLS:
        raise StateshiftError(f"{who}: {n_cells:,} cells are more than a test takes ({MOST_CELLS:,}): draw fewer.")
    mean = None
    if scale == "log1p":
        mean = np.asarray(cells.mean(axis=0)).ravel()
    stored = cells.tocsr() if issparse(cells) else csr_matrix(cells)
    if stored.nnz and not stored.data.min() >= 0:
        raise StateshiftError(f"{who}: values are negative or NaN, which no expression is.")
    if scale == "counts":
        stored = per_million(stored)
        mean = np.asarray(stored.mean(axis=0)).ravel()
        np.log1p(stored.data, out=stored.data)
    by_gene = stored.tocsc()
    by_gene.sum_duplicates()
    by_gene.eliminate_zeros()
    # numpy's sort of a slice is several times as fast as a compiled loop's own
    for first, last in pairwise(by_gene.indptr.tolist()):
        by_gene.data[first:last].sort()
    return Columns(by_gene.data, by_gene.indptr, mean, n_cells)


def per_million(counts: csr_matrix) -> csr_matrix:
    """Counts per million of each cell, float64, a matrix of its own; a cell without counts keeps its zeros."""
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    data = counts.data / np.repeat(totals / MILLION, np.diff(counts.indptr))
    return csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape)
