"""The small measures everything shares: row-wise errors, Pearson delta, discrimination, paired bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Distance = Literal["l1", "l2", "cosine"]
# below this the percentiles of a bootstrap are no interval
FEWEST_GROUPS = 5


def pearson_delta(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Pearson correlation of predicted and true effects over genes, one value a perturbation.

    Parameters
    ----------
    predicted, true
        Effects (P, G): perturbed mean minus control mean.

    Returns
    -------
    np.ndarray
        (P,); NaN where either row is constant, since no correlation is defined there.

    Examples
    --------
    >>> pearson_delta([[1, 2, 3], [0, 0, 0]], [[2, 4, 6], [1, 2, 3]])
    array([ 1., nan])
    """
    predicted, true = _paired_rows(predicted, true)
    constant = (np.ptp(predicted, axis=1) == 0) | (np.ptp(true, axis=1) == 0)
    x = predicted - predicted.mean(axis=1, keepdims=True)
    y = true - true.mean(axis=1, keepdims=True)
    size = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    size[constant | (size == 0)] = np.nan
    return np.clip((x * y).sum(axis=1) / size, -1.0, 1.0)


def mae(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mean absolute error over genes, (P,), in the unit of the rows (P, G).

    Examples
    --------
    >>> mae([[1, 2]], [[0, 4]])
    array([1.5])
    """
    predicted, true = _paired_rows(predicted, true)
    return np.abs(predicted - true).mean(axis=1)


def mse(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mean squared error over genes, (P,), in the squared unit of the rows (P, G).

    Examples
    --------
    >>> mse([[1, 2]], [[0, 4]])
    array([2.5])
    """
    predicted, true = _paired_rows(predicted, true)
    return ((predicted - true) ** 2).mean(axis=1)


def discrimination(
    predicted: np.ndarray,
    true: np.ndarray,
    distance: Distance = "l1",
    left_out: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """Perturbation discrimination score: how near its own true effect a prediction lies among all true ones.

    ``1 − rank / P``, the rank counting the true effects nearer to the prediction than its own (0 is best),
    as ``discrimination_score_*`` of cell-eval 0.8.2. True effects as far away as the own one count half
    each (midrank); cell-eval leaves such ties to the order of ``argsort``, so that a prediction equally far
    from everything scores by the alphabet there and about 0.5 here. Without ties the two are equal.

    Parameters
    ----------
    predicted, true
        Effects (P, G), row i of both belonging to perturbation i.
    distance
        ``l1``, ``l2`` or ``cosine``; a row of zeros has cosine distance 1 to everything.
    left_out
        For each perturbation the columns to leave out: its target genes, whose knock-down gives it away.

    Returns
    -------
    np.ndarray
        (P,) in (0, 1]; NaN where there are fewer than two perturbations to tell apart.

    Examples
    --------
    >>> true = [[1.0, 0.0], [0.0, 1.0]]
    >>> discrimination([[0.9, 0.1], [0.9, 0.1]], true)
    array([1. , 0.5])
    """
    predicted, true = _paired_rows(predicted, true)
    count = len(true)
    if count < 2:
        return np.full(count, np.nan)
    left_out = [()] * count if left_out is None else left_out
    squares = (true * true).sum(axis=1)
    scores = np.empty(count)
    for i in range(count):
        columns = list(left_out[i])
        if distance == "cosine":
            far = _cosine_distances(true, squares, predicted[i], columns)
        else:
            far = _minkowski_distances(true, predicted[i], columns, distance)
        nearer, as_near = (far < far[i]).sum(), (far == far[i]).sum() - 1
        scores[i] = 1.0 - (nearer + as_near / 2) / count
    return scores


def group_auc(
    scores: np.ndarray, labels: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Area under the ROC curve within each group, ties counting half (Mann–Whitney).

    Parameters
    ----------
    scores
        Array (N,).
    labels
        Array (N,) of 0 and 1.
    groups
        Array (N,) of codes 0 … K − 1.
    weights
        How often each counts (N,); default once.

    Returns
    -------
    np.ndarray
        (K,); NaN where a group has one label alone.

    Examples
    --------
    >>> group_auc([0.1, 0.9, 0.5, 0.5, 0.3], [0, 1, 1, 0, 0], [0, 0, 1, 1, 2])
    array([1. , 0.5, nan])
    """
    return RankedGroups(scores, labels, groups).auc(weights)


class RankedGroups:
    """Scores ranked once within their groups, for the area under the ROC curve under many weights.

    Parameters
    ----------
    scores, labels, groups
        As `group_auc` takes them.
    """

    def __init__(self, scores: np.ndarray, labels: np.ndarray, groups: np.ndarray):
        scores, groups = np.asarray(scores, dtype=float), np.asarray(groups)
        self._order = np.lexsort((scores, groups))
        score, group = scores[self._order], groups[self._order]
        new = np.r_[True, (np.diff(score) != 0) | (np.diff(group) != 0)][: len(score)]
        self._tie, self._of_tie = np.cumsum(new) - 1, group[new]
        self._positive = np.asarray(labels)[self._order] > 0
        self._count = int(groups.max(initial=-1)) + 1

    def auc(self, weights: np.ndarray | None = None) -> np.ndarray:
        """The area of each group (K,), each score counting as often as its weight (N,); default once."""
        weights = np.ones(len(self._order)) if weights is None else np.asarray(weights, dtype=float)[self._order]
        ties = len(self._of_tie)
        positive = np.bincount(self._tie, weights * self._positive, ties)
        negative = np.bincount(self._tie, weights * ~self._positive, ties)
        positives, negatives = (np.bincount(self._of_tie, n, self._count) for n in (positive, negative))
        below = np.cumsum(negative) - negative - (np.cumsum(negatives) - negatives)[self._of_tie]
        won = np.bincount(self._of_tie, positive * (below + negative / 2), self._count)
        pairs = positives * negatives
        return np.divide(won, pairs, out=np.full(self._count, np.nan), where=pairs > 0)


@dataclass(frozen=True)
class Difference:
    """A mean paired difference and its bootstrap interval.

    Parameters
    ----------
    mean
        Mean of a − b over the pairs.
    low, high
        Percentile interval; NaN with fewer than `FEWEST_GROUPS` groups.
    pairs
        How many pairs both sides had a value for.
    groups
        How many groups these pairs come from: the number of independent things compared.
    """

    mean: float
    low: float
    high: float
    pairs: int
    groups: int


def paired_bootstrap(
    a: np.ndarray,
    b: np.ndarray,
    groups: Sequence[str] | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Mean of a − b with a percentile interval from resampling whole groups of pairs.

    The scores of one perturbation in several contexts are not independent. With the differences
    dᵢ = aᵢ − bᵢ, the sum S_k of those of group k and their number n_k, each draw takes K of the K groups with
    replacement, k₁ … k_K, all pairs of a group together, and its mean is

        (S_k₁ + … + S_k_K) / (n_k₁ + … + n_k_K)

    (Efron & Tibshirani 1993, ch. 13, for the percentiles; Davison & Hinkley 1997, section 3.8, for the groups).
    With fewer than `FEWEST_GROUPS` groups the draws are too few combinations to bound anything.

    Parameters
    ----------
    a, b
        Scores (R,) of two models on the same pairs; pairs with a NaN are left out.
    groups
        The group of each pair (R,), as its perturbation; by default every pair is a group of its own.
    draws, level, seed
        Resamples, coverage of the interval, and the seed that makes it repeatable.

    Examples
    --------
    >>> paired_bootstrap([2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    Difference(mean=1.0, low=1.0, high=1.0, pairs=5, groups=5)
    >>> paired_bootstrap([2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, 4.0, 5.0], groups=list("AABBC"))
    Difference(mean=1.0, low=nan, high=nan, pairs=5, groups=3)
    """
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    there = np.isfinite(difference)
    names = np.arange(len(difference)) if groups is None else np.asarray(groups)
    if names.shape != difference.shape:
        raise ValueError(f"one group a pair is needed, not {names.shape} for {difference.shape}")
    difference = difference[there]
    _, group = np.unique(names[there], return_inverse=True)
    sums, counts = np.bincount(group, weights=difference), np.bincount(group)
    mean = float(difference.mean()) if len(difference) else float("nan")
    if len(counts) < FEWEST_GROUPS:
        return Difference(mean, float("nan"), float("nan"), len(difference), len(counts))
    picks = np.random.default_rng(seed).integers(len(counts), size=(draws, len(counts)))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Difference(mean, float(low), float(high), len(difference), len(counts))


def _paired_rows(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if predicted.ndim != 2 or predicted.shape != true.shape:
        raise ValueError(f"two arrays (P, G) of one shape are needed, not {predicted.shape} and {true.shape}")
    return predicted, true


def _minkowski_distances(true: np.ndarray, row: np.ndarray, columns: list[int], distance: Distance) -> np.ndarray:
    from scipy.spatial.distance import cdist

    gap = np.abs(true[:, columns] - row[columns])
    if distance == "l1":
        return cdist(row[None], true, "cityblock")[0] - gap.sum(axis=1)
    return np.sqrt(np.maximum(cdist(row[None], true, "sqeuclidean")[0] - (gap * gap).sum(axis=1), 0))


def _cosine_distances(true: np.ndarray, squares: np.ndarray, row: np.ndarray, columns: list[int]) -> np.ndarray:
    row = row.copy()
    row[columns] = 0.0
    rest = squares - (true[:, columns] ** 2).sum(axis=1)
    # what is left of a row that was all target gene is rounding, not a direction
    rest = np.where(rest > 1e-12 * squares, rest, 0.0)
    size = np.sqrt(rest) * np.sqrt(row @ row)
    return 1.0 - np.divide(true @ row, size, out=np.zeros(len(true)), where=size > 0)
