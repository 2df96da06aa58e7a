"""Doubles: sums exactly, interactions as far as trained doubles show them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from stateshift.cells import EffectTable
from stateshift.effects.doubles import fit_doubles, fitted_slopes, pair_kernel, terms
from stateshift.effects.from_features.feature_space import FeatureSpace
from stateshift.feature_table import FeatureTable

GENES, TARGETS = 30, [f"T{i:02d}" for i in range(14)]


class Known:
    """Single effects by name, as a model that measured them."""

    def __init__(self, effects):
        self.effects = effects

    def predict(self, perturbations, contexts):
        return np.stack([self.effects[p, c] for p, c in zip(perturbations, contexts)])


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def singles(rng):
    return {(t, c): rng.standard_normal(GENES).astype(np.float32) for t in TARGETS for c in ("x", "y")}


@pytest.fixture
def features(rng):
    return FeatureTable(TARGETS, rng.standard_normal((14, 4)).astype(np.float32), {})


def table(pairs, effects) -> EffectTable:
    return EffectTable(
        [f"g{i}" for i in range(GENES)], [p for p, _ in pairs], [c for _, c in pairs],
        np.asarray(effects, dtype=np.float32), None, {},
    )  # fmt: skip


def sums(singles, pairs):
    return np.stack([sum(singles[g, c] for g in p.split("+")) for p, c in pairs])


ALL = [("+".join(pair), "x") for pair in combinations(TARGETS, 2)]


def test_without_trained_doubles_a_double_is_the_sum_of_its_targets(singles, features):
    single = table([(t, "x") for t in TARGETS], np.stack([singles[t, "x"] for t in TARGETS]))
    model = fit_doubles(single, features, Known(singles))
    assert model.interaction is None
    assert model.predict(["T00+T03", "T01+T02+T05"], ["x", "y"]) == pytest.approx(
        sums(singles, [("T00+T03", "x"), ("T01+T02+T05", "y")])
    )


def test_doubles_that_are_exactly_additive_teach_no_interaction(singles, features):
    assert fit_doubles(table(ALL, sums(singles, ALL)), features, Known(singles)).interaction is None


def test_the_kernels_part_is_scikit_learns_ridge_of_what_slopes_leave(singles, features, rng, monkeypatch):
    monkeypatch.setattr("stateshift.effects.doubles.ALPHAS", (3.0,))
    pairs = [p.split("+") for p, _ in ALL]
    K = pair_kernel(FeatureSpace.of(features, TARGETS, "doubles"), pairs, pairs)
    beyond = K @ rng.standard_normal((len(ALL), GENES)) / 40 + 0.3 * rng.standard_normal((len(ALL), GENES))
    found = fit_doubles(table(ALL, sums(singles, ALL) + beyond), features, Known(singles)).interaction
    explained = np.stack([terms(np.stack([singles[g, "x"] for g in pair])) for pair in pairs])
    left = beyond - np.tensordot(explained, found.slopes, (1, 0))
    np.testing.assert_allclose(
        found.dual, KernelRidge(alpha=3.0, kernel="precomputed").fit(K, left).dual_coef_, atol=1e-4
    )


def test_additive_doubles_with_noise_teach_no_interaction(singles, features, rng):
    effects = sums(singles, ALL) + 0.3 * rng.standard_normal((len(ALL), GENES))
    model = fit_doubles(table(ALL, effects), features, Known(singles))
    found = model.predict([p for p, _ in ALL], [c for _, c in ALL])
    assert np.abs(found - sums(singles, ALL)).mean() < 0.05


def test_buffering_is_learned_to_its_size(singles, features, rng):
    effects = 0.7 * sums(singles, ALL) + 0.1 * rng.standard_normal((len(ALL), GENES))
    train = rng.permutation(len(ALL))[:40]
    model = fit_doubles(table([ALL[i] for i in train], effects[train]), features, Known(singles))
    assert model.interaction.slopes == pytest.approx([-0.3, 0.0], abs=0.03)
    held = [i for i in range(len(ALL)) if i not in set(train)]
    found = model.predict([ALL[i][0] for i in held], ["x"] * len(held))
    assert np.abs(found - 0.7 * sums(singles, ALL)[held]).mean() < 0.06


def test_interactions_that_features_of_both_targets_decide_are_foretold(singles, features, rng):
    maps = rng.standard_normal((4, 4, GENES))
    maps = maps + maps.transpose(1, 0, 2)
    vectors = dict(zip(features.genes, features.vectors))
    beyond = np.stack([np.einsum("i,ijg,j->g", *(vectors[a], maps, vectors[b])) for a, b in combinations(TARGETS, 2)])
    effects = sums(singles, ALL) + beyond
    train = rng.permutation(len(ALL))[:70]
    model = fit_doubles(table([ALL[i] for i in train], effects[train]), features, Known(singles))
    held = [i for i in range(len(ALL)) if i not in set(train)]
    found = model.predict([ALL[i][0] for i in held], ["x"] * len(held)) - sums(singles, ALL)[held]
    assert np.corrcoef(found.ravel(), beyond[held].ravel())[0, 1] > 0.95


def test_buffering_and_what_features_decide_are_learned_together(singles, features, rng):
    maps = rng.standard_normal((4, 4, GENES))
    maps = maps + maps.transpose(1, 0, 2)
    vectors = dict(zip(features.genes, features.vectors))
    beyond = np.stack([np.einsum("i,ijg,j->g", *(vectors[a], maps, vectors[b])) for a, b in combinations(TARGETS, 2)])
    effects = 0.4 * sums(singles, ALL) + beyond
    train = rng.permutation(len(ALL))[:70]
    model = fit_doubles(table([ALL[i] for i in train], effects[train]), features, Known(singles))
    held = [i for i in range(len(ALL)) if i not in set(train)]
    found = model.predict([ALL[i][0] for i in held], ["x"] * len(held))
    assert np.abs(model.interaction.slopes[0] + 0.6) < 0.2
    assert np.corrcoef((found - 0.4 * sums(singles, ALL)[held]).ravel(), beyond[held].ravel())[0, 1] > 0.999


def test_the_order_of_the_genes_changes_nothing(singles, features, rng):
    effects = 0.7 * sums(singles, ALL) + 0.5 * rng.standard_normal((len(ALL), GENES))
    turned = [("+".join(reversed(p.split("+"))), c) for p, c in ALL]
    one = fit_doubles(table(ALL, effects), features, Known(singles)).predict(["T03+T09"], ["x"])
    other = fit_doubles(table(turned, effects), features, Known(singles)).predict(["T09+T03"], ["x"])
    assert one == pytest.approx(other, abs=1e-4)


def test_a_double_spelt_both_ways_is_held_out_in_both(singles, rng):
    # each double does its own thing in both contexts: only one that is also fitted is foretold by the kernel
    alone = FeatureTable(TARGETS, np.eye(14, dtype=np.float32), {})
    beyond = 2 * rng.standard_normal((len(ALL), GENES))
    turned = [("+".join(reversed(p.split("+"))), "y") for p, _ in ALL]
    effects = np.concatenate([sums(singles, pairs) + beyond for pairs in (ALL, turned)])
    in_one_order = [(p, c) for c in "xy" for p, _ in ALL]
    for pairs in ([*ALL, *turned], in_one_order):
        model = fit_doubles(table(pairs, effects), alone, Known(singles))
        assert model.interaction is None or model.interaction.space is None


def test_genes_that_a_row_did_not_measure_are_not_learned_from(singles, features, rng):
    effects = 0.7 * sums(singles, ALL)
    holes = effects.copy()
    holes[rng.random(holes.shape) < 0.2] = np.nan
    model = fit_doubles(table(ALL, holes), None, Known(singles))
    assert model.interaction.slopes == pytest.approx([-0.3, 0.0], abs=1e-3)


def test_one_trained_double_teaches_nothing(singles, features):
    assert fit_doubles(table(ALL[:1], sums(singles, ALL[:1]) * 0.5), features, Known(singles)).interaction is None


def test_two_trained_doubles_teach_what_they_have_in_common_and_one_spelt_twice_does_not(singles):
    pairs = [("T00+T01", "x"), ("T02+T03", "x")]
    model = fit_doubles(table(pairs, 0.7 * sums(singles, pairs)), None, Known(singles))
    assert model.interaction.slopes == pytest.approx([-0.3, 0.0], abs=1e-3)
    pairs = [("T00+T01", "x"), ("T01+T00", "x")]
    assert fit_doubles(table(pairs, 0.7 * sums(singles, pairs)), None, Known(singles)).interaction is None


def test_slopes_are_those_of_least_squares(rng):
    explained, rest = rng.standard_normal((6, 2, 5)), rng.standard_normal((6, 5))
    A = explained.transpose(0, 2, 1).reshape(-1, 2)
    assert fitted_slopes(explained, rest) == pytest.approx(np.linalg.lstsq(A, rest.ravel(), rcond=None)[0])


def test_the_kernel_is_the_product_of_symmetric_features(features):
    space = FeatureSpace.of(features, TARGETS, "doubles")
    pairs = [list(pair) for pair in combinations(TARGETS[:5], 2)]
    z = dict(zip(TARGETS, space(TARGETS)))
    mapped = np.stack(
        [
            np.concatenate(
                [[1.0], (z[a] + z[b]) / 2, ((np.outer(z[a], z[b]) + np.outer(z[b], z[a])) / np.sqrt(2)).ravel()]
            )
            for a, b in pairs
        ]
    )
    assert pair_kernel(space, pairs, pairs) == pytest.approx(mapped @ mapped.T)


def test_terms_are_the_sum_and_the_smaller_of_what_goes_the_same_way():
    two = terms(np.array([[0.1, -0.2, 0.3, 0.0], [0.2, -0.1, -0.1, 0.5]]))
    assert two == pytest.approx(np.array([[0.3, -0.3, 0.2, 0.5], [0.1, -0.1, 0, 0]]))
    # of three effects each pair has its own: (1, 2), (1, 4) and (2, 4); (3, 2) alone
    three = terms(np.array([[1.0, 3.0], [2.0, 2.0], [4.0, -1.0]]))
    assert three.tolist() == [[7, 4], [1 + 1 + 2, 2]]


def test_doubles_of_three_genes_are_as_alike_as_their_pairs_in_the_mean(features):
    space = FeatureSpace.of(features, TARGETS, "doubles")
    pairs = [list(pair) for pair in combinations(TARGETS[:3], 2)]
    other = [TARGETS[5:7], TARGETS[2:4]]
    assert pair_kernel(space, [TARGETS[:3]], other)[0] == pytest.approx(pair_kernel(space, pairs, other).mean(axis=0))
