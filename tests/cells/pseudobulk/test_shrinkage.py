import numpy as np
import pytest

from stateshift.cells import estimate_effects, read_cells, shrink_effects


def test_two_rows_of_different_weight_worked_out_by_hand():
    # weights 10/(10 + 20) and 30/(30 + 20); τ² = (1/3 · (4 − 1) + 3/5 · (9 − 4)) / (14/15) = 30/7
    shrunk = shrink_effects(np.array([[2.0], [3.0]]), np.array([[1.0], [2.0]]), ["c", "c"], np.array([10, 30]))
    assert shrunk[:, 0] == pytest.approx([2 * 30 / 37, 3 * 30 / 58])


def test_no_error_leaves_an_effect_and_no_spread_takes_it():
    exact = shrink_effects(np.array([[0.3], [-2.0]]), np.zeros((2, 1)), ["c", "c"])
    assert exact[:, 0] == pytest.approx([0.3, -2.0])
    noise = shrink_effects(np.array([[0.3], [-2.0]]), np.full((2, 1), 3.0), ["c", "c"])
    assert noise[:, 0].tolist() == [0.0, 0.0]
    mixed = shrink_effects(np.array([[0.3], [1.0]]), np.array([[0.0], [4.0]]), ["c", "c"])
    assert mixed[:, 0] == pytest.approx([0.3, 0.0])


def test_few_cells_shrink_more():
    effects = np.ones((2, 1))
    shrunk = shrink_effects(effects, np.array([[0.1], [0.5]]), ["c", "c"])
    assert 0 < shrunk[1, 0] < shrunk[0, 0] < 1


def test_contexts_have_a_spread_of_their_own():
    effects, error = np.array([[2.0], [0.5], [2.0]]), np.ones((3, 1))
    together = shrink_effects(effects, error, ["c", "c", "c"])
    apart = shrink_effects(effects, error, ["c", "d", "c"])
    assert apart[:, 0] == pytest.approx([1.5, 0.0, 1.5])
    assert together[0, 0] < 1.5


def test_what_is_not_known_stays_unknown_and_touches_nothing_else():
    effects = np.array([[2.0, 1.0], [-2.0, np.nan], [9.0, 1.0]])
    error = np.array([[1.0, 1.0], [1.0, 1.0], [np.nan, 1.0]])
    shrunk = shrink_effects(effects, error, ["c"] * 3)
    assert shrunk[:2, 0] == pytest.approx([1.5, -1.5])
    assert np.isnan(shrunk).tolist() == [[False, False], [False, True], [True, False]]


def test_normal_effects_are_nearer_the_truth_by_the_ratio_that_theory_gives():
    rng = np.random.default_rng(0)
    P, G, tau = 300, 200, 0.5
    n = rng.integers(4, 200, P)
    error = np.sqrt(10 / n)[:, None] * np.ones((P, G))
    truth = tau * rng.normal(size=(P, G))
    seen = truth + error * rng.normal(size=(P, G))
    shrunk = shrink_effects(seen, error, ["c"] * P, n)
    best = (tau**2 * error**2 / (tau**2 + error**2)).mean()
    assert ((shrunk - truth) ** 2).mean() == pytest.approx(best, rel=0.03)
    assert best < 0.45 * ((seen - truth) ** 2).mean()


def test_real_effects_of_half_the_cells_foretell_the_other_half_better_when_shrunk(shared_data):
    cells = read_cells(shared_data / "cells" / "norman_mcfaline_5961x500.h5ad")
    half = np.random.default_rng(0).random(len(cells)) < 0.5
    one, other = estimate_effects(cells, half), estimate_effects(cells, ~half)
    assert one.perturbations == other.perturbations
    for context in sorted(set(one.contexts)):
        mine = np.array(one.contexts) == context
        raw = ((one.effects - other.effects)[mine] ** 2).mean()
        shrunk = ((one.shrunk - other.effects)[mine] ** 2).mean()
        nothing = (other.effects[mine] ** 2).mean()
        assert shrunk < 0.95 * min(raw, nothing)
