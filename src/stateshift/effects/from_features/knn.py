"""Effects of the nearest training perturbations in feature space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.from_features.feature_space import (
    FeatureSpace,
    first_least,
    gene_folds,
    in_row_space,
    target_deviations,
)
from stateshift.effects.main_effects import MainEffects, fit_main_effects
from stateshift.feature_table import FeatureTable

# Largest first: where the folds can't tell two sizes apart, the broader neighbourhood is taken.
NEIGHBOURS = (64, 32, 16, 8, 5, 3, 2, 1)


@dataclass
class Knn:
    """Context main effect plus the neighbours' mean deviation, weighted by cosine.

    Parameters
    ----------
    main
        Main effects of the training rows.
    space
        Standardises features.
    points
        Array (P, F): the training perturbations in that space.
    deviations
        Array (P, G): their deviations from the context main effect; NaN where unmeasured.
    k
        The number of neighbours that the inner folds chose.
    """

    main: MainEffects
    space: FeatureSpace
    points: np.ndarray
    deviations: np.ndarray
    k: int

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G)."""
        if not len(perturbations):
            return np.zeros((0, len(self.main.overall)), dtype=np.float32)
        weights = neighbour_weights(self.space(perturbations), self.points, self.k)
        return (self.main.of_contexts(contexts) + weighted_mean(weights, self.deviations)).astype(np.float32)

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``features``, or ``fallback`` where no training perturbation points the same way."""
        if not len(perturbations):
            return []
        weights = neighbour_weights(self.space(perturbations), self.points, self.k)
        return ["features" if row.any() else "fallback" for row in weights]


def fit_knn(
    train: EffectTable,
    features: FeatureTable | None,
    seed: int = 0,
    k: int | None = None,
    main: MainEffects | None = None,
) -> Knn:
    """Neighbours among the training perturbations; their number by inner folds that leave genes out, unless it is given.

    The rows' `main` effects, where given, are taken as they are.

    Raises
    ------
    StateshiftError
        Features are missing for a training perturbation; its genes are named.
    """
    main = main or fit_main_effects(train)
    names, deviations = target_deviations(main)
    space = FeatureSpace.of(features, names, "knn")
    points = space(names)
    if k is None:
        k = _choose_size(points, deviations, gene_folds(names, seed))
    return Knn(main, space, points, deviations, k)


def _choose_size(points: np.ndarray, deviations: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """The number of neighbours of least squared error over the folds."""
    sizes = [k for k in NEIGHBOURS if k < len(points)] or [1]
    errors = np.zeros(len(sizes))
    if not np.isnan(deviations).any():
        deviations = in_row_space(deviations)
    for fit, held in folds:
        for i, k in enumerate(sizes):
            predicted = weighted_mean(neighbour_weights(points[held], points[fit], k), deviations[fit])
            errors[i] += np.nansum((predicted - deviations[held]) ** 2)
    return sizes[first_least(errors)]


def neighbour_weights(queries: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
    """Weights (Q, P) of the k points of largest cosine to each query; a row sums to one.

    Points at a cosine of zero or below get no weight, and a query without any other gets a row of zeros.

    Examples
    --------
    >>> points = np.array([[2.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])
    >>> neighbour_weights(np.array([[1.0, 0.0]]), points, k=3).round(3)
    array([[0.586, 0.414, 0.   ]])
    """
    cosine = np.maximum(_unit(queries) @ _unit(points).T, 0.0)
    k = min(k, len(points))
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    weights = np.zeros_like(cosine)
    np.put_along_axis(weights, nearest, np.take_along_axis(cosine, nearest, axis=1), axis=1)
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 1e-12)


def weighted_mean(weights: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Deviations (Q, G) by weights (Q, P), of the points that measure a gene; zero where none has any weight.

    Examples
    --------
    >>> weighted_mean(np.array([[0.75, 0.25]]), np.array([[1.0, np.nan, np.nan], [5.0, 5.0, np.nan]]))
    array([[2., 5., 0.]])
    """
    measured = ~np.isnan(deviations)
    if measured.all():
        return weights @ deviations
    summed, total = weights @ np.where(measured, deviations, 0.0), weights @ measured
    return np.divide(summed, total, out=np.zeros_like(summed), where=total > 1e-12)


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-12)
