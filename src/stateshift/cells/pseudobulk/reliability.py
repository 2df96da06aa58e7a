"""How well an effect repeats: two random halves of its cells against each other."""

from __future__ import annotations

import numpy as np

LEAST_CELLS = 10
"""Perturbed cells, and control cells behind them, under which no reliability is given."""


def random_halves(groups: np.ndarray, seed: int) -> np.ndarray:
    """0 or 1 for each cell, dealt in turn within its group in random order.

    Neighbouring groups go on in turn, so that sizes differ by at most one in any run of groups too: in the
    batches of a context and in the context itself.

    Parameters
    ----------
    groups
        Array (n,) of whole numbers.
    seed
        Draws the order.

    Examples
    --------
    >>> half = random_halves(np.array([0, 0, 0, 0, 1, 1]), seed=0)
    >>> half[:4].sum(), half[4:].sum()
    (np.int64(2), np.int64(1))
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(groups)), groups))
    half = np.empty(len(groups), dtype=np.intp)
    half[order] = np.arange(len(groups)) % 2
    return half


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two vectors; NaN where either is constant or holds NaN.

    Examples
    --------
    >>> round(correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.5])), 4)
    0.9979
    """
    a, b = a - a.mean(), b - b.mean()
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length > 0 else float("nan")


def spearman_brown(reliability: np.ndarray) -> np.ndarray:
    """The reliability of all cells from that of halves: 2r / (1 + r).

    W. Brown, Br. J. Psychol. 3, 296 (1910); C. Spearman, ibid. 271. NaN where r is not above zero, for which
    the formula says nothing.

    Examples
    --------
    >>> spearman_brown(np.array([0.5, 1.0, -0.2])).round(3)
    array([0.667, 1.   ,   nan])
    """
    r = np.asarray(reliability, dtype=np.float64)
    return np.where(r > 0, 2 * r / (1 + np.where(r > 0, r, 0)), np.nan)


def second_experiment(halves: np.ndarray) -> float:
    """The correlation that a second experiment of the same size reaches with the first, in the mean over pairs.

    The mean of 2r / (1 + |r|), which is Spearman and Brown's formula for r ≥ 0. Pairs differ in how well they repeat, so
    the formula of their mean would be too high; carried on below zero as an odd function it leaves the noise about zero
    of pairs without an effect where it is, in the middle.

    Parameters
    ----------
    halves
        (R,): correlation of two halves of each pair's cells; NaN where there is none.

    Returns
    -------
    float
        NaN where no pair has a correlation.

    Examples
    --------
    >>> second_experiment(np.array([0.0, 1.0, np.nan]))
    0.5
    """
    r = np.asarray(halves, dtype=np.float64)
    r = r[np.isfinite(r)]
    return float((2 * r / (1 + np.abs(r))).mean()) if len(r) else float("nan")
