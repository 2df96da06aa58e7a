"""The compiled passes over blocks of cells: what a block tells of its cells and groups, and counts as logarithms."""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

TABLE = 1024
"""Counts below this are looked up."""


@njit(cache=True, nogil=True)
def look(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    groups: np.ndarray,
    whole: float,
    sums: np.ndarray,
    squares: np.ndarray,
    fractions: np.ndarray,
    digests: np.ndarray,
) -> int:
    """Add the cells of a CSR block to the sums of their groups; returns how many values are negative.

    Parameters
    ----------
    data, indices, indptr
        The block of k cells: float32, int32, row starts.
    groups
        The group of each cell (k,).
    whole
        A fraction no larger than this counts as none.
    sums, squares
        Of each group's values (K, G) float64, added to.
    fractions
        Whether a cell holds any fraction (k,), filled.
    digests
        Two numbers that equal cells have in common (k, 2) uint64, filled.
    """
    negative = 0
    bits = data.view(np.uint32)
    for cell in range(len(groups)):
        group = groups[cell]
        one, two = uint64(14695981039346656037), uint64(indptr[cell + 1] - indptr[cell])
        for at in range(indptr[cell], indptr[cell + 1]):
            value, gene = data[at], indices[at]
            wide = np.float64(value)
            sums[group, gene] += wide
            squares[group, gene] += wide * wide
            if value < 0:
                negative += 1
            if wide - np.trunc(wide) > whole:
                fractions[cell] = True
            # multiply and fold, as of wyhash and murmur: every bit of place and value reaches all others
            word = (uint64(gene) << uint64(32)) | uint64(bits[at])
            one = (one ^ word) * uint64(0x9E3779B97F4A7C15)
            one ^= one >> uint64(29)
            two = (two + word) * uint64(0xBF58476D1CE4E5B9)
            two ^= two >> uint64(32)
        digests[cell, 0], digests[cell, 1] = one, two
    return negative


@njit(cache=True, nogil=True)
def log1p_of(data: np.ndarray, indptr: np.ndarray, factors: np.ndarray) -> None:
    """ln(1 + value / its cell's factor) in place; small counts, of which a cell has many alike, once each.

    Parameters
    ----------
    data, indptr
        Of a CSR block of k cells, float32.
    factors
        Of each cell (k,) float32.
    """
    table = np.empty(TABLE, np.float32)
    for cell in range(len(factors)):
        table[:] = -1
        for at in range(indptr[cell], indptr[cell + 1]):
            value = data[at]
            count = int(value)
            if count < TABLE and count == value:
                if table[count] < 0:
                    table[count] = np.log1p(value / factors[cell])
                data[at] = table[count]
            else:
                data[at] = np.log1p(value / factors[cell])
