"""Ridge regression from a perturbation's features to its effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.from_features.feature_space import (
    FeatureSpace,
    first_least,
    gene_folds,
    in_row_space,
    target_deviations,
)
from stateshift.effects.main_effects import MainEffects, fit_main_effects, genes_by_rows
from stateshift.feature_table import FeatureTable

# Largest first: where the folds can't tell two penalties apart, the stronger is taken.
ALPHAS = tuple(float(a) for a in np.logspace(4, -3, 15))


@dataclass
class Ridge:
    """Context main effect plus a linear map of the standardised features.

    Parameters
    ----------
    main
        Main effects of the training rows.
    space
        Standardises features.
    axes, coefficients
        Arrays (F, R) and (R, G), R at most the number of training perturbations; their product leads from
        standardised features to the deviation from the context main effect.
    alpha
        The penalty that the inner folds chose.
    """

    main: MainEffects
    space: FeatureSpace
    axes: np.ndarray
    coefficients: np.ndarray
    alpha: float

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G)."""
        if not len(perturbations):
            return np.zeros((0, len(self.main.overall)), dtype=np.float32)
        deviation = self.space(perturbations) @ self.axes @ self.coefficients
        return (self.main.of_contexts(contexts) + deviation).astype(np.float32)

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``features`` for every row."""
        return ["features"] * len(perturbations)


def fit_ridge(
    train: EffectTable,
    features: FeatureTable | None,
    seed: int = 0,
    alpha: float | None = None,
    main: MainEffects | None = None,
) -> Ridge:
    """Ridge of the targets' main effects on their standardised features, each target counted once.

    The penalty has the smallest squared error over inner folds of the training rows that leave
    genes out (`gene_folds`); a strong penalty ends at the context main effect. A gene is fitted on the targets that
    measure it, exactly: one small system for all genes that the same targets measure. An `alpha` that is given is
    taken as it is, and so are the rows' `main` effects.

    Raises
    ------
    StateshiftError
        Features are missing for a training perturbation; genes are named.
    """
    main = main or fit_main_effects(train)
    names, deviations = target_deviations(main)
    space = FeatureSpace.of(features, names, "ridge")
    points = space(names)
    # Ridge is unchanged by a rotation: P coordinates in the row space of the points and of the
    # effects stand for F features and G genes, so that the folds cost P³ and not P·F·G.
    left, singular, axes = np.linalg.svd(points, full_matrices=False)
    coordinates = left * singular
    if np.isnan(deviations).any():
        if alpha is None:
            alpha = _choose_alpha_partly(points @ points.T, deviations, gene_folds(names, seed))
        return Ridge(main, space, axes.T, _coefficients_partly(coordinates, deviations, alpha), alpha)
    if alpha is None:
        alpha = _choose_alpha(coordinates, in_row_space(deviations), gene_folds(names, seed))
    coefficients = (singular / (singular**2 + alpha))[:, None] * (left.T @ deviations)
    return Ridge(main, space, axes.T, coefficients, alpha)


def ridge_map(train: EffectTable, features: FeatureTable, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ridge model for no context in particular, as one affine map of the raw features.

    Returns
    -------
    tuple
        ``down`` (F, R), ``up`` (R, G) and ``intercept`` (G,), float32, with effect ≈ features @ down @ up +
        intercept, log1p scale. R is at most the number of training perturbations, so that the map of 5,120
        features to 18,080 genes stays small. With one perturbation the map is zero and the intercept its
        mean effect.
    """
    model = fit_ridge(train, features, seed)
    down = model.axes / (model.space.scale * np.sqrt(model.space.table.width))[:, None]
    intercept = model.main.overall - model.space.centre @ down @ model.coefficients
    return down.astype(np.float32), model.coefficients.astype(np.float32), intercept.astype(np.float32)


def ridge_map_beyond(
    known: tuple[np.ndarray, np.ndarray, np.ndarray], train: EffectTable, features: FeatureTable, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A map that is known from other cells, and the `ridge_map` of what it misses of these effects.

    The known map counts as far as it fits: its weight is the least-squares coefficient of the training effects on what
    it says of them, between 0 (it says nothing of these cells) and 1 (its shrinkage is never undone).

    Parameters
    ----------
    known
        ``down`` (F, K), ``up`` (K, G) and ``intercept`` (G,), as of `ridge_map`; zeros where nothing is known.

    Returns
    -------
    tuple
        ``down`` (F, K + R), ``up`` (K + R, G), ``intercept`` (G,), float32, and the known map's weight.
    """
    down, up, intercept = known
    if not (down.any() or intercept.any()):
        return *ridge_map(train, features, seed), 0.0
    said = features.matrix(train.perturbations) @ down @ up + intercept
    weight = float(np.clip(np.vdot(said, train.effects) / np.vdot(said, said), 0, 1)) if said.any() else 0.0
    rest = ridge_map(replace(train, effects=train.effects - np.float32(weight) * said), features, seed)
    return (
        np.hstack([down, rest[0]]),
        np.vstack([np.float32(weight) * up, rest[1]]),
        np.float32(weight) * intercept + rest[2],
        weight,
    )


def _choose_alpha(points: np.ndarray, deviations: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The penalty of least squared error over the folds; one decomposition a fold serves all penalties."""
    errors = np.zeros(len(ALPHAS))
    for fit, held in folds:
        centre, mean = points[fit].mean(axis=0), deviations[fit].mean(axis=0)
        left, singular, axes = np.linalg.svd(points[fit] - centre, full_matrices=False)
        answers, questions = left.T @ (deviations[fit] - mean), (points[held] - centre) @ axes.T
        for i, alpha in enumerate(ALPHAS):
            predicted = (questions * (singular / (singular**2 + alpha))) @ answers + mean
            errors[i] += ((predicted - deviations[held]) ** 2).sum()
    return ALPHAS[first_least(errors)]


def _choose_alpha_partly(products: np.ndarray, deviations: np.ndarray, folds: list) -> float:
    """As `_choose_alpha`, from products (P, P) of the points: a gene's targets are few, so its system is small."""
    errors = np.zeros(len(ALPHAS))
    for fit, held in folds:
        for rows, genes in genes_by_rows(~np.isnan(deviations[fit])):
            of = fit[rows]
            values = deviations[np.ix_(of, genes)]
            mean = values.mean(axis=0) if len(of) else np.zeros(len(genes))
            eigenvalues, vectors = np.linalg.eigh(products[np.ix_(of, of)])
            turned, asked = vectors.T @ (values - mean), products[np.ix_(held, of)] @ vectors
            for i, alpha in enumerate(ALPHAS):
                predicted = asked @ (turned / (eigenvalues + alpha)[:, None]) + mean
                errors[i] += np.nansum((predicted - deviations[np.ix_(held, genes)]) ** 2)
    return ALPHAS[first_least(errors)]


def _coefficients_partly(coordinates: np.ndarray, deviations: np.ndarray, alpha: float) -> np.ndarray:
    """Coefficients (R, G), each gene's from the rows that measure it: Xᵀ (X Xᵀ + α)⁻¹ y."""
    coefficients = np.zeros((coordinates.shape[1], deviations.shape[1]))
    for rows, genes in genes_by_rows(~np.isnan(deviations)):
        X = coordinates[rows]
        dual = np.linalg.solve(X @ X.T + alpha * np.eye(len(rows)), deviations[np.ix_(rows, genes)])
        coefficients[:, genes] = X.T @ dual
    return coefficients
