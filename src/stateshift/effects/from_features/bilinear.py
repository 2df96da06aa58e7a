"""Programs of effects on one side, features of perturbations on the other."""

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
from stateshift.effects.from_features.ridge import ALPHAS
from stateshift.effects.main_effects import MainEffects, fit_main_effects
from stateshift.feature_table import FeatureTable

PROGRAMS = (1, 2, 4, 8, 16, 32, 64)
STRENGTHS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.0)
"""Penalties on programs, as shares of the mean program's squared size."""


@dataclass
class Bilinear:
    """Context main effect plus features · coefficients · programs.

    Parameters
    ----------
    main
        Main effects of the training rows.
    space
        Standardises features.
    coefficients
        Array (F, K): from standardised features to program scores.
    programs
        Array (K, G), of unit length, the strongest first.
    alpha, strength, k
        The penalties and the number of programs that the inner folds chose.
    """

    main: MainEffects
    space: FeatureSpace
    coefficients: np.ndarray
    programs: np.ndarray
    alpha: float
    strength: float
    k: int

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G)."""
        if not len(perturbations):
            return np.zeros((0, len(self.main.overall)), dtype=np.float32)
        deviation = self.space(perturbations) @ self.coefficients @ self.programs
        return (self.main.of_contexts(contexts) + deviation).astype(np.float32)

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``features`` for every row."""
        return ["features"] * len(perturbations)


def fit_bilinear(
    train: EffectTable,
    features: FeatureTable | None,
    seed: int = 0,
    alpha: float | None = None,
    strength: float | None = None,
    k: int | None = None,
    main: MainEffects | None = None,
) -> Bilinear:
    """Y ≈ X W B in closed form, with a ridge penalty on either side.

    Y (P, G) are the targets' deviations, X (P, F) their standardised features, and B (K, G) the leading K programs
    of Y's singular value decomposition, each as long as its singular value s(k). Then

        W = (XᵀX + αI)⁻¹ Xᵀ Y Bᵀ (B Bᵀ + μI)⁻¹,

    (the linear model of Ahlmann-Eltze et al., Nature Methods 2025, its embedding of genes being the programs), so
    that a program counts s²/(s² + μ): weak ones, which are mostly noise, are drawn to zero. α, K and μ have the
    smallest squared error over inner folds that leave genes out (`gene_folds`); μ is ``strength`` times the mean s²
    of the programs. What is unmeasured counts as the main effect. Penalties, and the rows' `main`
    effects, are taken as they are where given.

    Raises
    ------
    StateshiftError
        Features are missing for a training perturbation; genes are named.
    """
    main = main or fit_main_effects(train)
    names, deviations = target_deviations(main)
    deviations = np.nan_to_num(deviations)
    space = FeatureSpace.of(features, names, "bilinear")
    points = space(names)
    if alpha is None or strength is None or k is None:
        left, singular, _ = np.linalg.svd(points, full_matrices=False)
        grids = [
            choices if given is None else (given,)
            for given, choices in ((alpha, ALPHAS), (strength, STRENGTHS), (k, PROGRAMS))
        ]
        alpha, strength, k = _choose(left * singular, in_row_space(deviations), gene_folds(names, seed), *grids)
    scores, programs, squares = programs_of(deviations, k)
    kept = shrinkage(squares, strength)
    left, singular, axes = np.linalg.svd(points, full_matrices=False)
    coefficients = axes.T @ ((singular / (singular**2 + alpha))[:, None] * (left.T @ (scores * kept)))
    return Bilinear(main, space, coefficients, programs, alpha, strength, k)


def programs_of(deviations: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The leading programs of deviations (P, G).

    Returns
    -------
    tuple
        Scores (P, K), programs (K, G) of unit length, and their squared singular values (K,), the largest first. K
        is `k`, or fewer where the deviations have fewer.
    """
    from scipy.linalg import eigh

    P = len(deviations)
    k = min(k, *deviations.shape)
    squares, vectors = eigh(deviations @ deviations.T, subset_by_index=[P - k, P - 1])
    kept = np.flatnonzero(squares > 1e-10 * squares[-1])[::-1]
    scores = vectors[:, kept] * np.sqrt(squares[kept])
    return scores, (vectors[:, kept] / np.sqrt(squares[kept])).T @ deviations, squares[kept]


def shrinkage(squares: np.ndarray, strength: float) -> np.ndarray:
    """s² / (s² + μ) of programs, μ being `strength` times their mean s²."""
    return squares / (squares + strength * squares.mean()) if len(squares) else squares


def _choose(
    points: np.ndarray,
    deviations: np.ndarray,
    folds: list,
    alphas: Sequence[float],
    strengths: Sequence[float],
    ks: Sequence[int],
) -> tuple[float, float, int]:
    """Of these α, strengths and K those of least squared error over the folds.

    Programs are at right angles, so that each adds its own part to the error.
    """
    errors = np.zeros((len(alphas), len(ks), len(strengths)))
    for fit, held in folds:
        centre, mean = points[fit].mean(axis=0), deviations[fit].mean(axis=0)
        scores, programs, squares = programs_of(deviations[fit] - mean, max(ks))
        left, singular, axes = np.linalg.svd(points[fit] - centre, full_matrices=False)
        answers, questions = left.T @ scores, (points[held] - centre) @ axes.T
        true = (deviations[held] - mean) @ programs.T
        for a, alpha in enumerate(alphas):
            predicted = (questions * (singular / (singular**2 + alpha))) @ answers
            size, agreement = (predicted**2).sum(axis=0), (predicted * true).sum(axis=0)
            for j, k in enumerate(ks):
                for i, strength in enumerate(strengths):
                    kept = shrinkage(squares[:k], strength)
                    errors[a, j, i] += kept**2 @ size[:k] - 2 * kept @ agreement[:k]
    # the error of the mean is the same for all of them, and makes a tie a matter of shares
    total = sum(((deviations[held] - deviations[fit].mean(axis=0)) ** 2).sum() for fit, held in folds)
    a, j, i = np.unravel_index(first_least((errors + total).ravel()), errors.shape)
    return alphas[a], strengths[i], ks[j]
