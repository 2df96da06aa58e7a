"""Nearest neighbours, by hand and against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.from_features.feature_space import gene_folds
from stateshift.effects.from_features.knn import NEIGHBOURS, fit_knn, neighbour_weights, weighted_mean
from stateshift.feature_table import FeatureTable


def screen(P: int = 60, F: int = 6, G: int = 80, noise: float = 1.0):
    """Effects that features tell, and noise."""
    rng = np.random.default_rng(3)
    names = [f"T{i:03d}" for i in range(P)]
    features = FeatureTable(names, rng.normal(size=(P, F)))
    effects = features.vectors @ rng.normal(size=(F, G)) + noise * rng.normal(size=(P, G))
    table = EffectTable([f"g{j}" for j in range(G)], names, ["x"] * P, effects.astype(np.float32), None, {})
    return table, features


def by_sklearn(points: np.ndarray, deviations: np.ndarray, asked: np.ndarray, k: int) -> np.ndarray:
    """Neighbours by cosine, weighted by it as far as it is above zero."""
    regressor = KNeighborsRegressor(k, metric="cosine", weights=lambda distance: np.maximum(1 - distance, 1e-15))
    return regressor.fit(points, deviations).predict(asked)


@pytest.mark.parametrize("noise", [1.0, 8.0])
def test_the_number_of_neighbours_is_that_of_scikit_learns_least_error_over_the_folds(noise):
    train, features = screen(noise=noise)
    model = fit_knn(train, features)
    names = list(model.main.targets)
    points, deviations = model.space(names), np.stack(list(model.main.targets.values()))

    def error(k: int) -> float:
        folds = gene_folds(names)
        return sum(((by_sklearn(points[f], deviations[f], points[h], k) - deviations[h]) ** 2).sum() for f, h in folds)

    assert model.k == min((k for k in NEIGHBOURS if k <= 48), key=error)
    assert 1 < model.k < 48
    expected = model.main.of_contexts(["x"]) + by_sklearn(points, deviations, points[4:5], model.k)
    assert model.predict([names[4]], ["x"]) == pytest.approx(expected, abs=1e-5)


def test_weights_of_a_query_sum_to_one_however_far_its_neighbours_lie():
    points = np.array([[0.2, 0.0], [0.0, 0.01], [-5.0, 0.0]])
    # cosines 0.6 and 0.8
    assert neighbour_weights(np.array([[0.3, 0.4]]), points, k=3) == pytest.approx(np.array([[3 / 7, 4 / 7, 0]]))
    assert neighbour_weights(np.array([[0.3, 0.4]]), points, k=1) == pytest.approx(np.array([[0, 1, 0]]))
    assert neighbour_weights(np.array([[0.0, -1.0], [0.0, 0.0]]), points, k=2).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_points_that_do_not_measure_a_gene_leave_their_weight_to_the_others():
    found = weighted_mean(np.array([[0.75, 0.25]]), np.array([[1.0, np.nan, np.nan], [5.0, 5.0, np.nan]]))
    assert found == pytest.approx(np.array([[2, 5, 0]]))


def test_genes_that_some_targets_measure_take_part_in_the_choice_of_neighbours():
    train, features = screen()
    whole = fit_knn(train, features)
    train.effects[np.random.default_rng(0).random(train.effects.shape) < 0.05] = np.nan
    partly = fit_knn(train, features)
    assert partly.k == whole.k
    apart = partly.predict(["T003"], ["x"]) - whole.predict(["T003"], ["x"])
    assert np.abs(apart).mean() < 0.1 * np.nanstd(train.effects)


def test_a_number_of_neighbours_that_is_given_is_taken():
    train, features = screen()
    assert fit_knn(train, features, k=7).k == 7
