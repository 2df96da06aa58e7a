"""Counts thinned and drawn anew, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

KEPT = 0.9
"""The largest share of a cell's counts that is kept; the rest is drawn anew."""
FEW = 10.0
"""Means up to which a number is drawn by walking through its distribution."""


def draw(
    rng: np.random.Generator,
    rows: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    counts: np.ndarray,
    depths: np.ndarray,
    kept: np.ndarray,
    seen: np.ndarray,
    anew: np.ndarray,
    shapes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values float32, columns int32 and row ends int32 of the cells drawn.

    Parameters
    ----------
    rng
        The source of randomness.
    rows
        (n,): the cells to start from, rows of the CSR matrix (`indptr`, `indices`, `counts`).
    depths
        Counts of every cell of that matrix.
    kept
        (G,): the share of a gene's counts that is kept.
    seen, anew
        (G,): rates of what is kept, and of what is drawn anew; times the depth they are means.
    shapes
        (G,): 1 / φ.
    """
    room = len(rows) * len(kept)
    values, columns = np.empty(room, np.float32), np.empty(room, np.int32)
    ends = np.zeros(len(rows) + 1, np.int32)
    n = _draw(rng, rows, indptr, indices, counts, depths, kept, seen, anew, shapes, values, columns, ends)
    return values[:n].copy(), columns[:n].copy(), ends


@njit(cache=True, nogil=True)
def _draw(rng, rows, indptr, indices, counts, depths, kept, seen, anew, shapes, values, columns, ends):
    n, G = 0, len(kept)
    for i in range(len(rows)):
        at, end, depth = indptr[rows[i]], indptr[rows[i] + 1], depths[rows[i]]
        for g in range(G):
            y = 0
            if at < end and indices[at] == g:
                y = _thinned(rng, int(counts[at]), kept[g])
                at += 1
            mean = depth * anew[g]
            if mean > 0:
                # no count is added more often than their mean: that decides most genes
                expected = mean * (shapes[g] + y) / (shapes[g] + depth * seen[g])
                u = rng.random()
                if u < expected:
                    odds = mean / (shapes[g] + depth * seen[g])
                    y += _negative_binomial(rng, u, shapes[g] + y, odds)
            if y > 0:
                values[n], columns[n] = y, g
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
