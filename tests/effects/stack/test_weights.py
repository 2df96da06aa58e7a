"""Weights where held-out rows say nothing, or fold by fold not the same genes."""

from __future__ import annotations

import logging
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects import fit_stack
from stateshift.effects.stack.folds import regime_folds
from stateshift.effects.stack.weights import MOST, Products, bounded, member_weights
from stateshift.feature_table import FeatureTable


def test_of_genes_that_one_input_lacks_no_input_is_weighed():
    rng = np.random.default_rng(0)
    inputs, truth = rng.normal(size=(3, 5, 6)), rng.normal(size=(5, 6))
    inputs[1, :, 4], truth[2, 0] = np.nan, np.nan
    known = ~np.isnan(truth) & (np.arange(6) != 4)
    products = Products.of(inputs, truth)
    assert products.of_inputs == pytest.approx(np.array([[a[known] @ b[known] for a in inputs] for b in inputs]))
    assert products.with_truth == pytest.approx([a[known] @ truth[known] for a in inputs])


def test_weights_of_inputs_of_any_size_are_scipys_bounded_least_squares():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4, 30, 6)) * np.array([1, 0.3, 5, 1])[:, None, None]
    truth = 0.5 * inputs[0] + 6 * inputs[1] + 0.02 * inputs[2] - 0.4 * inputs[3] + 0.1 * rng.normal(size=(30, 6))
    expected = lsq_linear(inputs.reshape(4, -1).T, truth.ravel(), (0, MOST)).x
    assert expected == pytest.approx([0.5, MOST, 0.02, 0.0], abs=0.2)
    assert bounded(Products.of(inputs, truth), range(4)) == pytest.approx(expected, abs=1e-4)
    first = lsq_linear(inputs[:1].reshape(1, -1).T, truth.ravel(), (0, MOST)).x
    assert bounded(Products.of(inputs, truth), [0]) == pytest.approx([*first, 0, 0, 0], abs=1e-4)


def test_a_regime_that_nothing_foretells_is_left_to_the_main_effect(caplog):
    # what a target does in y is the reverse of what it does in x, so other contexts tell less than nothing
    rng = np.random.default_rng(0)
    effect = rng.normal(size=(20, 30)).astype(np.float32)
    names = [f"T{i:02d}" for i in range(20)]
    table = EffectTable(
        [f"g{j}" for j in range(30)], names * 2, ["x"] * 20 + ["y"] * 20, np.concatenate([effect, -effect]), None,
        {c: np.full(30, 9.0) for c in ("x", "y", "new")},
    )  # fmt: skip
    with caplog.at_level(logging.INFO):
        stack = fit_stack(table.rows(np.arange(40) < 39), None)
    assert "nothing foretells the held-out rows of regime C" in caplog.text
    assert stack.weights["C"] == {"main": 1.0, "additive": 0.0, "mapped": 0.0, "transfer": 0.0}
    assert np.abs(stack.predict(["T19"], ["y"])).min() > 0


def test_a_gene_that_a_fold_does_not_measure_is_not_foretold_there():
    rng = np.random.default_rng(1)
    names = [f"T{i:02d}" for i in range(20)]
    features = FeatureTable(names, rng.normal(size=(20, 3)), {"source": "x"})
    effects = (1 + features.vectors @ rng.normal(size=(3, 25))).astype(np.float32)
    effects[1:, 0], effects[0, 0] = np.nan, 50.0
    table = EffectTable([f"g{j}" for j in range(25)], names, ["x"] * 20, effects, None, {"x": np.full(25, 9.0)})
    stack = fit_stack(table, features)
    held = stack.held_out["T"]
    row = held.perturbations.index("T00")
    assert np.isnan(held.predicted[row, 0])
    assert np.isfinite(held.predicted[:, 1:]).all()
    # had the fold said 0, a fifth of which is 50 off, the weights would be another's
    without = fit_stack(table.columns(np.arange(25) > 0), features)
    assert stack.weights["T"] == pytest.approx(without.weights["T"], abs=0.02)


