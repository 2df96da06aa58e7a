"""Effect models on tables that measure some genes in some rows only."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from stateshift.cells import EffectTable
from stateshift.effects import fit_effect_models
from stateshift.effects.from_features.knn import fit_knn
from stateshift.effects.from_features.ridge import ALPHAS, _choose_alpha_partly, fit_ridge
from stateshift.effects.main_effects import fit_main_effects
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable

NAN = float("nan")


def table(rows: list[tuple[str, str, list[float]]]) -> EffectTable:
    effects = np.array([effect for *_, effect in rows], dtype=np.float32)
    genes = [f"g{i}" for i in range(effects.shape[1])]
    return EffectTable(genes, [p for p, *_ in rows], [c for _, c, _ in rows], effects, None, {})


PARTLY = table([("A", "x", [1.0, NAN]), ("A", "y", [3.0, 4.0]), ("B", "x", [NAN, 8.0])])


def test_means_are_of_the_rows_that_measure_a_gene():
    models = fit_effect_models(PARTLY, None, ["mean", "context_mean"])
    assert models["mean"].predict(["Z"], ["x"]).tolist() == [[2.0, 6.0]]
    # g0 is unmeasured in no context; of y's two genes both are known
    assert models["context_mean"].predict(["Z", "Z"], ["x", "y"]).tolist() == [[1.0, 8.0], [3.0, 4.0]]


def test_a_context_that_does_not_measure_a_gene_has_the_overall_mean_of_it():
    train = table([("A", "x", [1.0, NAN]), ("B", "y", [3.0, 4.0])])
    model = fit_effect_models(train, None, ["context_mean"])["context_mean"]
    assert model.predict(["Z"], ["x"]).tolist() == [[1.0, 4.0]]


def test_main_effects_of_every_gene_are_those_of_the_rows_that_measure_it():
    rng = np.random.default_rng(0)
    rows = [(p, c, rng.normal(size=30)) for p in "ABCDEF" for c in "xyz"]
    train = table(rows)
    train.effects[rng.random(train.effects.shape) < 0.3] = np.nan
    main = fit_main_effects(train)
    for g in range(30):
        alone = fit_main_effects(train.rows(train.measured[:, g]).columns(np.arange(30) == g))
        assert main.overall[g] == pytest.approx(alone.overall[0], abs=1e-9)
        for p in "ABCDEF":
            expected = alone.targets[p][0] if p in alone.targets else NAN
            assert main.targets[p][g] == pytest.approx(expected, abs=1e-9, nan_ok=True)
        for c in "xyz":
            assert main.contexts[c][g] == pytest.approx(alone.contexts[c][0], abs=1e-9)


def test_additive_adds_nothing_of_a_target_on_a_gene_that_it_was_not_measured_on():
    train = table([("A", "x", [1.0, NAN]), ("B", "x", [3.0, 4.0]), ("C", "x", [5.0, 8.0])])
    model = fit_effect_models(train, None, ["additive"])["additive"]
    assert model.predict(["A", "B"], ["x", "x"]).tolist() == [[1.0, 6.0], [3.0, 4.0]]


def test_knn_takes_the_neighbours_that_measure_a_gene():
    features = FeatureTable(list("ABCDQ"), np.array([[1, 1], [1, -1], [-1, 1], [-1, -1], [3, 0]]))
    train = table([("A", "x", [8.0, NAN]), ("B", "x", [4.0, 4.0]), ("C", "x", [0.0, 2.0]), ("D", "x", [0.0, 0.0])])
    model = fit_knn(train, features)
    model.k = 2
    # A and B weigh alike; B alone measures the second gene
    assert model.predict(["Q"], ["x"]) == pytest.approx(np.array([[6.0, 4.0]]))


def test_ridge_fits_a_gene_on_the_targets_that_measure_it():
    rng = np.random.default_rng(0)
    features = FeatureTable([f"T{i}" for i in range(12)], rng.normal(size=(12, 3)))
    train = table([(g, "x", rng.normal(size=5)) for g in features.genes])
    train.effects[rng.random(train.effects.shape) < 0.3] = np.nan
    model = fit_ridge(train, features)
    points = model.space(features.genes)
    predicted = model.predict(["T2"], ["x"])[0]
    for g in range(5):
        known = train.measured[:, g]
        X, y = points[known], train.effects[known, g]
        w = np.linalg.solve(X.T @ X + model.alpha * np.eye(3), X.T @ (y - y.mean()))
        assert predicted[g] == pytest.approx(points[2] @ w + y.mean(), abs=1e-5)


@pytest.mark.parametrize("name", ["mean", "context_mean", "additive"])
def test_a_gene_that_no_row_measures_is_refused_by_name(name):
    with pytest.raises(StateshiftError, match="1 genes are measured in no training row: g1"):
        fit_effect_models(table([("A", "x", [1.0, NAN]), ("B", "x", [2.0, NAN])]), None, [name])


def test_what_all_targets_do_is_no_reason_to_trust_features_where_genes_are_partly_measured():
    rng = np.random.default_rng(0)
    points, deviations = rng.normal(size=(40, 5)), np.full((40, 8), 5.0)
    deviations[rng.random(deviations.shape) < 0.2] = np.nan
    folds = [(np.flatnonzero(np.arange(40) % 4 != k), np.flatnonzero(np.arange(40) % 4 == k)) for k in range(4)]
    assert _choose_alpha_partly(points @ points.T, deviations, folds) == max(ALPHAS)


def test_the_penalty_of_partly_measured_genes_is_the_best_of_scikit_learns_ridges_over_the_folds():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(40, 5))
    deviations = points @ rng.normal(size=(5, 8)) + 6 * rng.normal(size=(40, 8)) + 20
    deviations[rng.random(deviations.shape) < 0.2] = np.nan
    folds = [(np.flatnonzero(np.arange(40) % 4 != k), np.flatnonzero(np.arange(40) % 4 == k)) for k in range(4)]
    errors = dict.fromkeys(ALPHAS, 0.0)
    for alpha in ALPHAS:
        for fit, held in folds:
            for y in deviations.T:
                of, asked = fit[~np.isnan(y[fit])], held[~np.isnan(y[held])]
                mean = y[of].mean()
                ridge = Ridge(alpha=alpha, fit_intercept=False).fit(points[of], y[of] - mean)
                errors[alpha] += ((ridge.predict(points[asked]) + mean - y[asked]) ** 2).sum()
    best = min(errors, key=errors.get)
    assert min(ALPHAS) < best < max(ALPHAS)
    assert _choose_alpha_partly(points @ points.T, deviations, folds) == best
