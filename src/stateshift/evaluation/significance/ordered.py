"""Cells made ready for the test: their values in ascending order over all genes, and their mean, on either scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix, issparse

from stateshift.errors import StateshiftError
from stateshift.evaluation.significance.ranks import stored_of_genes, tie_sums
from stateshift.evaluation.significance.sorting import (
    ascending,
    genes_by_count,
    mean_per_million,
    slots_of_counts,
    surveyed,
)

Scale = Literal["log1p", "counts"]
# Σ t³ over both sides together is counted in 64 bits
MOST_CELLS = 1_000_000
# a table of counts may be this much larger than the values it stands for
MOST_SLOTS = 4


@dataclass(frozen=True)
class Ordered:
    """The stored values of n cells, ascending over all genes.

    Parameters
    ----------
    values
        The D different ones, without zero.
    starts
        (D + 1,): value d is that of ``genes[starts[d] : starts[d + 1]]``, once for each cell that has it.
    genes
        Gene by stored value.
    mean
        (G,): on ``log1p`` the mean of the values as they are, on ``counts`` the mean of counts per million.
    n_cells
        n, those with a zero included.
    whole
        Whether all values are whole numbers.
    """

    values: np.ndarray
    starts: np.ndarray
    genes: np.ndarray
    mean: np.ndarray
    n_cells: int
    whole: bool


@dataclass(frozen=True)
class Controls:
    """Control cells put in order once, for any number of tests against them.

    Parameters
    ----------
    cells
        Their values.
    stored
        How many of them have a value other than zero (G,).
    ties
        Σ t³ − t over the ties of each gene (G,).
    scale
        What the values are.
    """

    cells: Ordered
    stored: np.ndarray
    ties: np.ndarray
    scale: Scale


def sorted_controls(cells: csr_matrix | np.ndarray, scale: Scale) -> Controls:
    """Put the controls (n, G) in order.

    Raises
    ------
    StateshiftError
        No cells, or values that are negative, NaN or infinite.
    """
    return controls_of(ordered(cells, scale, "the controls"), scale)


def controls_of(found: Ordered, scale: Scale) -> Controls:
    """Cells in order as controls, with their ties counted."""
    stored = stored_of_genes(found.genes, len(found.mean))
    return Controls(found, stored, tie_sums(found.starts, found.genes, stored, found.n_cells), scale)


def ordered(cells: csr_matrix | np.ndarray, scale: Scale, who: str) -> Ordered:
    """Put cells (n, G) in order; on ``counts`` by log1p of counts per million.

    Means are scipy's or numpy's in the precision of the cells, as `pdex` takes them, so that fold changes
    that nearly tie fall into the same order. `log1p` after the division is no rank's change but may make two values one.
    """
    n_cells, n_genes = cells.shape
    if not n_cells:
        raise StateshiftError(f"{who}: there are no cells to rank.")
    if n_cells > MOST_CELLS:
        raise StateshiftError(f"{who}: {n_cells:,} cells are more than a test takes ({MOST_CELLS:,}): draw fewer.")
    stored = cells.tocsr() if issparse(cells) else csr_matrix(cells)
    if not stored.has_canonical_format:
        stored = stored.copy()
        stored.sum_duplicates()
    data, genes, starts = stored.data, *unsigned(stored)
    totals, largest, valid, whole = surveyed(data, starts)
    if not valid:
        raise StateshiftError(f"{who}: values are negative, NaN or infinite, which no expression is.")
    if scale == "log1p":
        mean = np.asarray(cells.mean(axis=0)).ravel()
    else:
        mean = mean_per_million(data, genes, starts, totals, n_genes)
        if whole and largest.sum() <= MOST_SLOTS * len(data):
            values, often, number, first = slots_of_counts(data, starts, largest, totals)
            values, order = ascending(values)
            found = genes_by_count(data, genes, starts, first, number, often, order)
            return Ordered(*_different(values, np.cumsum(often[order])), found, mean, n_cells, whole)
        with np.errstate(invalid="ignore"):
            data = np.log1p(data / np.repeat(totals / 1e6, np.diff(stored.indptr)))
    if np.count_nonzero(stored.data) < len(data):
        kept = np.flatnonzero(stored.data)
        data, genes = data[kept], genes[kept]
    data, order = ascending(np.asarray(data, dtype=np.float64))
    found = genes[order].astype(np.uint32)
    return Ordered(*_different(data, np.arange(1, len(data) + 1)), found, mean, n_cells, whole)


def unsigned(cells: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Columns and row starts of a CSR matrix as unsigned numbers, which compiled loops needn't test for negative ones."""
    return cells.indices.view(f"u{cells.indices.dtype.itemsize}"), cells.indptr.astype(np.uint64)


def _different(values: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The D different ones of ascending values of which each ends somewhere, and where they start (D + 1,)."""
    last = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)[: len(values)]
    return values[last], np.concatenate([[0], ends[last]]).astype(np.uint64)
