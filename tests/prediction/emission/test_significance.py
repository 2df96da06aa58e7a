"""Predictions show as many significant genes as training perturbations of their size (simulated effects)."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import InputProblems
from stateshift.prediction.emission import match_significance

GENES, CONTROLS, CELLS = 2_000, 10_000, 400
VARIANCES = np.linspace(0.05, 0.6, GENES)
ERROR = np.sqrt(VARIANCES * (1 / CELLS + 1 / CONTROLS))


def true_effect(size: float, seed: int) -> np.ndarray:
    """A twentieth of the genes answer, in standard errors of 400 cells."""
    rng = np.random.default_rng(seed)
    return size * rng.standard_normal(GENES) * (rng.random(GENES) < 0.05)


def measured(z: np.ndarray, n_cells: float, rng: np.random.Generator) -> np.ndarray:
    error = np.sqrt(VARIANCES * (1 / n_cells + 1 / CONTROLS))
    return z * ERROR + error * rng.standard_normal(GENES)


@pytest.fixture(scope="module")
def match():
    rng = np.random.default_rng(0)
    n_cells = rng.integers(150, 1_500, 200)
    sizes = np.exp(rng.uniform(np.log(0.5), np.log(12), 200))
    effects = np.stack([measured(true_effect(s, i), n, rng) for i, (s, n) in enumerate(zip(sizes, n_cells))])
    return match_significance(effects, n_cells, VARIANCES, CONTROLS)


@pytest.mark.parametrize("size", [2.0, 4.0, 8.0])
def test_the_number_of_genes_that_a_size_shows_is_learned(match, size):
    rng = np.random.default_rng(1)
    allowed, counts = [], []
    for seed in range(1_000, 1_020):
        z = true_effect(size, seed)
        allowed.append(match.allowed(z * ERROR, CELLS))
        counts.append((np.abs(measured(z, CELLS, rng) / ERROR) > match.threshold).sum())
    assert np.mean(allowed) == pytest.approx(np.mean(counts), rel=0.15)


def test_a_dense_effect_is_shrunk_to_as_many_genes_as_its_size_shows(match):
    rng = np.random.default_rng(2)
    effect = 1.5 * ERROR * np.random.default_rng(3).choice([-1, 1], GENES) + 1.5 * ERROR * rng.standard_normal(GENES)
    allowed = match.allowed(effect, CELLS)
    before = (np.abs(measured(effect / ERROR, CELLS, rng) / ERROR) > match.threshold).sum()
    shrunk = match.shrink(effect, CELLS)
    after = [(np.abs(measured(shrunk / ERROR, CELLS, rng) / ERROR) > match.threshold).sum() for _ in range(20)]
    assert before > 2 * allowed
    assert np.mean(after) == pytest.approx(allowed, rel=0.1)
    assert match.expected(shrunk, CELLS) == pytest.approx(allowed, rel=1e-3)
    # a soft threshold: signs stay, and all that is left is smaller by the same number of standard errors
    kept = shrunk != 0
    lost = (np.abs(effect) - np.abs(shrunk))[kept] / ERROR[kept]
    assert lost == pytest.approx(lost[0], rel=1e-6)
    assert (np.sign(shrunk) == np.sign(effect))[kept].all()


def test_an_effect_like_those_of_training_is_hardly_touched(match):
    for seed in range(1_000, 1_010):
        effect = true_effect(6.0, seed) * ERROR
        assert np.linalg.norm(match.shrink(effect, CELLS) - effect) < 0.25 * np.linalg.norm(effect)


def test_an_effect_of_few_genes_comes_back_as_it_is_and_a_dense_small_one_keeps_some(match):
    sparse = np.zeros(GENES)
    sparse[:5] = 40 * ERROR[:5]
    assert (match.shrink(sparse, CELLS) == sparse).all()
    dense = np.full(GENES, 0.6) * ERROR * np.random.default_rng(0).uniform(0.5, 1.5, GENES)
    assert np.abs(match.shrink(dense, CELLS)).max() > 0


def test_a_gene_that_controls_do_not_vary_in_is_left_as_it_is():
    variances = np.append(VARIANCES, 0.0)
    rng = np.random.default_rng(0)
    effects = np.stack([np.append(measured(true_effect(3.0, i), CELLS, rng), 0.1) for i in range(20)])
    match = match_significance(effects, np.full(20, CELLS), variances, CONTROLS)
    dense = np.append(3 * ERROR, 0.2)
    shrunk = match.shrink(dense, CELLS)
    assert shrunk[-1] == 0.2
    assert np.abs(shrunk[:-1]).max() < 3 * ERROR.max()


def test_all_problems_of_the_training_effects_are_told_at_once():
    with pytest.raises(InputProblems) as refused:
        match_significance(np.full((3, 4), np.nan), np.array([10, 0, 5]), np.ones(5), 100)
    for part in ("1 perturbations have no cells", "variances of shape (5,) for 4 genes", "12 effects are NaN"):
        assert part in str(refused.value)