def test_a_double_is_held_out_once_in_a_regime():
    names = [f"T{i:02d}" for i in range(12)]
    names += [f"{a}+{b}" for a, b in pairwise(names)]
    pairs = [(p, c) for p in names for c in "xy"]
    table = EffectTable(
        ["g"], [p for p, _ in pairs], [c for _, c in pairs], np.ones((len(pairs), 1), np.float32), None, {}
    )
    for regime, folds in regime_folds(table).items():
        rows = np.concatenate([held for _, held in folds])
        assert len(rows) == len(set(rows.tolist())), regime
        assert len(rows) == len(pairs), regime
        assert all(set(fit).isdisjoint(held) for fit, held in folds)


def test_a_member_that_shrank_to_next_to_nothing_is_not_blown_up():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(2, 30, 8))
    folds = [Products.of([rng.normal(size=t.shape), 1e-4 * t], t) for t in truth]
    weights = member_weights(folds)
    assert weights[1] <= MOST
    assert abs(weights[1] * 1e-4) < 1e-3


def test_what_weights_explain_is_by_how_much_they_lessen_the_squared_error():
    inputs, truth = np.array([[[1.0, 2.0]], [[0.0, 1.0]]]), np.array([[1.0, 3.0]])
    weights = np.array([0.5, 0.25])
    left = truth - np.tensordot(weights, inputs, 1)
    assert Products.of(inputs, truth).explained(weights) == pytest.approx((truth**2).sum() - (left**2).sum())


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_weights_are_the_same_in_any_unit_of_effects(unit):
    rng = np.random.default_rng(0)
    inputs, truth = rng.normal(size=(3, 20, 6)), rng.normal(size=(20, 6)) + 2
    inputs[1] += 0.5 * truth
    expected = bounded(Products.of(inputs, truth), range(3))
    assert expected[1] > 0.1
    assert bounded(Products.of(unit * inputs, unit * truth), range(3)) == pytest.approx(expected, abs=1e-6)


def made(with_truth: list[list[float]]) -> list[Products]:
    """Folds of inputs at right angles, each of unit length, by what each has in common with the truth."""
    return [Products(np.eye(len(fold)), np.array(fold)) for fold in with_truth]


@pytest.mark.parametrize(("share", "stays"), [(0.009, False), (0.011, True)])
def test_a_member_that_adds_a_hundredth_of_what_is_explained_stays(share, stays):
    # of both folds the main effect and the member explain 1 together, the member this share
    fold = [np.sqrt(1 - share), np.sqrt(share)]
    assert member_weights(made([fold, fold])) == pytest.approx([fold[0], fold[1] * stays], abs=1e-6)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 3, 2, 1], [0, 2, 1, 3]])
def test_members_that_folds_disagree_about_leave_and_others_stay(order):
    folds = np.array([[1.0, 0.5, 0.3, 0.0], [1.0, 0.4, -0.2, 0.1]])
    expected = np.array([1.0, 0.45, 0.0, 0.0])
    assert member_weights(made(folds[:, order].tolist())) == pytest.approx(expected[order], abs=1e-6)


def test_a_single_fold_weighs_all_of_its_members():
    assert member_weights(made([[1.0, 0.05, 0.02]])) == pytest.approx([1.0, 0.05, 0.02], abs=1e-6)


def test_members_that_say_the_same_share_their_weight_and_one_that_says_nothing_has_none():
    x, truth = np.random.default_rng(0).normal(size=(2, 30, 5))
    truth += x
    weights = bounded(Products.of([x, x, 0 * x, 1e-9 * truth], truth), range(4))
    alone = bounded(Products.of([x], truth), [0])[0]
    assert weights == pytest.approx([alone / 2, alone / 2, 0, 0], rel=1e-3)
    assert bounded(Products.of([0 * x], truth), [0]).tolist() == [0]
