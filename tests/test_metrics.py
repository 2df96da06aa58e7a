"""The shared measures against hand-worked cases, scipy and cell-eval."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.metrics import RankedGroups, discrimination, group_auc, mae, mse, paired_bootstrap, pearson_delta


def test_errors_of_a_row_worked_by_hand():
    predicted, true = (
        np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]),
        np.array([[0.0, 3.0, 1.0], [1.0, 1.0, 1.0]]),
    )
    assert mae(predicted, true) == pytest.approx([1.0, 0.0])
    assert mse(predicted, true) == pytest.approx([5 / 3, 0.0])


def test_pearson_delta_is_scipys_and_undefined_for_a_constant_row():
    from scipy.stats import pearsonr

    rng = np.random.default_rng(0)
    predicted, true = rng.normal(size=(5, 40)), rng.normal(size=(5, 40))
    expected = [pearsonr(p, t).statistic for p, t in zip(predicted, true)]
    assert pearson_delta(predicted, true) == pytest.approx(expected, abs=1e-12)
    predicted[2] = 0.1  # its mean is not exactly 0.1 in floating point
    assert np.isnan(pearson_delta(predicted, true)).tolist() == [False, False, True, False, False]


def test_a_perfect_prediction_is_told_apart_and_the_reverse_is_last():
    true = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [6.0, 0.0]])
    assert discrimination(true, true) == pytest.approx([1, 1, 1, 1])
    # |6 − t| = 6, 5, 3, 0: the first row's own effect is the farthest of four; |3 − t| = 3, 2, 0, 3
    predicted = np.array([[6.0, 0.0], [3.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert discrimination(predicted, true) == pytest.approx([1 / 4, 3 / 4, 2 / 4, 1 / 4])


def test_ties_count_half_so_that_no_prediction_scores_by_the_alphabet():
    true = np.eye(4)
    assert discrimination(np.zeros((4, 4)), true, "cosine") == pytest.approx(np.full(4, 1 - 1.5 / 4))
    assert discrimination(np.zeros((4, 4)), true, "l1") == pytest.approx(np.full(4, 1 - 1.5 / 4))


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_the_target_gene_does_not_give_a_prediction_away(distance):
    true = np.array([[-5.0, 0.0, 1.0, 2.0], [0.0, -5.0, 2.0, 1.0]])
    predicted = np.array([[-5.0, 0.0, 2.0, 1.0], [0.0, -5.0, 1.0, 2.0]])
    assert discrimination(predicted, true, distance) == pytest.approx([1, 1])
    left_out = [[0], [1]]
    by_hand = []
    for i in range(2):
        kept = [g for g in range(4) if g not in left_out[i]]
        by_hand.append(discrimination(predicted[:, kept], true[:, kept], distance)[i])
    assert discrimination(predicted, true, distance, left_out) == pytest.approx(by_hand)


def test_a_row_that_is_all_target_gene_has_no_direction_left():
    true = np.array([[0.3, 0.0, 0.0], [0.1, 0.2, 0.4], [0.2, 0.5, 0.1]])
    scores = discrimination(true, true, "cosine", [[0], [0], [0]])
    assert scores == pytest.approx([1 - (0 + 1) / 3, 1, 1])


def test_one_perturbation_can_not_be_told_apart():
    assert np.isnan(discrimination(np.ones((1, 3)), np.ones((1, 3)))).all()


def test_rows_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 3\)"):
        mae(np.ones((2, 3)), np.ones((3, 3)))


def test_the_bootstrap_interval_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        a = rng.normal(0.3, 1.0, size=50)
        found = paired_bootstrap(a, np.zeros(50), draws=400, seed=trial)
        covered += found.low <= 0.3 <= found.high
    assert 0.88 <= covered / 200 <= 0.98


def test_the_bootstrap_pairs_scores_and_leaves_undefined_ones_out():
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 10, size=30)
    found = paired_bootstrap(shared + 1, shared)
    assert found == paired_bootstrap(shared + 1, shared)
    assert (found.low, found.high) == pytest.approx((1, 1))
    assert paired_bootstrap([1.0, np.nan, 3.0], [0.0, 0.0, np.nan]).pairs == 1
    nothing = paired_bootstrap([np.nan], [0.0])
    assert (nothing.pairs, nothing.groups) == (0, 0)
    assert np.isnan(nothing.mean)


def test_the_bootstrap_draws_whole_groups_so_that_repeats_of_one_group_tell_nothing_new():
    """Every group measured four times with one value: the interval is that of the groups alone."""
    differences = np.random.default_rng(4).normal(0.2, 1.0, size=20)
    once = paired_bootstrap(differences, np.zeros(20))
    groups = [f"P{i:02d}" for i in range(20)] * 4
    repeated = paired_bootstrap(np.tile(differences, 4), np.zeros(80), groups)
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
    assert (repeated.pairs, repeated.groups) == (80, 20)
    alone = paired_bootstrap(np.tile(differences, 4), np.zeros(80))
    assert alone.high - alone.low < 0.6 * (once.high - once.low)


def test_groups_of_different_size_weigh_by_their_pairs_against_a_plain_loop():
    a = np.array([1.0, 2.0, 4.0, 0.0, -1.0, 3.0, 5.0, np.nan])
    groups = ["A", "A", "A", "B", "C", "D", "E", "E"]
    found = paired_bootstrap(a, np.zeros(8), groups, draws=500, seed=9)
    members = [[1.0, 2.0, 4.0], [0.0], [-1.0], [3.0], [5.0]]
    picks = np.random.default_rng(9).integers(5, size=(500, 5))
    means = [np.mean([value for k in row for value in members[k]]) for row in picks]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert found.mean == pytest.approx(2.0)
    assert (found.pairs, found.groups) == (7, 5)


def test_the_interval_over_groups_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = {True: 0, False: 0}
    groups = np.repeat(np.arange(40), 5)
    for trial in range(200):
        a = 0.3 + np.repeat(rng.normal(size=40), 5) + rng.normal(0, 0.3, size=200)
        for grouped in covered:
            found = paired_bootstrap(a, np.zeros(200), groups if grouped else None, draws=300, seed=trial)
            covered[grouped] += found.low <= 0.3 <= found.high
    assert 0.88 <= covered[True] / 200 <= 0.98
    assert covered[False] / 200 < 0.75


def test_fewer_than_five_groups_have_no_interval():
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert np.isfinite([paired_bootstrap(values, values - 1).low, paired_bootstrap(values, values - 1).high]).all()
    for few in (paired_bootstrap(values[:4], np.zeros(4)), paired_bootstrap(values, np.zeros(5), list("AABCD"))):
        assert np.isnan([few.low, few.high]).all()
        assert few.groups == 4
    assert few.mean == pytest.approx(0.3)


def test_groups_that_do_not_fit_the_pairs_are_refused():
    with pytest.raises(ValueError, match="one group a pair"):
        paired_bootstrap([1.0, 2.0], [0.0, 0.0], ["A"])


def test_the_measures_equal_cell_evals_on_random_cells():
    pytest.importorskip("cell_eval", reason="the official extra is not installed")
    from cell_eval._types import PerturbationAnndataPair
    from cell_eval.metrics import _anndata as official

    pair, predicted, true, left_out = _random_pair(PerturbationAnndataPair)
    named = {
        "pearson_delta": (official.pearson_delta(pair), pearson_delta(predicted, true)),
        "mae": (official.mae(pair), mae(predicted, true)),
        "mse": (official.mse(pair), mse(predicted, true)),
    }
    for distance in ("l1", "l2", "cosine"):
        named[distance] = (
            official.discrimination_score(pair, metric=distance),
            discrimination(predicted, true, distance, left_out),
        )
    for name, (theirs, ours) in named.items():
        assert ours == pytest.approx([theirs[p] for p in pair.perts], abs=1e-6), name
    assert len(set(named["l1"][1])) > 3


def _random_pair(pair_class):
    """Twelve perturbations of 25 genes, ten of them targets; controls the same on both sides."""
    import anndata as ad
    import pandas as pd

    rng = np.random.default_rng(3)
    genes = [f"G{i:02d}" for i in range(25)]
    labels = np.repeat(["non-targeting", *genes[:10], "X1", "X2"], 6)
    centre = {name: rng.normal(2, 0.4, size=25) for name in np.unique(labels)}
    true_X = np.stack([centre[name] + rng.normal(0, 0.5, 25) for name in labels])
    predicted_X = np.stack([0.5 * centre[name] + 1 + rng.normal(0, 0.9, 25) for name in labels])
    predicted_X[labels == "non-targeting"] = true_X[labels == "non-targeting"]

    def cells(X):
        obs = pd.DataFrame({"target": labels}, index=[str(i) for i in range(len(labels))])
        return ad.AnnData(X=X, obs=obs, var=pd.DataFrame(index=genes))

    pair = pair_class(real=cells(true_X), pred=cells(predicted_X), pert_col="target", control_pert="non-targeting")
    control = true_X[labels == "non-targeting"].mean(axis=0)
    predicted, true = (
        np.stack([X[labels == p].mean(axis=0) - control for p in pair.perts]) for X in (predicted_X, true_X)
    )
    left_out = [[genes.index(p)] if p in genes else [] for p in pair.perts]
    return pair, predicted, true, left_out


def test_the_area_of_each_group_is_sklearns_under_any_weights_with_one_ranking():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores, labels, groups = rng.normal(size=300).round(1), rng.integers(0, 2, 300), rng.integers(0, 4, 300)
    ranked = RankedGroups(scores, labels, groups)
    for weights in (None, rng.integers(0, 4, 300), rng.random(300)):
        of = np.ones(300) if weights is None else weights
        expected = [
            roc_auc_score(labels[groups == k], scores[groups == k], sample_weight=of[groups == k]) for k in range(4)
        ]
        assert ranked.auc(weights) == pytest.approx(expected)
        assert group_auc(scores, labels, groups, weights) == pytest.approx(expected)
