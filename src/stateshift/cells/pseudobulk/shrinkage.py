"""Effects drawn to zero by how little is known of them: empirical Bayes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def shrink_effects(
    effects: np.ndarray,
    standard_error: np.ndarray,
    contexts: Sequence[str],
    n_cells: np.ndarray | None = None,
) -> np.ndarray:
    """Posterior means of effects that are normal about zero, seen with normal error.

    For gene g in a context, an effect y(p) of standard error s(p) stands for a true effect θ(p):

        y(p) ~ N(θ(p), s(p)²),    θ(p) ~ N(0, τ²),    shrunk(p) = τ² / (τ² + s(p)²) · y(p)

    (Efron & Morris, J. Am. Stat. Assoc. 70, 311, 1975). τ² is the generalised method of moments with
    fixed weights (DerSimonian & Kacker, Contemp. Clin. Trials 28, 105, 2007, their equation 6 with the mean
    known to be zero), over the perturbations of the context:

        τ² = max(0, Σ a(p) (y(p)² − s(p)²) / Σ a(p)),    a(p) = n(p) / (n(p) + median n).

    The weights look at the number of cells alone: 1/s² would favour rows whose few cells happen to
    agree. So few cells shrink more, s = 0 shrinks nothing, and a gene no perturbation moves by more than its
    error is shrunk to zero. With few perturbations in a context τ² is itself uncertain; with one, the result is the
    positive part of (1 − s²/y²) · y.

    Parameters
    ----------
    effects, standard_error
        Arrays (R, G); where either is NaN so is the result.
    contexts
        R names; each context has a τ² of its own for every gene.
    n_cells
        Array (R,): weights for τ²; without it the rows weigh alike.

    Returns
    -------
    np.ndarray
        (R, G) float32.

    Examples
    --------
    >>> shrink_effects(np.array([[2.0], [-2.0]]), np.array([[1.0], [1.0]]), ["c", "c"])
    array([[ 1.5],
           [-1.5]], dtype=float32)
    """
    shrunk = np.empty(effects.shape, dtype=np.float32)
    contexts = np.asarray(contexts, dtype=str)
    for context in np.unique(contexts):
        rows = np.flatnonzero(contexts == context)
        n = np.ones(len(rows)) if n_cells is None else n_cells[rows].astype(np.float64)
        y, variance = effects[rows], standard_error[rows] ** 2
        spread = between_variance(y, variance, n / (n + np.median(n)))
        kept = np.divide(spread, spread + variance, out=np.ones_like(y, dtype=np.float64), where=~(variance == 0))
        shrunk[rows] = kept * y
    return shrunk


def between_variance(effects: np.ndarray, variance: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """τ² of each gene (G,) as `shrink_effects` has it; zero where nothing is measured.

    Parameters
    ----------
    effects, variance
        Arrays (P, G): effects and their squared standard errors.
    weights
        Array (P,).
    """
    beyond_error = effects.astype(np.float64) ** 2 - variance
    known = ~np.isnan(beyond_error)
    summed = weights @ np.where(known, beyond_error, 0.0)
    total = weights @ known
    return np.maximum(np.divide(summed, total, out=np.zeros(effects.shape[1]), where=total > 0), 0.0)
