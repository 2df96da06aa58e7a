"""A random forest from a perturbation's features to the programs of its effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.calls.rows import Rows
from stateshift.effects.from_features.feature_space import to_exact_sums
from stateshift.feature_table import FeatureTable

PROGRAMS, TREES, LEAF = 32, 200, 5


@dataclass
class Forest:
    """Trees over features and contexts, programs back to genes.

    Parameters
    ----------
    rows
        The training rows.
    trees
        The fitted forest.
    programs
        Array (K, G) that leads from programs to genes.
    """

    rows: Rows
    trees: Any
    programs: np.ndarray

    def scores(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Deviations from the gene means (Q, G) float32."""
        predicted = self.trees.predict(_inputs(self.rows, self.rows.points(perturbations), contexts))
        return (predicted.reshape(len(perturbations), -1) @ self.programs).astype(np.float32)


def fit_forest(
    train: EffectTable, features: FeatureTable, response_features: FeatureTable | None, across: bool = False
) -> Forest:
    """`TREES` trees (Breiman 2001) on the leading programs of the residuals; what is unmeasured counts as the mean."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.utils.extmath import randomized_svd

    rows = Rows.of(train, features, None)
    n = min(PROGRAMS, *rows.residuals.shape)
    left, singular, programs = randomized_svd(rows.residuals, n, random_state=0)
    trees = RandomForestRegressor(TREES, min_samples_leaf=LEAF, max_features="sqrt", random_state=0)
    trees.fit(_inputs(rows, rows.targets, train.contexts), to_exact_sums(left * singular))
    return Forest(rows, trees, programs)


def _inputs(rows: Rows, points: np.ndarray, contexts: Sequence[str]) -> np.ndarray:
    """Features beside one column a context (R, F + C)."""
    return np.concatenate([points, np.array([[c == known for known in rows.contexts] for c in contexts])], axis=1)
