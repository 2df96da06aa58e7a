"""What an emission needs to know of the control cells, in one pass over their counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from stateshift.cells.matrix.scale import SIZE_FACTOR

ABSENT_RATE = 1e-6
"""What the factor of a gene multiplies that no control cell holds: a hundredth of a count in 10,000."""
DEPTH_CLASSES, RATE_CLASSES = 12, 20
SINGLE, WIDTH, MOST = 64, 0.08, 1e7
"""Counts below `SINGLE` are tallied one by one, larger ones in classes of 8 %."""
WELL_MEASURED, LEAST_DISPERSION, LEAST_SPREAD = 200.0, 1e-3, 1e-2


@dataclass(frozen=True)
class Controls:
    """Measures of n0 control cells.

    Parameters
    ----------
    depths
        (n0,): counts of each cell.
    rates
        (G,): p, each gene's share of all counts.
    dispersions
        (G,): φ in variance = mean + φ · mean².
    trend_rates, trend_dispersions
        (T,): how φ falls with the rate over all genes.
    means, variances
        (G,): on log1p_1e4.
    """

    depths: np.ndarray
    rates: np.ndarray
    dispersions: np.ndarray
    trend_rates: np.ndarray
    trend_dispersions: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    @property
    def base(self) -> np.ndarray:
        """The rates (G,) that factors multiply: the controls' own, or 1e-6 where that is 0."""
        return np.where(self.rates > 0, self.rates, ABSENT_RATE)

    def shapes(self, factors: np.ndarray) -> np.ndarray:
        """1 / φ (G, …) of genes whose rates are multiplied by factors f (G, …).

        Up to f = 1, φ is the gene's own. Of a raised gene the share 1 / f of the counts was there before, and the others
        are as overdispersed as genes of the new rate are: φ = (φ_g + (f − 1) · trend(f · p)) / f.
        """
        alike = (slice(None), *[None] * (factors.ndim - 1))
        of_new_rate = _interpolated(factors * self.base[alike], self.trend_rates, self.trend_dispersions)
        own = 1 / np.maximum(factors, 1)
        return 1 / (own * self.dispersions[alike] + (1 - own) * of_new_rate)


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
    depths = depths_of(counts)
    edges = np.unique(np.quantile(depths, np.linspace(0, 1, min(DEPTH_CLASSES, n0) + 1)[1:-1]))
    used, depth_class, in_class = np.unique(
        np.searchsorted(edges, depths, side="right"), return_inverse=True, return_counts=True
    )
    scales = np.bincount(depth_class, SIZE_FACTOR / depths) / in_class
    K = SINGLE + int(np.ceil(np.log(MOST / SINGLE) / WIDTH))
    cells = np.zeros((G, len(used), K), np.int32)
    cells[:, :, 0] = in_class
    sums = np.zeros((5, G))
    _tally(counts.indptr.astype(np.int64), counts.indices, counts.data, depths, depth_class, cells, sums)
    total, by_depth, squares, logs, log_squares = sums
    rates = total / depths.sum()
    pairs = rates**2 * (depths**2).sum()
    excess = squares - 2 * rates * by_depth + pairs - total
    means = logs / n0
    variances = np.maximum(log_squares - n0 * means**2, 0) / (n0 - 1)
    controls = Controls(depths, rates, *_dispersions(rates, excess, pairs), means, variances)
    return controls, Tally(cells, _class_counts(K), scales)


def depths_of(counts: csr_matrix) -> np.ndarray:
    """Counts of each cell (n,), float64, without a copy of what is summed."""
    return _depths(counts.indptr.astype(np.int64), counts.data)


@njit(cache=True, nogil=True)
def _depths(indptr, data):
    depths = np.zeros(len(indptr) - 1)
    for i in range(len(depths)):
        for at in range(indptr[i], indptr[i + 1]):
            depths[i] += data[at]
    return depths


def _class_counts(K: int) -> np.ndarray:
    """What the classes of counts stand for: themselves, and the middle of the wider ones."""
    wide = SINGLE * np.exp(WIDTH * (np.arange(K - SINGLE) + 0.5))
    return np.concatenate([np.arange(SINGLE, dtype=float), wide])


def _dispersions(rates: np.ndarray, excess: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """φ (G,), and its trend over rates, (T,) and (T,).

    With a = Σ (x − N p)² − x over cells (`excess`) and b = Σ (N p)² (`pairs`), a / b measures φ, with variance 2 / b
    where it is small. The trend is Σ a / Σ b over genes of like rate, made to fall by isotonic regression.
    A gene's own φ is drawn to the trend's φ0,

        φ = (a / 2 + φ0 / τ²) / (b / 2 + 1 / τ²),    τ = φ0 · s

    where s is the relative spread of well measured genes about the trend (by the median absolute deviation).
    """
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(rates, kind="stable")[(rates == 0).sum() :]
    classes = [of_class for of_class in np.array_split(order, RATE_CLASSES) if len(of_class)]
    at = np.array([pairs[of_class] @ rates[of_class] / pairs[of_class].sum() for of_class in classes])
    of_classes = np.array([excess[of_class].sum() / pairs[of_class].sum() for of_class in classes])
    weights = [1 / (2 / pairs[of_class].sum() + 1 / len(of_class)) for of_class in classes]
    fit = IsotonicRegression(y_min=LEAST_DISPERSION, increasing=False).fit(at, of_classes, weights)
    falling = fit.predict(at)
    trend = _interpolated(np.where(rates > 0, rates, ABSENT_RATE), at, falling)
    well = pairs > WELL_MEASURED
    relative = excess[well] / (pairs[well] * trend[well])
    spread = 1.4826 * np.median(np.abs(relative - np.median(relative))) if well.any() else 1.0
    weight = 1 / (trend * max(spread, LEAST_SPREAD)) ** 2
    own = (excess / 2 + trend * weight) / (pairs / 2 + weight)
    return np.maximum(own, LEAST_DISPERSION), at, falling


def _interpolated(rates: np.ndarray, at: np.ndarray, dispersions: np.ndarray) -> np.ndarray:
    """The trend at rates, linear in logarithms and level beyond its ends."""
    return np.exp(np.interp(np.log(np.maximum(rates, 1e-300)), np.log(at), np.log(dispersions)))


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
