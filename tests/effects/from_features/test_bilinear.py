"""Programs × features against their closed form, scikit-learn, and a truth of that form."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.from_features.bilinear import PROGRAMS, STRENGTHS, fit_bilinear, programs_of
from stateshift.effects.from_features.feature_space import gene_folds
from stateshift.effects.from_features.forest import fit_forest
from stateshift.effects.from_features.ridge import ALPHAS
from stateshift.feature_table import FeatureTable


def screen(P: int = 60, F: int = 8, K: int = 2, G: int = 40, noise: float = 0.0, seed: int = 0):
    """Effects of low rank that features tell, and noise."""
    rng = np.random.default_rng(seed)
    names = [f"T{i:03d}" for i in range(P)]
    features = FeatureTable(names, rng.normal(size=(P, F)))
    effects = features.vectors @ rng.normal(size=(F, K)) @ rng.normal(size=(K, G)) + noise * rng.normal(size=(P, G)) + 1
    genes = [f"g{j}" for j in range(G)]
    return EffectTable(genes, names, ["x"] * P, effects.astype(np.float32), None, {}), features


def test_a_bilinear_truth_is_recovered_for_targets_never_seen():
    train, features = screen()
    seen = np.arange(60) < 50
    model = fit_bilinear(train.rows(seen), features)
    held = train.rows(~seen)
    predicted = model.predict(held.perturbations, held.contexts)
    assert np.abs(predicted - held.effects).max() < 0.02 * np.abs(held.effects).max()
    assert model.k == 2


def test_coefficients_are_those_of_the_formula():
    train, features = screen(noise=0.5)
    model = fit_bilinear(train, features, alpha=0.7, strength=0.2, k=3)
    X = model.space(list(model.main.targets))
    Y = np.stack(list(model.main.targets.values()))
    _, s, vt = np.linalg.svd(Y, full_matrices=False)
    B = s[:3, None] * vt[:3]
    mu = 0.2 * (s[:3] ** 2).mean()
    W = np.linalg.solve(X.T @ X + 0.7 * np.eye(8), X.T @ Y @ B.T) @ np.linalg.inv(B @ B.T + mu * np.eye(3))
    assert model.coefficients @ model.programs == pytest.approx(W @ B, abs=1e-8)


def test_the_chosen_penalties_are_best_over_the_folds_as_refitting_has_it(monkeypatch):
    alphas, strengths, ks = (10.0, 1.0, 0.1, 0.01), (3.0, 1.0, 0.1, 0.0), (1, 2, 4, 8)
    for name, choices in (("ALPHAS", alphas), ("STRENGTHS", strengths), ("PROGRAMS", ks)):
        monkeypatch.setattr(f"stateshift.effects.from_features.bilinear.{name}", choices)
    train, features = screen(noise=5.0, P=40, K=4)
    model = fit_bilinear(train, features)
    names, X = list(model.main.targets), model.space(list(model.main.targets))
    Y = np.stack(list(model.main.targets.values()))

    def error(alpha: float, strength: float, k: int) -> float:
        total = 0.0
        for fit, held in gene_folds(names):
            scores, programs, squares = programs_of(Y[fit] - Y[fit].mean(axis=0), k)
            kept = squares / (squares + strength * squares.mean())
            predicted = Ridge(alpha=alpha).fit(X[fit], scores).predict(X[held]).reshape(len(held), -1)
            total += ((Y[fit].mean(axis=0) + (predicted * kept) @ programs - Y[held]) ** 2).sum()
        return total

    chosen = (model.alpha, model.strength, model.k)
    assert chosen == min(product(alphas, strengths, ks), key=lambda choice: error(*choice))
    assert 0.01 < model.alpha < 10
    assert 0 < model.strength < 3
    assert 1 < model.k < 8


def test_programs_are_the_leading_singular_directions():
    Y = np.random.default_rng(0).normal(size=(12, 30))
    scores, programs, squares = programs_of(Y, 5)
    u, s, vt = np.linalg.svd(Y, full_matrices=False)
    assert squares == pytest.approx(s[:5] ** 2)
    assert scores @ programs == pytest.approx((u[:, :5] * s[:5]) @ vt[:5])


def test_features_of_noise_leave_the_main_effect():
    train, features = screen(noise=1.0)
    noise = FeatureTable(features.genes, np.random.default_rng(9).normal(size=(60, 30)))
    model = fit_bilinear(train, noise)
    moved = model.predict(["T001"], ["x"]) - model.main.of_contexts(["x"])
    assert np.abs(moved).mean() < 0.25 * train.effects.std(axis=0).mean()


def test_a_forest_finds_what_is_no_line():
    rng = np.random.default_rng(0)
    names = [f"T{i:03d}" for i in range(300)]
    features = FeatureTable(names, rng.uniform(-1, 1, size=(300, 4)))
    step = np.where(features.vectors[:, :1] * features.vectors[:, 1:2] > 0, 1.0, -1.0)
    effects = (step * rng.normal(size=(1, 20)) + 0.1 * rng.normal(size=(300, 20))).astype(np.float32)
    train = EffectTable([f"g{j}" for j in range(20)], names, ["x"] * 300, effects, None, {})
    seen = np.arange(300) < 240
    held = train.rows(~seen)
    scores = {}
    for fit in (fit_forest, fit_bilinear):
        predicted = fit(train.rows(seen), features).predict(held.perturbations, held.contexts)
        scores[fit] = np.corrcoef(predicted.ravel(), held.effects.ravel())[0, 1]
    assert scores[fit_forest] > 0.8
    assert scores[fit_bilinear] < 0.3


def test_a_forest_is_scikit_learns_on_the_same_directions():
    from sklearn.ensemble import RandomForestRegressor

    train, features = screen(noise=0.3)
    model = fit_forest(train, features, seed=3)
    names = list(model.main.targets)
    scores, programs, _ = programs_of(np.stack(list(model.main.targets.values())), 16)
    trees = RandomForestRegressor(100, min_samples_leaf=3, max_features="sqrt", random_state=3)
    trees.fit(model.space(names) @ model.axes, scores)
    expected = model.main.of_contexts(["x"]) + trees.predict(model.space(["T004"]) @ model.axes) @ programs
    assert model.predict(["T004"], ["x"]) == pytest.approx(expected, abs=1e-5)


def test_a_forest_is_the_same_whatever_the_order_of_genes_and_the_last_digit_of_effects():
    train, features = screen(noise=0.3, P=16, F=20)
    order = np.random.default_rng(0).permutation(len(train.genes))
    effects = train.effects[:, order].astype(np.float64) * (1 + 1e-12)
    turned = replace(train, genes=[train.genes[i] for i in order], effects=effects, control_means={})
    asked = features.genes, ["x"] * len(features.genes)
    found = [fit_forest(table, features).predict(*asked) for table in (train, turned)]
    np.testing.assert_allclose(found[1], found[0][:, order], atol=1e-6)


@pytest.mark.parametrize("left_open", ["alpha", "strength", "k"])
def test_penalties_that_are_given_stand_beside_one_that_is_chosen(left_open):
    train, features = screen(noise=1.0, P=30)
    given = {"alpha": 123.0, "strength": 0.7, "k": 3}
    del given[left_open]
    model = fit_bilinear(train, features, **given)
    assert {name: getattr(model, name) for name in given} == given
    assert getattr(model, left_open) in {"alpha": ALPHAS, "strength": STRENGTHS, "k": PROGRAMS}[left_open]


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_effects_of_any_size_have_as_many_programs_as_their_rank(size):
    rng = np.random.default_rng(0)
    Y = size * rng.normal(size=(20, 3)) @ rng.normal(size=(3, 30))
    scores, programs, squares = programs_of(Y, 8)
    assert len(squares) == len(programs) == 3
    assert scores @ programs == pytest.approx(Y, abs=1e-7 * size)
    assert len(programs_of(np.zeros((4, 5)), 2)[1]) == 0


def test_one_target_leaves_the_strongest_penalties():
    train, features = screen(P=1)
    model = fit_bilinear(train, features)
    assert (model.alpha, model.strength, model.k) == (max(ALPHAS), max(STRENGTHS), 1)
    assert model.predict(train.perturbations, ["x"]) == pytest.approx(train.effects)


@pytest.mark.filterwarnings("error")
def test_a_forest_of_one_program_is_fitted_without_a_warning():
    train, features = screen(K=1)
    model = fit_forest(train, features)
    assert len(model.programs) == 1
    assert np.corrcoef(model.predict(train.perturbations, train.contexts).ravel(), train.effects.ravel())[0, 1] > 0.7
