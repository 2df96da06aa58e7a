"""Scores beside scikit-learn's, and heads that learn what there is to learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, mean_squared_error, roc_auc_score

from stateshift.bioemb.comparison.evaluate import compare_tables
from stateshift.bioemb.downstream import Labels, head_predictions, make_split, resamples, scores
from stateshift.feature_table import FeatureTable

RNG = np.random.default_rng(0)
N = 60
WEIGHTS = resamples(N, None, draws=20)


def test_resamples_begin_with_everyone_once_and_keep_groups_whole():
    groups = np.repeat(np.arange(12), 5)
    weights = resamples(N, groups, draws=50)
    assert (weights[0] == 1).all()
    assert weights.shape == (51, N)
    assert (weights.reshape(51, 12, 5) == weights.reshape(51, 12, 5)[:, :, :1]).all()
    assert (weights.sum(axis=1) == N).all()


def test_auroc_is_scikit_learns_with_ties_and_weights():
    truth, said = RNG.integers(0, 2, N), RNG.integers(0, 8, N).astype(float)
    by_them = [roc_auc_score(truth, said, sample_weight=w) for w in WEIGHTS]
    np.testing.assert_allclose(scores("binary", truth, said, WEIGHTS), by_them)


def test_accuracy_and_rmse_are_scikit_learns():
    truth, said = RNG.integers(0, 4, N), RNG.standard_normal((N, 4))
    by_them = [accuracy_score(truth, said.argmax(1), sample_weight=w) for w in WEIGHTS]
    np.testing.assert_allclose(scores("multiclass", truth, said, WEIGHTS), by_them)
    truth, said = RNG.standard_normal(N), RNG.standard_normal(N)
    by_them = [mean_squared_error(truth, said, sample_weight=w) ** 0.5 for w in WEIGHTS]
    np.testing.assert_allclose(scores("regression", truth, said, WEIGHTS), by_them)


def test_calls_are_the_mean_auroc_of_questions_with_both_answers():
    truth = RNG.integers(0, 2, (N, 3)).astype(float)
    truth[RNG.random((N, 3)) < 0.3] = np.nan
    truth[:, 2] = 1
    said = RNG.standard_normal((N, 3))
    each = [roc_auc_score(truth[k, c], said[k, c]) for c in (0, 1) if len(k := np.flatnonzero(~np.isnan(truth[:, c])))]
    assert scores("calls", truth, said, WEIGHTS)[0] == pytest.approx(np.mean(each))


def labelled(task: str, vectors: np.ndarray) -> Labels:
    """Labels that the first columns decide."""
    names = [f"N{i}" for i in range(len(vectors))]
    if task == "binary":
        return Labels(names, task, (vectors[:, 0] > 0).astype(int), ["no", "yes"])
    if task == "multiclass":
        return Labels(names, task, vectors[:, :3].argmax(1), ["a", "b", "c"])
    if task == "regression":
        return Labels(names, task, 100 + 30 * vectors[:, 0], ["value"])
    values = (vectors[:, :2] > 0).astype(float)
    values[::7, 1] = np.nan
    return Labels(names, task, values, ["q", "r"])


@pytest.mark.parametrize(("task", "least"), [("binary", 0.95), ("multiclass", 0.8), ("calls", 0.95)])
def test_a_head_learns_what_the_vectors_tell(task, least):
    vectors = np.random.default_rng(1).standard_normal((600, 5)) * [1, 10, 0.1, 1, 0]
    labels = labelled(task, vectors / [1, 10, 0.1, 1, 1])
    split = make_split(labels, "random", 0)
    said = head_predictions(vectors, labels, split, 0)
    assert scores(task, labels.values[split.test], said, np.ones((1, len(split.test))))[0] > least
    np.testing.assert_array_equal(said, head_predictions(vectors, labels, split, 0))


def test_a_regression_is_predicted_in_its_own_units():
    vectors = np.random.default_rng(1).standard_normal((600, 3))
    labels = labelled("regression", vectors)
    split = make_split(labels, "random", 0)
    said = head_predictions(vectors, labels, split, 0)
    assert scores("regression", labels.values[split.test], said, np.ones((1, len(said))))[0] < 6  # of 30


def test_comparison_is_paired_and_tells_a_good_table_from_noise():
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((400, 4))
    labels = labelled("binary", vectors)
    tables = {"raw": FeatureTable(labels.names, vectors), "same": FeatureTable(labels.names, vectors)}
    tables["noise"] = FeatureTable(labels.names, rng.standard_normal((400, 4)))
    raw, same, noise = compare_tables(tables, labels, [make_split(labels, "random", seed) for seed in range(3)])
    assert (same.mean, same.less_raw, same.less_raw_low, same.less_raw_high) == (raw.mean, 0, 0, 0)
    assert raw.low < raw.mean < raw.high or raw.mean > 0.99
    assert noise.low < 0.5 < noise.high
    assert noise.less_raw_high < -0.2
    assert len(raw.seeds) == 3
