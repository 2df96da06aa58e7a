"""Counts thinned and drawn anew, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

KEPT = 0.95
"""The largest share of a cell's counts that is kept; the rest is drawn anew, so that no cell is a copy."""
FEW = 10.0
"""Means up to which a number is drawn by walking through its distribution."""


class Cells(NamedTuple):
    """Control cells as the kernels read them: the arrays of a CSR matrix, and the depth of every row."""

    indptr: np.ndarray
    indices: np.ndarray
    counts: np.ndarray
    depths: np.ndarray


def cells_of(counts: csr_matrix, depths: np.ndarray) -> Cells:
    """The arrays of a CSR matrix, of types for which the kernels are compiled once."""
    return Cells(counts.indptr.astype(np.int64), counts.indices.astype(np.int32, copy=False), counts.data, depths)


class Genes(NamedTuple):
    """What is done to G genes.

    Parameters
    ----------
    factors
        (G,): f, of the rates.
    base
        (G,): the rates that they multiply.
    most_kept
        (G,): the largest share of the counts that is kept.
    shapes
        (G,): 1 / φ.
    """

    factors: np.ndarray
    base: np.ndarray
    most_kept: np.ndarray
    shapes: np.ndarray


def draw(
    rng: np.random.Generator, rows: np.ndarray, cells: Cells, genes: Genes
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values float32, columns int32 and row ends int32 of the cells drawn.

    All rates of a cell are multiplied by the depth that it has over the one that it is expected to get: it keeps its
    own. A cell that loses all its counts, as one of a handful may, gets one, of a gene drawn by its rate.

    Parameters
    ----------
    rng
        The source of randomness.
    rows
        (n,): the cells to start from.
    cells, genes
        The controls, and what is done to their genes.
    """
    room = len(rows) * len(genes.base)
    values, columns = np.empty(room, np.float32), np.empty(room, np.int32)
    ends = np.zeros(len(rows) + 1, np.int32)
    n = _draw(rng, rows, 1 / growth(rows, cells, genes)[0], cells, genes, values, columns, ends)
    return values[:n].copy(), columns[:n].copy(), ends


@njit(cache=True, nogil=True)
def growth(rows, cells, genes):
    """The depth that cells are expected to get, over the one that they have; mean and variance, (n,) each."""
    factors, base, most_kept, shapes = genes
    kept = np.minimum(factors, most_kept)
    seen, anew = kept * base, (factors - kept) * base
    mean, variance = np.zeros(len(rows)), np.zeros(len(rows))
    for i in range(len(rows)):
        depth = cells.depths[rows[i]]
        for g in range(len(base)):
            if anew[g] > 0:
                odds = anew[g] * depth / (shapes[g] + depth * seen[g])
                mean[i] += odds * shapes[g]
                variance[i] += odds * (1 + odds) * shapes[g]
        for at in range(cells.indptr[rows[i]], cells.indptr[rows[i] + 1]):
            g = cells.indices[at]
            odds = anew[g] * depth / (shapes[g] + depth * seen[g])
            left = kept[g] * cells.counts[at]
            mean[i] += left * (1 + odds)
            variance[i] += left * (odds * (1 + odds) + (1 - kept[g]) * (1 + odds) ** 2)
        mean[i] /= depth
        variance[i] /= depth**2
    return mean, variance


@njit(cache=True, nogil=True)
def _draw(rng, rows, scales, cells, genes, values, columns, ends):
    n, G = 0, len(genes.base)
    factors, base, most_kept, shapes = genes
    rates = np.cumsum(factors * base)
    for i in range(len(rows)):
        at, end, depth = cells.indptr[rows[i]], cells.indptr[rows[i] + 1], cells.depths[rows[i]]
        for g in range(G):
            factor = factors[g] * scales[i]
            kept = min(factor, most_kept[g])
            y = 0
            if at < end and cells.indices[at] == g:
                y = _thinned(rng, int(cells.counts[at]), kept)
                at += 1
            mean = depth * base[g]
            anew = mean * (factor - kept)
            if anew > 0:
                u = rng.random()
                # no count is added more often than their mean, which is at most this: that decides most genes
                if u * shapes[g] < anew * (shapes[g] + y):
                    odds = anew / (shapes[g] + mean * kept)
                    y += _negative_binomial(rng, u, shapes[g] + y, odds)
            if y > 0:
                values[n], columns[n] = y, g
                n += 1
        if n == ends[i]:
            values[n], columns[n] = 1, min(np.searchsorted(rates, rng.random() * rates[-1], side="right"), G - 1)
            n += 1
        ends[i + 1] = n
    return n


@njit(cache=True, nogil=True)
def _thinned(rng, count, share):
    """How many of `count` stay, each with probability `share`."""
    if share >= 1 or share <= 0 or count == 0:
        return count if share >= 1 else 0
    rare = min(share, 1 - share)
    drawn = rng.binomial(count, rare) if count * rare > FEW else _binomial(rng.random(), count, rare)
    return drawn if rare == share else count - drawn


@njit(cache=True, nogil=True)
def _binomial(u, count, share):
    """The quantile u of a binomial distribution."""
    p = (1 - share) ** count
    odds = share / (1 - share)
    k = 0
    while u >= p and k < count:
        u -= p
        k += 1
        p *= odds * (count - k + 1) / k
    return k


@njit(cache=True, nogil=True)
def _negative_binomial(rng, u, shape, odds):
    """A number with mean shape · odds and variance mean · (1 + odds): from the top of it, u uniform."""
    if shape * odds > FEW:
        return rng.poisson(rng.standard_gamma(shape) * odds)
    p = np.exp(-shape * np.log1p(odds))
    above = 1 - p
    ratio = odds / (1 + odds)
    k = 0
    while u < above and p > 0:
        k += 1
        p *= ratio * (shape + k - 1) / k
        above -= p
    return k
