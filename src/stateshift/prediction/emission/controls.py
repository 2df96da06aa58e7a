"""What an emission needs to know of the control cells, in one pass over their counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from stateshift.cells.matrix.scale import SIZE_FACTOR

DEPTH_CLASSES = 12
SINGLE, WIDTH, MOST = 64, 0.08, 1e7
"""Counts below `SINGLE` are tallied one by one, larger ones in classes of 8 %."""
WELL_MEASURED, LEAST_DISPERSION, LEAST_SPREAD = 200.0, 1e-3, 1e-4


@dataclass(frozen=True)
class Controls:
    """Measures of n0 control cells.

    Parameters
    ----------
    depths
        (n0,): counts of each cell.
    rates
        (G,): each gene's share of all counts.
    dispersions
        (G,): φ in variance = mean + φ · mean².
    means, variances
        (G,): on log1p_1e4.
    """

    depths: np.ndarray
    rates: np.ndarray
    dispersions: np.ndarray
    means: np.ndarray
    variances: np.ndarray


@dataclass(frozen=True)
class Tally:
    """How many control cells hold how many counts of a gene, by depth.

    Parameters
    ----------
    cells
        (G, D, K) int32: cells by gene, class of depth and class of counts; of no counts too.
    counts
        (K,): what a class of counts stands for.
    scales
        (D,): 10,000 over the depth, mean of the class.
    """

    cells: np.ndarray
    counts: np.ndarray
    scales: np.ndarray


def measure_controls(counts: csr_matrix) -> tuple[Controls, Tally]:
    """Measures and tally of control cells (n0, G)."""
    n0, G = counts.shape
    depths = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    edges = np.unique(np.quantile(depths, np.linspace(0, 1, min(DEPTH_CLASSES, n0) + 1)[1:-1]))
    depth_class = np.searchsorted(edges, depths, side="right")
    used, depth_class, in_class = np.unique(depth_class, return_inverse=True, return_counts=True)
    scales = np.bincount(depth_class, SIZE_FACTOR / depths) / in_class
    K = SINGLE + int(np.ceil(np.log(MOST / SINGLE) / WIDTH))
    cells = np.zeros((G, len(used), K), np.int32)
    cells[:, :, 0] = in_class
    sums = np.zeros((5, G))
    _tally(counts.indptr, counts.indices, counts.data, depths, depth_class, cells, sums)
    total, by_depth, squares, logs, log_squares = sums
    rates = total / depths.sum()
    means = logs / n0
    return (
        Controls(
            depths,
            rates,
            _dispersions(total, by_depth, squares, rates, (depths**2).sum()),
            means,
            np.maximum(log_squares - n0 * means**2, 0) / (n0 - 1),
        ),
        Tally(cells, _class_counts(K), scales),
    )


def _class_counts(K: int) -> np.ndarray:
    """What the classes of counts stand for: themselves, and the middle of the wider ones."""
    wide = SINGLE * np.exp(WIDTH * (np.arange(K - SINGLE) + 0.5))
    return np.concatenate([np.arange(SINGLE, dtype=float), wide])


def _dispersions(
    total: np.ndarray, by_depth: np.ndarray, squares: np.ndarray, rates: np.ndarray, squared_depths: float
) -> np.ndarray:
    """φ (G,) by moments, drawn to the median of well measured genes where a gene tells little.

    With a = Σ (x − N p)² − x and b = Σ (N p)², φ = a / b measures a gene with variance about 2 / b, that of a Poisson
    variable. The genes' own φ vary about their median φ0 with variance τ² (by the median absolute deviation), so that

        φ = (a / 2 + φ0 / τ²) / (b / 2 + 1 / τ²)
    """
    b = rates**2 * squared_depths
    a = squares - 2 * rates * by_depth + b - total
    well = b > WELL_MEASURED
    if not well.any():
        well = b >= np.partition(b, len(b) // 2)[len(b) // 2]
    of_well = a[well] / np.maximum(b[well], 1e-300)
    middle = max(np.median(of_well), LEAST_DISPERSION)
    spread = max((1.4826 * np.median(np.abs(of_well - middle))) ** 2, LEAST_SPREAD)
    return np.maximum((a / 2 + middle / spread) / (b / 2 + 1 / spread), LEAST_DISPERSION)


@njit(cache=True, nogil=True)
def _tally(indptr, indices, data, depths, depth_class, cells, sums):
    for i in range(len(depths)):
        d, scale = depth_class[i], SIZE_FACTOR / depths[i]
        for at in range(indptr[i], indptr[i + 1]):
            x = np.float64(data[at])
            if x == 0:
                continue
            g, log = indices[at], np.log1p(scale * x)
            k = int(x) if x < SINGLE else SINGLE + int(np.log(x / SINGLE) / WIDTH)
            cells[g, d, 0] -= 1
            cells[g, d, min(k, cells.shape[2] - 1)] += 1
            sums[0, g] += x
            sums[1, g] += depths[i] * x
            sums[2, g] += x * x
            sums[3, g] += log
            sums[4, g] += log * log
