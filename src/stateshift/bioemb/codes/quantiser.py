"""Residual vector quantisation: a vector becomes a row of small numbers, level by level.

Level by level, k-means centroids of what the levels before left over (Chen, Guan & Wang, Sensors 10, 11259 (2010),
doi:10.3390/s101211259; for discrete codes of sequences Zeghidour et al., SoundStream (2021), arXiv:2107.03312).

Letters of shapes: N entities, D width of a vector, K centroids a level, Q levels.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import numpy as np

from stateshift.errors import StateshiftError

logger = logging.getLogger(__name__)

K = 15
MAX_LEVELS = 50
SEED = 42
ITERATIONS = 50
"""Of k-means a level; codes need to tell entities apart, not to be the best quantisation there is."""


@dataclass(frozen=True, eq=False)
class Quantiser:
    """Centroids of every level.

    Parameters
    ----------
    centroids
        (Q, K, D) float32.
    errors
        After each level, the mean squared distance of the fitted vectors to what their codes say, as a share of
        their variance: 1 is no better than the mean of all.
    """

    centroids: np.ndarray
    errors: tuple[float, ...]

    @property
    def levels(self) -> int:
        """Q."""
        return self.centroids.shape[0]

    @property
    def k(self) -> int:
        """K."""
        return self.centroids.shape[1]

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """Codes (N, Q) int16 of vectors (N, D), fitted on or new."""
        residuals = np.array(vectors, dtype=np.float32)
        if residuals.shape[1:] != self.centroids.shape[2:]:
            raise StateshiftError(
                f"The codes are of vectors with {self.centroids.shape[2]} values, not {residuals.shape[-1]}."
            )
        return np.stack([_step(residuals, centroids) for centroids in self.centroids], axis=1)

    def reconstructed(self, codes: np.ndarray) -> np.ndarray:
        """The vectors (N, D) that codes (N, Q) stand for: the sums of their centroids."""
        return sum(self.centroids[level][codes[:, level]] for level in range(codes.shape[1]))


def fit_quantiser(
    vectors: np.ndarray, *, k: int = K, max_levels: int = MAX_LEVELS, seed: int = SEED
) -> tuple[Quantiser, np.ndarray]:
    """Add levels until every code is unique, or as many as allowed.

    Parameters
    ----------
    vectors
        (N, D), all different.
    k
        Centroids a level.
    max_levels
        The most levels.
    seed
        Level q is fitted with ``seed + q``.

    Returns
    -------
    Quantiser, ndarray
        It, and the codes (N, Q) int16.

    Raises
    ------
    StateshiftError
        There are fewer vectors than centroids, or `k` or `max_levels` are too small.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).standard_normal((40, 3))
    >>> quantiser, codes = fit_quantiser(vectors, k=4)
    >>> len(np.unique(codes, axis=0)) == 40 and (quantiser.codes(vectors) == codes).all()
    np.True_
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    from stateshift.progress import track

    if not 2 <= k <= 4096 or max_levels < 1:
        raise StateshiftError(f"Codes need 2 to 4096 centroids a level and a level or more, not {k} and {max_levels}.")
    if len(vectors) < k:
        raise StateshiftError(
            f"{len(vectors)} different vectors can't fill {k} centroids a level: give more entities or a smaller k (codes.k)."
        )
    residuals = np.array(vectors, dtype=np.float32)
    variance = max(float(np.square(residuals - residuals.mean(axis=0)).sum(axis=1).mean()), np.finfo(np.float32).tiny)
    centroids, codes, errors = [], [], []
    for level in track(range(max_levels), "Levels of codes", total=max_levels):
        with warnings.catch_warnings():
            # what the levels before hit exactly is all zeros by now, and fewer than K residuals may be left
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = KMeans(k, n_init=1, max_iter=ITERATIONS, random_state=seed + level).fit(residuals).cluster_centers_
        centroids.append(found.astype(np.float32))
        codes.append(_step(residuals, centroids[-1]))
        errors.append(float(np.square(residuals, dtype=np.float64).sum(axis=1).mean()) / variance)
        unique = len(np.unique(np.stack(codes, axis=1), axis=0))
        logger.debug("level %d: error %.4f, %d unique codes of %d.", level + 1, errors[-1], unique, len(vectors))
        if unique == len(vectors):
            break
    return Quantiser(np.stack(centroids), tuple(errors)), np.stack(codes, axis=1)


def _step(residuals: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each residual, which is taken from it in place."""
    # about the centroids' own mean, or single precision can't tell small differences of large values
    middle = centroids.mean(axis=0)
    about = centroids - middle
    nearest = (np.square(about).sum(axis=1) - 2 * (residuals - middle) @ about.T).argmin(axis=1)
    residuals -= centroids[nearest]
    return nearest.astype(np.int16)
