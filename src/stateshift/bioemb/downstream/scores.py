"""Scores of predictions, and intervals from resampling names or whole groups of them.

Letters of shapes: N names tested, W weightings (resamples), C questions.
"""

from __future__ import annotations

import numpy as np

MEASURES = {"binary": "AUROC", "multiclass": "accuracy", "regression": "RMSE", "calls": "AUROC"}
LOWER_IS_BETTER = ("RMSE",)
DRAWS = 1000


def scores(task: str, truth: np.ndarray, said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The measure of a task (`MEASURES`) under each weighting of the names.

    Parameters
    ----------
    task
        One of `MEASURES`; ``calls`` is the mean AUROC of the questions that have both answers.
    truth
        (N,), or (N, C) of 0, 1 and NaN for ``calls``.
    said
        (N,), or (N, C) for ``multiclass`` and ``calls``.
    weights
        (W, N): how often each name counts.

    Returns
    -------
    ndarray
        (W,).

    Examples
    --------
    >>> scores("binary", np.array([0, 1, 1]), np.array([0.1, 0.9, 0.1]), np.ones((1, 3))).tolist()
    [0.75]
    """
    if task == "binary":
        return auroc(truth, said, weights)
    if task == "multiclass":
        return _mean(said.argmax(axis=1) == truth, weights)
    if task == "regression":
        return np.sqrt(_mean(np.square(said - truth), weights))
    known = ~np.isnan(truth)
    each = [
        auroc(truth[known[:, c], c], said[known[:, c], c], weights[:, known[:, c]])
        for c in range(truth.shape[1])
        if len(np.unique(truth[known[:, c], c])) == 2
    ]
    return np.nanmean(each, axis=0) if each else np.full(len(weights), np.nan)


def auroc(truth: np.ndarray, said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve (W,) under each weighting (W, N), ties counting half; NaN without both classes."""
    order = np.argsort(said, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(said[order]) != 0])
    positive = np.add.reduceat(weights[:, order] * (truth[order] == 1), starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * (truth[order] == 0), starts, axis=1)
    below = negative.cumsum(axis=1) - negative
    won = (positive * (below + negative / 2)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _mean(each: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means (W,) of (N,); NaN where a resample holds none of the names tested."""
    total = weights.sum(axis=1)
    return np.divide(weights @ each, total, out=np.full(len(weights), np.nan), where=total > 0)


def resamples(count: int, groups: np.ndarray | None, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Weights (1 + draws, count): first all ones, then how often a resample with replacement holds each name.

    Groups are drawn whole (Davison & Hinkley 1997, section 3.8).
    """
    group = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    K = int(group.max()) + 1
    picks = np.random.default_rng(seed).multinomial(K, np.full(K, 1 / K), size=draws)
    return np.concatenate([np.ones((1, count)), picks[:, group]])
