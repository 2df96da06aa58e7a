"""Each member beside its definition, computed the long way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import nnls

from stateshift.cells import EffectTable
from stateshift.effects.calls.members import bilinear as of_bilinear
from stateshift.effects.calls.members import smoother as of_smoother
from stateshift.effects.calls.members.bilinear import conjugate_gradients, fit_bilinear
from stateshift.effects.calls.members.forest import fit_forest
from stateshift.effects.calls.members.similarity import Points, context_similarity, similarities
from stateshift.effects.calls.members.smoother import fit_smoother, fit_strength, response_programs
from stateshift.effects.calls.residuals import GeneMeans, residuals_of
from stateshift.effects.calls.rows import NEARNESS, Rows
from stateshift.feature_table import FeatureTable

COMPARABLE = {"comparable_rows": True}


@pytest.fixture
def small():
    """Eight rows in two contexts, six genes, a third of the pairs measured or all of them; features, both sides."""

    def make(share: float):
        rng = np.random.default_rng(1)
        effects = rng.standard_normal((8, 6)).astype(np.float32)
        effects[rng.random(effects.shape) >= share] = np.nan
        effects[0], effects[5] = 1.0, -1.0
        names = list("ABCDABEF")
        train = EffectTable([f"g{i}" for i in range(6)], names, ["x"] * 4 + ["y"] * 4, effects, None, {})
        features = FeatureTable([*"ABCDEFQ"], unit(rng.standard_normal((7, 3))), COMPARABLE)
        responses = FeatureTable(train.genes, unit(rng.standard_normal((6, 2))), COMPARABLE)
        return train, features, responses

    return make


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def kernels(train, features, names, contexts, alike):
    """K (Q, R) by its definition."""
    K = np.empty((len(names), len(train)))
    for q, (p, c) in enumerate(zip(names, contexts)):
        for i, (t, d) in enumerate(zip(train.perturbations, train.contexts)):
            K[q, i] = max(features.matrix([p])[0] @ features.matrix([t])[0], 0) ** NEARNESS * (1 if c == d else alike)
    return K


@pytest.mark.parametrize("share", [0.15, 0.5, 1.0])
def test_smoothing_is_the_weighted_mean_of_the_measured_residuals(small, share):
    train, features, _ = small(share)
    residuals = residuals_of(train, GeneMeans.of(train))
    K = kernels(train, features, ["Q", "A"], ["x", "y"], 0.0)
    expected = np.zeros((2, 6))
    for g in range(6):
        known = ~np.isnan(residuals[:, g])
        expected[:, g] = K[:, known] @ residuals[known, g] / (K[:, known].sum(axis=1) + of_smoother.PENALTY_ALONE)
    np.testing.assert_allclose(fit_smoother(train, features, None).scores(["Q", "A"], ["x", "y"]), expected, atol=1e-5)


@pytest.mark.parametrize("share", [0.15, 1.0])
def test_strength_is_one_mean_over_all_genes(small, share):
    train, features, _ = small(share)
    residuals = residuals_of(train, GeneMeans.of(train))
    K = kernels(train, features, ["Q"], ["x"], 0.0)[0]
    known = ~np.isnan(residuals)
    expected = (K @ np.nan_to_num(residuals)).sum() / ((K @ known).sum() + of_smoother.PENALTY_STRENGTH)
    np.testing.assert_allclose(
        fit_strength(train, features, None).scores(["Q"], ["x"]), np.full((1, 6), expected), atol=1e-5
    )


@pytest.mark.parametrize("across", [False, True])
def test_with_response_features_measurements_of_alike_genes_count_too(small, across):
    train, features, responses = small(0.5)
    model = fit_smoother(train, features, responses, across)
    L = model.response["" if across else "x"]
    similar = np.maximum(responses.vectors @ responses.vectors.T, 0) ** 2
    at_least = similar + of_smoother.ANY_GENE + of_smoother.SAME_GENE * np.eye(6)
    assert (at_least - 1e-5 <= L).all()
    assert (at_least + 1 + 1e-5 >= L).all()
    alike = float(model.rows.alike[0, 1]) if across else 0.0
    K = kernels(train, features, ["Q"], ["x"], alike)
    residuals = residuals_of(train, GeneMeans.of(train))
    value = K @ np.nan_to_num(residuals) @ L
    weight = K @ ~np.isnan(residuals) @ L
    np.testing.assert_allclose(model.scores(["Q"], ["x"]), value / (weight + of_smoother.PENALTY), atol=1e-4)


def test_genes_of_one_program_have_the_same_direction():
    rng = np.random.default_rng(0)
    program = np.arange(30) % 2
    effects = (rng.standard_normal((40, 2))[:, program] + 0.05 * rng.standard_normal((40, 30))).astype(np.float32)
    train = EffectTable([f"g{i}" for i in range(30)], [f"T{i}" for i in range(40)], ["x"] * 40, effects, None, {})
    rows = Rows.of(train, FeatureTable(train.perturbations, np.eye(40), COMPARABLE), None)
    loadings = response_programs(rows, np.ones(40, dtype=bool), np.eye(30, dtype=np.float32))
    same = program[:, None] == program
    cosines = loadings @ loadings.T
    assert cosines[same].min() > 0.8
    assert abs(cosines[~same]).max() < 0.6


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_bilinear_solves_the_whole_system_over_the_measured_pairs(small, share, monkeypatch):
    monkeypatch.setattr(of_bilinear, "TOLERANCE", 1e-6)
    train, features, responses = small(share)
    model = fit_bilinear(train, features, responses, across=True)
    residuals = residuals_of(train, GeneMeans.of(train))
    alike = float(model.rows.alike[0, 1])
    L = responses.vectors @ responses.vectors.T + of_bilinear.ANY_GENE + of_bilinear.SAME_GENE * np.eye(6)
    K = kernels(train, features, train.perturbations, train.contexts, alike)
    i, g = np.nonzero(~np.isnan(residuals))
    system = K[np.ix_(i, i)] * L[np.ix_(g, g)] + of_bilinear.PENALTY * np.eye(len(i))
    c = np.linalg.solve(system, residuals[i, g])
    asked = kernels(train, features, ["Q", "C"], ["x", "y"], alike)
    expected = np.einsum("qn,n,ng->qg", asked[:, i], c, L[g])
    np.testing.assert_allclose(model.scores(["Q", "C"], ["x", "y"]), expected, atol=1e-4)


def test_conjugate_gradients_solve_a_system():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((30, 30))
    A, b = A @ A.T + 5 * np.eye(30), rng.standard_normal(30)
    x = conjugate_gradients(lambda v: A @ v, b)
    assert np.linalg.norm(A @ x - b) < of_bilinear.TOLERANCE * np.linalg.norm(b)


def test_a_forest_finds_the_family_of_an_unseen_target():
    rng = np.random.default_rng(0)
    names = [f"T{i}" for i in range(60)]
    family = np.arange(60) % 3
    profile = rng.standard_normal((3, 20))
    features = FeatureTable([*names, "Q"], np.eye(3)[[*family, 1]] + 0.1 * rng.standard_normal((61, 3)), {})
    train = EffectTable([f"g{i}" for i in range(20)], names, ["x"] * 60, profile[family].astype(np.float32), None, {})
    predicted = fit_forest(train, features, None).scores(["Q"], ["x"])[0]
    expected = profile[1] - profile[family].mean(axis=0)
    assert np.corrcoef(predicted, expected)[0, 1] > 0.95


def test_contexts_weigh_as_their_shared_pairs_correlate():
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((20, 10))
    x, y = signal + 0.5 * rng.standard_normal((2, 20, 10))
    z = rng.standard_normal((20, 10))
    names = [f"T{i}" for i in range(20)] * 3
    effects = np.concatenate([x, y, z]).astype(np.float32)
    train = EffectTable([f"g{i}" for i in range(10)], names, ["x"] * 20 + ["y"] * 20 + ["z"] * 20, effects, None, {})
    contexts, alike = context_similarity(train, effects)
    assert contexts == ["x", "y", "z"]
    assert alike[0, 1] == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1], abs=1e-5)
    assert alike[0, 2] == pytest.approx(max(np.corrcoef(x.ravel(), z.ravel())[0, 1], 0), abs=1e-5)


def test_gene_means_are_drawn_to_the_mean_of_all_where_few_rows_measure_a_gene():
    effects = np.array([[1, np.nan], [1, 0], [1, np.nan]], dtype=np.float32)
    train = EffectTable(["g", "h"], list("ABC"), ["x"] * 3, effects, None, {})
    means = GeneMeans.of(train)
    np.testing.assert_allclose(means(["x"]), [[(3 + 5 * 0.75) / 8, (0 + 5 * 0.75) / 6]], atol=1e-6)
    np.testing.assert_allclose(means(["new"]), means(["x"]))


def test_points_are_standardised_unless_their_rows_can_be_compared():
    vectors = np.array([[1.0, 100], [3, 300], [5, 100]])
    standard = Points.of(FeatureTable(list("ABC"), vectors), list("ABC"))(["A", "B", "Z"])
    expected = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    np.testing.assert_allclose(standard[:2], unit(expected)[:2], atol=1e-5)
    np.testing.assert_array_equal(standard[2], [0, 0])
    as_they_are = Points.of(FeatureTable(list("AB"), [[0.6, 0], [3, 4]], COMPARABLE), ["A"])(["A", "B", "A+B"])
    np.testing.assert_allclose(as_they_are, [[0.6, 0], [0.6, 0.8], unit(np.array([[3.6, 4.0]]))[0]], atol=1e-6)
    np.testing.assert_allclose(similarities(as_they_are, -as_they_are), 0)


def test_a_source_of_noise_in_a_fusion_gets_no_weight_and_the_others_what_they_explain():
    rng = np.random.default_rng(0)
    names, family = [f"T{i}" for i in range(150)], np.arange(150) % 6
    effects = (rng.standard_normal((6, 30))[family] + 0.5 * rng.standard_normal((150, 30))).astype(np.float32)
    effects[rng.random(effects.shape) < 0.5] = np.nan
    train = EffectTable([f"g{i}" for i in range(30)], names, ["x"] * 150, effects, None, {})
    noise = unit(rng.standard_normal((150, 60)))
    vectors = np.concatenate([np.eye(6)[family] * 0.3**0.5, noise * 0.7**0.5], axis=1)
    parts = [{"source": "a", "columns": [0, 6]}, {"source": "b", "columns": [6, 66]}]
    features = FeatureTable(names, vectors, COMPARABLE | {"parts": parts})
    rows = Rows.of(train, features, None).targets
    np.testing.assert_allclose((rows[:, :6] ** 2).sum(axis=1), 1, atol=0.05)
    np.testing.assert_allclose((rows[:, 6:] ** 2).sum(axis=1), 0, atol=0.05)


@pytest.mark.parametrize("share", [0.15, 0.6])
def test_sources_weigh_as_least_squares_over_pairs_of_targets_say(small, share):
    train, _, _ = small(share)
    rng = np.random.default_rng(2)
    one, other = (unit(rng.random((7, 2))) for _ in range(2))
    parts = [{"columns": [0, 2]}, {"columns": [2, 4]}]
    vectors = np.concatenate([one * 0.5**0.5, other * 0.5**0.5], axis=1)
    features = FeatureTable([*"ABCDEFQ"], vectors, COMPARABLE | {"parts": parts})
    place = [features.genes.index(p) for p in train.perturbations]
    residuals = residuals_of(train, GeneMeans.of(train))
    alike, products = [], []
    for i, j in itertools.combinations(range(8), 2):
        if train.contexts[i] == train.contexts[j]:
            both = residuals[i] * residuals[j]
            known = both[~np.isnan(both)]
            products.extend(known)
            alike.extend([[one[place[i]] @ one[place[j]], other[place[i]] @ other[place[j]]]] * len(known))
    expected, _ = nnls(np.array(alike), np.array(products))
    expected = expected / expected.sum() if expected.sum() else np.full(2, 0.5)
    rows = Rows.of(train, features, None).targets
    np.testing.assert_allclose((rows[:, :2] ** 2).sum(axis=1), expected[0], atol=1e-4)
    np.testing.assert_allclose((rows[:, 2:] ** 2).sum(axis=1), expected[1], atol=1e-4)
