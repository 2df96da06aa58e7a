"""Negative-binomial counts, drawn at the cost of those that aren't zero."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

LARGE = 16.0


def draw_counts(means: np.ndarray, dispersion: float, rng: np.random.Generator) -> csr_matrix:
    """Counts with variance mean + dispersion · mean².

    One uniform number u a value decides by inversion: the count is the number of k ≥ 0 with u < P(X > k).
    Since P(X > 0) ≤ mean, the distribution is worked out only where u < mean: that, and not the
    probabilities, is all that a zero costs. Means over 16 are drawn as Poisson of gamma instead.

    Parameters
    ----------
    means
        (n, G) float32, positive.
    dispersion
        φ > 0; its inverse is the shape of the gamma distribution.
    rng
        The source of randomness.

    Returns
    -------
    csr_matrix
        (n, G) float32, whole numbers, column numbers in order.
    """
    n, G = means.shape
    r = 1.0 / dispersion
    u = rng.random((n, G), dtype=np.float32)
    maybe = np.flatnonzero(u.ravel() < means.ravel())
    mean = means.ravel()[maybe].astype(np.float64)
    counts = np.zeros(len(maybe), dtype=np.float32)
    large = mean > LARGE
    counts[large] = rng.poisson(mean[large] * rng.standard_gamma(r, large.sum()) / r)
    small = np.flatnonzero(~large)
    # u comes in steps of 2**-24: its middle keeps the chance of any tail right, and is never zero
    counts[small] = _inverted(u.ravel()[maybe[small]] + 2.0**-25, mean[small], r)

    kept = counts > 0
    place = maybe[kept]
    indptr = np.searchsorted(place, np.arange(n + 1) * G)
    indices = (place - np.repeat(np.arange(n) * G, np.diff(indptr))).astype(np.int32)
    return csr_matrix((counts[kept], indices, indptr.astype(np.int32)), shape=(n, G))


def _inverted(u: np.ndarray, mean: np.ndarray, r: float) -> np.ndarray:
    """The number of k ≥ 0 with u < P(X > k), X negative binomial of this mean and shape r."""
    counts = np.zeros(len(u), dtype=np.float32)
    ratio = mean / (mean + r)
    p = np.exp(-r * np.log1p(mean / r))
    above = 1.0 - p
    left = np.flatnonzero(u < above)
    u, ratio, p, above = u[left], ratio[left], p[left], above[left]
    k = 0
    while len(left):
        k += 1
        counts[left] = k
        p *= ratio * ((k - 1 + r) / k)
        above -= p
        more = u < above
        left, u, ratio, p, above = left[more], u[more], ratio[more], p[more], above[more]
    return counts
