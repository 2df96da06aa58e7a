"""Whether the responding genes are found, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.evaluation.significance import Significance, agreement, count_correlation


def side(fdr, fold_changes) -> Significance:
    fdr, fold = np.atleast_2d(np.array(fdr, float)), np.atleast_2d(np.array(fold_changes, float))
    return Significance([f"P{i}" for i in range(len(fdr))], fdr, fdr, fold, np.ones(fdr.shape[1], bool))


TRUE = side([0.01, 0.02, 0.03, 0.5, 0.9], [3, -2, 1, 5, 0])


def test_of_the_true_responders_those_count_that_are_among_as_many_strongest_predicted():
    row = agreement(side([0.01, 0.5, 0.01, 0.01, 0.01], [1, 9, -0.5, 4, 2]), TRUE).loc["P0"]
    # predicted by size: gene 3, 4, 0, 2; true: 0, 1, 2
    assert row["des"] == pytest.approx(1 / 3)
    assert row["precision"] == pytest.approx(2 / 4)
    assert row["recall"] == pytest.approx(2 / 3)
    assert row["direction_match"] == pytest.approx(1 / 3)
    assert row["lfc_spearman"] == pytest.approx(-0.5)
    assert (row["n_true"], row["n_predicted"]) == (3, 4)
    # scores 2, 0.3, 2, 2, 2 of which the first three truly respond
    assert row["roc_auc"] == pytest.approx((1 + 0 + 1) / 6)


def test_an_infinite_fold_change_comes_first_and_equal_ones_in_the_order_of_the_genes():
    predicted = side([0.01] * 5, [1, 1, 1, np.inf, -np.inf])
    assert agreement(predicted, TRUE).loc["P0", "des"] == pytest.approx(1 / 3)
    assert agreement(side([0.01] * 5, [1] * 5), TRUE).loc["P0", "des"] == 1


def test_without_true_responders_overlaps_are_zero_and_what_is_undefined_is_nan():
    row = agreement(TRUE, side([1.0] * 5, [0] * 5)).loc["P0"]
    assert row[["des", "des_at_50", "precision"]].tolist() == [0, 0, 0]
    assert row[["recall", "direction_match", "lfc_spearman", "pr_auc", "roc_auc"]].isna().all()


def test_a_threshold_is_met_in_single_precision_as_the_challenge_has_it():
    assert agreement(TRUE, side([0.05 - 1e-12] + [1.0] * 4, [1] * 5)).loc["P0", "n_true"] == 0


def test_numbers_of_responders_correlate_over_perturbations_that_have_some():
    true = side([[0.01] * 3, [0.01, 0.01, 1], [0.01, 1, 1], [1, 1, 1]], np.ones((4, 3)))
    predicted = side([[1, 1, 1], [0.01, 1, 1], [0.01, 0.01, 1], [0.01] * 3], np.ones((4, 3)))
    assert count_correlation(agreement(predicted, true)) == pytest.approx(-1)
    assert count_correlation(agreement(predicted.rows(["P3"]), true.rows(["P3"]))) == 1


def test_tests_of_other_perturbations_are_no_pair():
    with pytest.raises(ValueError, match="the same perturbations"):
        agreement(TRUE, side([[0.1] * 5] * 2, [[0] * 5] * 2))
