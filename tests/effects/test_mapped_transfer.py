"""What other contexts tell of a target, turned into what its own context answers with."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.mapped_transfer import PENALTIES, _ridge, fit_mapped_transfer

G, PROGRAMS = 40, 3


def screen(strengths: dict[str, list[float]], targets: int = 30, noise: float = 0.05) -> EffectTable:
    """Targets of three programs, which each context answers with strengths of its own."""
    rng = np.random.default_rng(1)
    activity, loadings = rng.normal(size=(targets, PROGRAMS)), rng.normal(size=(PROGRAMS, G))
    blocks = [(activity * s) @ loadings + noise * rng.normal(size=(targets, G)) for s in strengths.values()]
    names = [f"T{i:02d}" for i in range(targets)]
    n = len(strengths) * targets
    return EffectTable(
        [f"g{j}" for j in range(G)],
        names * len(strengths),
        [c for c in strengths for _ in names],
        np.concatenate(blocks).astype(np.float32),
        np.full(n, 200),
        {},
        standard_error=np.full((n, G), noise, np.float32),
    )


def test_a_context_with_strengths_of_its_own_is_told_by_its_other_targets():
    table = screen({"x": [1, 1, 1], "y": [0.3, 2, 0.6]})
    held = np.array([c == "y" and p >= "T20" for p, c in zip(table.perturbations, table.contexts)])
    model, truth = fit_mapped_transfer(table.rows(~held)), table.rows(held)
    asked = truth.perturbations, truth.contexts
    errors = [((m.predict(*asked) - truth.effects) ** 2).mean() for m in (model.transfer, model)]
    assert errors[0] > 0.3
    assert errors[1] < 0.05
    assert set(model.routes(*asked)) == {"transfer"}


def test_a_context_without_rows_and_a_new_target_have_what_the_transfer_says():
    table = screen({"x": [1, 1, 1], "y": [0.3, 2, 0.6]})
    model = fit_mapped_transfer(table)
    assert set(model.maps) == {"x", "y"}
    for asked in ((["T03"], ["new"]), (["unseen"], ["y"])):
        np.testing.assert_allclose(model.predict(*asked), model.transfer.predict(*asked), atol=1e-6)
    assert model.predict([], []).shape == (0, G)


def test_few_rows_and_partly_measured_ones_give_no_map():
    table = screen({"x": [1, 1, 1], "y": [0.3, 2, 0.6]})
    for rows, mapped in ((9, set()), (10, {"x", "y"})):  # of y, and so of x that another context tells of
        few = np.array([c == "x" or p < f"T{rows:02d}" for p, c in zip(table.perturbations, table.contexts)])
        assert set(fit_mapped_transfer(table.rows(few)).maps) == mapped
    table.effects[0, 3] = np.nan
    assert not fit_mapped_transfer(table).maps


def test_the_map_is_ridge_regression_of_the_penalty_that_leaving_rows_out_asks_for():
    rng = np.random.default_rng(0)
    points, left = rng.normal(size=(15, 4)), rng.normal(size=(4, 6))
    left = points @ left + 1.5 * rng.normal(size=(15, 6))
    unit = (np.linalg.svd(points, compute_uv=False) ** 2).mean()

    def without_each(penalty: float) -> float:
        error = 0.0
        for i in range(15):
            kept = np.arange(15) != i
            model = Ridge(alpha=penalty * unit, fit_intercept=False).fit(points[kept], left[kept])
            error += ((model.predict(points[[i]]) - left[i]) ** 2).sum()
        return error

    best = min(PENALTIES, key=without_each)
    by_sklearn = Ridge(alpha=best * unit, fit_intercept=False).fit(points, left).coef_.T
    assert _ridge(points, left) == pytest.approx(by_sklearn)
    assert without_each(best) < (left**2).sum()


def test_where_nothing_is_left_to_learn_there_is_no_map():
    assert _ridge(np.zeros((12, 3)), np.ones((12, 4))) is None


def test_what_rows_do_not_tell_of_each_other_gives_no_map():
    rng = np.random.default_rng(2)
    assert _ridge(rng.normal(size=(12, 3)), rng.normal(size=(12, 500))) is None
