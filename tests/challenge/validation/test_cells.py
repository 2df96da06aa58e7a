"""Copies, empty and alike cells, and contexts, on cells worked out by hand."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stateshift.challenge import read_season
from stateshift.challenge.candidate import opened_candidate
from stateshift.challenge.facts import gather
from stateshift.challenge.validation.cells import _correlations, _profile, check_cells, check_contexts
from stateshift.challenge.validation.outcome import Validation

CONTROL = "non-targeting"


def facts_of(populations):
    """Facts of cells given as ``label`` or ``label in context`` → rows of values."""
    pairs = [name.partition(" in ")[::2] for name, rows in populations.items() for _ in rows]
    X = np.array([row for rows in populations.values() for row in rows], np.float32)
    obs = pd.DataFrame(pairs, columns=["target_gene", "context"], index=[f"c{i}" for i in range(len(X))])
    with opened_candidate(ad.AnnData(X, obs=obs), read_season("2026").cells) as found:
        return gather(found, np.ones(found.n, bool))


def said(check, *given):
    """What a check says, name → (status, detail)."""
    outcome = Validation("p.h5ad", read_season("2026"))
    check(outcome, *given)
    return {c.name: (c.status, c.detail) for c in outcome.checks}


def of_cells(populations, real=None):
    return said(check_cells, facts_of(populations), CONTROL, None if real is None else facts_of(real))


def of_contexts(populations, real, scale="counts"):
    real = None if real is None else facts_of(real)
    return said(check_contexts, facts_of(populations), real, scale)["contexts' labels"]


CONTROLS = [[1, 5, 0], [3, 1, 2], [5, 3, 1], [3, 3, 1]]  # mean 3, 3, 1; variance 2, 2, 1/2


def test_cells_that_are_as_they_should_be_pass_with_their_figures():
    assert of_cells({CONTROL: CONTROLS, "G1": [[2, 1, 3], [4, 5, 4], [2, 5, 2], [8, 5, 3]]}) == {
        "no empty perturbation": ("pass", "every one expresses something"),
        "no empty cells": ("pass", "every cell expresses something"),
        "differ from controls": ("pass", "all do"),
        "no cell twice": ("pass", "every predicted cell is its own"),
        # 6, 3 and 1/2 beside 2, 2 and 1/2
        "variance": ("pass", "2.11 times the controls', 2.11 at least"),
    }


def test_a_population_of_the_controls_very_mean_predicts_nothing():
    mean = [[3, 3, 1], [2, 3, 2], [4, 3, 0]]
    found = of_cells({CONTROL: CONTROLS, "G1": mean})
    assert found["differ from controls"] == ("fail", "1 have the controls' very mean and predict nothing: G1")
    moved = [[3, 3, 1.00003], *mean[1:]]  # a hundred-thousandth in one gene
    assert of_cells({CONTROL: CONTROLS, "G1": moved})["differ from controls"][0] == "pass"
    found = of_cells({CONTROL: CONTROLS, "G1": mean, "G2": CONTROLS[:2] * 2})
    assert found["differ from controls"] == (
        "fail",
        "1 perturbations are copies of control cells and predict nothing: G2; "
        "1 have the controls' very mean and predict nothing: G1",
    )


def test_cells_that_equal_a_control_cell_are_counted_where_others_do_not():
    found = of_cells({CONTROL: CONTROLS, "G1": [CONTROLS[0], CONTROLS[2], [9, 9, 9]], "G2": [CONTROLS[1], [7, 0, 0]]})
    assert found["differ from controls"] == ("pass", "3 predicted cells equal a control cell")


def test_empty_cells_are_no_copies_of_empty_controls_and_control_cells_are_no_perturbation():
    zero = [0, 0, 0]
    found = of_cells({CONTROL: [zero, zero], "G1": [zero, [1, 2, 0]], "G2": [zero, zero]})
    assert found["no empty perturbation"] == ("fail", "1 hold nothing but zeros: G2")
    assert found["no empty cells"] == ("warn", "3 cells hold nothing but zeros (G1, non-targeting)")
    assert found["no cell twice"] == ("pass", "every predicted cell is its own")
    assert "copies" not in found["differ from controls"][1]


def test_each_context_is_compared_with_its_own_controls():
    high = (np.array(CONTROLS) + 10).tolist()
    real = {f"{CONTROL} in A": CONTROLS, f"{CONTROL} in B": high}
    mean_of_b = [[13, 13, 11], [12, 13, 12], [14, 13, 10]]
    found = of_cells({"G1 in A": mean_of_b, "G1 in B": mean_of_b}, real)
    assert found["differ from controls"][1] == "1 have the controls' very mean and predict nothing: G1 in B"
    assert of_cells({"G1": mean_of_b})["differ from controls"] == (
        "open", "no control cells to compare with: name them with --controls",
    )  # fmt: skip


def test_cells_that_stand_twice_are_told_apart_by_whether_their_names_differ():
    one, two, three = [1, 0, 4], [2, 2, 2], [3, 0, 0]
    found = of_cells({CONTROL: [two, two, one], "G1": [one, one, three], "G2": [two, two, [8, 1, 0]], "G3": [three]})
    assert found["no cell twice"] == (
        "warn", "2 cells stand under several targets or contexts: G1, G3; 4 cells stand more than once under one",
    )  # fmt: skip


@pytest.mark.parametrize(("ratio", "flagged"), [(0.04, True), (0.06, False), (1.0, False)])
def test_a_population_of_less_than_a_twentieth_of_the_controls_variance_is_called_alike(ratio, flagged):
    shrunk = np.array([5, 6, 7]) + np.sqrt(ratio) * (np.array(CONTROLS) - [3, 3, 1])
    status, detail = of_cells({CONTROL: CONTROLS, "G1": shrunk.tolist(), "G2": [[9, 9, 9]]})["variance"]
    assert (status == "warn") == flagged
    assert (
        detail.endswith("as pasted means are: G1") or detail == f"{ratio:.2f} times the controls', {ratio:.2f} at least"
    )


def test_the_median_and_the_least_variance_are_told_and_single_cells_not_judged():
    three = {f"G{k}": (np.array([5, 6, 7]) * k + np.sqrt(k) * np.array(CONTROLS)).tolist() for k in (1, 2, 3)}
    assert of_cells({CONTROL: CONTROLS, **three, "G9": [[9, 9, 9]]})["variance"] == (
        "pass", "2.00 times the controls', 1.00 at least",
    )  # fmt: skip


def test_without_controls_only_cells_all_alike_are_called_so():
    nearly = [[1.0, 2, 3], [1.0, 2, 3.001]]
    assert of_cells({"G1": nearly, "G2": [[1, 1, 1]]})["variance"] == ("pass", "cells differ")
    assert of_cells({"G1": nearly, "G2": [[4, 5, 6], [4, 5, 6]]})["variance"][1].endswith("means are: G2")


def test_controls_of_contexts_with_other_names_serve_by_their_mean_variance():
    by = {k: (np.sqrt(k) * np.array(CONTROLS)).tolist() for k in (2, 8, 10)}  # so many times their variance
    found = of_cells({"G1 in A": by[10]}, {f"{CONTROL} in X": by[2], f"{CONTROL} in Y": by[8]})
    assert found["variance"] == ("pass", "2.00 times the controls', 2.00 at least")


def spread(mean, n=4, by=0.1):
    """Cells around a mean."""
    return [[m + (by if (i + g) % 2 else -by) for g, m in enumerate(mean)] for i in range(n)]


A, B = [9.0, 1, 1, 4], [1.0, 9, 4, 1]
REAL = {f"{CONTROL} in A": spread(A), f"{CONTROL} in B": spread(B)}


def test_contexts_are_called_swapped_where_more_than_half_of_the_targets_are_like_anothers_controls():
    def swapped(count):
        own = {f"G{i} in A": spread(B if i < count else A, by=0.2) for i in range(4)}
        return of_contexts(own | {f"G{i} in B": spread(B, by=0.2) for i in range(2)}, REAL)

    assert swapped(0) == ("pass", "6 of 6 populations are most like their own context's controls")
    assert swapped(2) == ("pass", "4 of 6 populations are most like their own context's controls")
    assert swapped(3) == ("fail", "3 of 4 targets in A are most like the controls of B: swapped?")


def test_contexts_can_not_be_told_apart_without_controls_of_each():
    own = {"G1 in A": spread(A), "G1 in B": spread(B)}
    assert of_contexts(own, None)[0] == "open"
    assert of_contexts(own, {f"{CONTROL} in A": spread(A)}) == ("open", "the control cells are of A alone")
    only_c = {f"{CONTROL} in A": spread(A), f"{CONTROL} in C": spread(B)}
    assert of_contexts(own, only_c) == ("open", "the control cells are of A, C alone")
    assert of_contexts({"G1 in A": spread(A)}, {f"{CONTROL} in A": spread(A)})[0] == "open"
    assert of_contexts({"G1 in A": spread(A)}, REAL)[0] == "pass"


@pytest.mark.parametrize(("apart", "status"), [(1.0, "pass"), (0.9, "open"), (0.0, "open")])
def test_controls_are_told_apart_from_twice_the_error_of_the_difference_of_their_means(apart, status):
    # variance 1 of 8 cells in one gene: each mean's error is 1/8, their difference's twice that, twice its root is 1
    eight = np.array([[1.0, 8, 2], [3.0, 8, 2]] * 4)
    far = eight + np.array([30, 0, 0])
    other = eight + np.array([apart, 0, 0])
    real = {
        f"{CONTROL} in A": far.tolist(),
        f"{CONTROL} in B": eight.tolist(),
        f"{CONTROL} in C": other.tolist(),
    }
    own = {"G1 in A": far.tolist()}
    found = of_contexts(own, real)
    assert found[0] == status
    if status == "open":
        assert found[1] == "the control cells of B and C are too alike to tell them apart"


def test_correlations_are_numpys_and_nothing_correlates_with_a_constant():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 2, (4, 9)), rng.gamma(2, 5, (3, 9))
    np.testing.assert_allclose(_correlations(a, b), np.corrcoef(a, b)[:4, 4:], atol=1e-12)
    np.testing.assert_allclose(_correlations(1e-6 * a, b), _correlations(a, b), atol=1e-12)
    assert _correlations(np.full((1, 9), 0.1), b).tolist() == [[0, 0, 0]]


def test_counts_are_compared_as_logarithms_of_shares_and_logarithms_as_they_are():
    means = np.array([[1.0, 3.0], [0.01, 0.03], [0.0, 0.0]])
    np.testing.assert_allclose(_profile(means, True), [np.log1p([2500, 7500])] * 2 + [[0, 0]])
    assert _profile(means, False) is means


def test_control_cells_on_another_scale_show_swapped_contexts_and_no_copies():
    counts = {f"{CONTROL} in A": spread(A, by=1), f"{CONTROL} in B": spread(B, by=1)}
    logs = {name: np.log1p(rows).tolist() for name, rows in counts.items()}
    swapped = {"G1 in A": spread(B, by=1), "G1 in B": spread(A, by=1)}
    assert of_contexts(swapped, logs)[0] == of_contexts(swapped, counts)[0] == "fail"
    found = of_cells(swapped, logs)
    assert found["differ from controls"] == (
        "open", "the control cells are on another scale: name others with --controls",
    )  # fmt: skip
    assert found["variance"] == ("pass", "cells differ")
