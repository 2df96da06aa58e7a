"""A random forest from a perturbation's features to the programs of its effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.from_features.bilinear import programs_of
from stateshift.effects.from_features.feature_space import FeatureSpace, target_deviations, to_exact_sums
from stateshift.effects.main_effects import MainEffects, fit_main_effects
from stateshift.feature_table import FeatureTable

PROGRAMS, DIRECTIONS, TREES, LEAF = 16, 32, 100, 3


@dataclass
class Forest:
    """Context main effect plus the programs that trees find in features.

    Parameters
    ----------
    main
        Main effects of the training rows.
    space
        Standardises features.
    axes
        Array (F, D): the leading directions of the training perturbations' features.
    trees
        The fitted forest; None where the deviations are all zero.
    programs
        Array (K, G).
    """

    main: MainEffects
    space: FeatureSpace
    axes: np.ndarray
    trees: Any
    programs: np.ndarray

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G)."""
        if not len(perturbations):
            return np.zeros((0, len(self.main.overall)), dtype=np.float32)
        effects = self.main.of_contexts(contexts)
        if self.trees is not None:
            scores = self.trees.predict(self.space(perturbations) @ self.axes)
            effects = effects + scores.reshape(len(perturbations), -1) @ self.programs
        return effects.astype(np.float32)

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``features`` for every row."""
        return ["features"] * len(perturbations)


def fit_forest(
    train: EffectTable, features: FeatureTable | None, seed: int = 0, main: MainEffects | None = None
) -> Forest:
    """`TREES` trees (Breiman, Machine Learning 45, 5, 2001) from leading directions of features to leading programs.

    What is unmeasured counts as the main effect; the rows' `main` effects, where given, are taken as they are.

    Raises
    ------
    StateshiftError
        Features are missing for a training perturbation; genes are named.
    """
    from sklearn.ensemble import RandomForestRegressor

    main = main or fit_main_effects(train)
    names, deviations = target_deviations(main)
    space = FeatureSpace.of(features, names, "forest")
    scores, programs, _ = programs_of(np.nan_to_num(deviations), PROGRAMS)
    points = space(names)
    *_, axes = np.linalg.svd(points, full_matrices=False)
    axes = axes[:DIRECTIONS].T
    if not scores.shape[1]:
        return Forest(main, space, axes, None, programs)
    trees = RandomForestRegressor(TREES, min_samples_leaf=LEAF, max_features="sqrt", random_state=seed)
    answers = to_exact_sums(scores if scores.shape[1] > 1 else scores.ravel())
    return Forest(main, space, axes, trees.fit(points @ axes, answers), programs)
