import numpy as np
import pandas as pd
import pytest

from stateshift.cells import Cells, Expression, estimate_effects, read_cells
from stateshift.cells.pseudobulk import second_experiment, spearman_brown
from stateshift.cells.pseudobulk.reliability import correlation, random_halves


def normal_cells(n_controls: int, n_cells: int, signal: float, seed: int, n_genes: int = 400) -> Cells:
    """One context, five perturbations whose effects vary over genes by ``signal``; cells have unit noise."""
    rng = np.random.default_rng(seed)
    names = ["ctrl"] * n_controls + [p for p in "ABCDE" for _ in range(n_cells)]
    effects = {p: signal * rng.normal(size=n_genes) for p in "ABCDE"} | {"ctrl": np.zeros(n_genes)}
    X = np.stack([effects[p] for p in names]) + rng.normal(size=(len(names), n_genes))
    obs = pd.DataFrame({"dataset": "d", "file": "f", "context": "c", "perturbation": names, "batch": ""})
    return Cells(Expression([X]), obs, [str(g) for g in range(n_genes)], "ctrl", "embedding")


def test_halves_are_equal_in_each_group_and_in_neighbours_together():
    groups = np.random.default_rng(0).integers(0, 30, 301)
    half = random_halves(groups, seed=1)
    sizes = np.array([[np.sum((groups == g) & (half == h)) for h in (0, 1)] for g in range(30)])
    assert np.abs(np.diff(sizes, axis=1)).max() <= 1
    assert np.abs(np.diff(sizes[10:20].sum(axis=0))).max() <= 1
    assert half.sum() == 150
    assert (random_halves(groups, seed=2) != half).any()


def test_the_correlation_is_numpys_and_nan_for_a_constant():
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert np.isnan(correlation(a, np.ones(50)))


def test_effects_of_nothing_have_no_reliability_though_controls_are_few():
    # halves of the perturbed cells against the same 20 controls would correlate by about 0.5
    found = [estimate_effects(normal_cells(20, 40, 0.0, seed)).reliability.mean() for seed in range(4)]
    assert abs(np.mean(found)) < 0.03


def test_reliability_is_the_share_of_signal_in_a_halfs_variance():
    # half an effect: signal 0.25², noise 1/20 + 1/50
    r = np.mean([estimate_effects(normal_cells(100, 40, 0.25, seed)).reliability.mean() for seed in range(4)])
    assert r == pytest.approx(0.0625 / (0.0625 + 1 / 20 + 1 / 50), abs=0.03)
    assert spearman_brown(np.array([r]))[0] == pytest.approx(0.0625 / (0.0625 + 1 / 40 + 1 / 100), abs=0.03)


@pytest.mark.parametrize(("n_controls", "n_cells"), [(50, 9), (9, 50)])
def test_under_ten_cells_or_controls_no_reliability_is_given(n_controls, n_cells):
    assert np.isnan(estimate_effects(normal_cells(n_controls, n_cells, 1.0, 0)).reliability).all()
    assert np.isfinite(estimate_effects(normal_cells(10, 10, 1.0, 0)).reliability).all()


def test_the_seed_draws_the_halves_and_nothing_else():
    cells = normal_cells(30, 20, 0.3, 0)
    first, again, other = (estimate_effects(cells, seed=seed) for seed in (1, 1, 2))
    assert first.reliability.tolist() == again.reliability.tolist()
    assert (first.reliability != other.reliability).all()
    np.testing.assert_allclose(first.effects, other.effects, rtol=1e-5)


def test_k562_effects_of_norman_are_reliable_and_those_of_mcfalines_lines_are_not(shared_data):
    table = estimate_effects(read_cells(shared_data / "cells" / "norman_mcfaline_5961x500.h5ad"))
    median = pd.Series(table.reliability).groupby(table.contexts).median()
    assert 0.74 < median["k562"] < 0.86
    assert (median.drop("k562").abs() < 0.15).all()


def test_a_second_experiment_reaches_what_halves_foretell_where_pairs_differ_in_strength():
    rng = np.random.default_rng(3)
    strength = np.repeat([0.0, 0.2, 0.7, 3.0], 100)[:, None]
    effect = strength * rng.standard_normal((400, 1500))

    def experiment(noise):
        return effect + noise * rng.standard_normal(effect.shape)

    def correlations(a, b):
        return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b)])

    reached = correlations(experiment(1.0), experiment(1.0)).mean()
    halves = correlations(experiment(np.sqrt(2)), experiment(np.sqrt(2)))
    assert second_experiment(halves) == pytest.approx(reached, abs=0.01)
    assert float(spearman_brown(halves.mean())) > reached + 0.05
    assert np.isnan(second_experiment(np.array([np.nan])))
