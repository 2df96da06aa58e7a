"""Emitted cells have the pseudobulk that was asked for, and look like cells."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import ks_2samp, mannwhitneyu

from stateshift.errors import InputProblems, StateshiftError
from stateshift.prediction.emission import Emitter

from .conftest import G, pseudobulk

N = 400


def rounded(controls, effect: np.ndarray, n: int, seed: int) -> np.ndarray:
    """What emission is not: cells moved on log1p and rounded back to counts."""
    x = controls[np.random.default_rng(seed).choice(controls.shape[0], n, replace=False)].toarray()
    depth = x.sum(axis=1, keepdims=True)
    return np.rint(np.expm1(np.maximum(np.log1p(1e4 * x / depth) + effect, 0)) * depth / 1e4)


def standardised(cells, wanted: np.ndarray) -> np.ndarray:
    """How far the pseudobulk is from the wanted one in standard errors, of genes that five cells or more show."""
    mean, variance = pseudobulk(cells)
    shown = np.asarray((cells > 0).sum(axis=0)).ravel() >= 5
    z = np.full(len(mean), np.nan)
    z[shown] = (mean - wanted)[shown] / np.sqrt(variance[shown] / cells.shape[0])
    return z


def factors_of(size: float) -> np.ndarray:
    return np.exp(size * np.random.default_rng(1).standard_normal(G))


@pytest.mark.parametrize("size", [0.05, 0.5, 1.5])
def test_the_pseudobulk_of_emitted_cells_is_the_predicted_one_within_sampling_error(screen, size):
    effect, before = screen.effect(factors_of(size)), pseudobulk(screen.controls)[0]
    wanted = np.maximum(before + effect, 0)
    z = np.stack([standardised(screen.emitter.emit(effect, N, seed=s, target="A"), wanted) for s in range(12)])
    assert np.nanmean(np.abs(z) > 3) < 0.01
    assert 0.85 < np.nanstd(z) < 1.1
    for genes in (effect > 0, effect < 0, before > np.median(before), before < np.median(before)):
        assert abs(np.nanmean(z[:, genes])) < 0.1


def test_a_rounding_emitter_fails_that_test(screen):
    effect, before = screen.effect(factors_of(0.5)), pseudobulk(screen.controls)[0]
    z = standardised(rounded(screen.controls, effect, N, 0), np.maximum(before + effect, 0))
    assert np.nanmean(np.abs(z) > 3) > 0.2


def test_without_an_effect_cells_are_like_controls_and_none_is_a_copy(screen):
    emitter, controls = screen.emitter, screen.controls
    cells = emitter.emit(np.zeros(G), N, seed=0, target="A")
    before, mean_variance = pseudobulk(controls), pseudobulk(cells)
    z = standardised(cells, before[0])
    assert np.nanmean(np.abs(z) > 3) < 0.01
    frequent = before[0] > 0.5
    assert np.median(mean_variance[1][frequent] / before[1][frequent]) == pytest.approx(1, abs=0.03)
    zeros = [1 - np.asarray((x > 0).mean(axis=0)).ravel() for x in (cells, controls)]
    assert np.abs(zeros[0] - zeros[1]).max() < 4.5 * np.sqrt(0.25 / N)
    assert ks_2samp(cells.sum(axis=1).A1, controls.sum(axis=1).A1).pvalue > 0.5
    origin = controls[emitter.rows(N, seed=0, target="A")]
    assert (np.abs(cells - origin).sum(axis=1).A1 > 0).all()
    changed = np.abs(cells - origin).sum() / origin.sum()
    assert 0.03 < changed < 0.1


def test_raised_and_lowered_genes_vary_as_truly_perturbed_cells_do(screen):
    factors = factors_of(1.0)
    cells = screen.emitter.emit(screen.effect(factors), 2_000, seed=0, target="A")
    truth = screen.cells(factors, 2_000, 5)
    for subset in (factors > 1.5, factors < 0.6):
        shown = subset & (np.asarray((truth > 0).mean(axis=0)).ravel() > 0.1)
        ratio = (pseudobulk(cells)[1] / pseudobulk(truth)[1])[shown]
        assert shown.sum() > 30
        assert np.median(ratio) == pytest.approx(1, abs=0.05)
        assert np.quantile(ratio, [0.05, 0.95]) == pytest.approx([1, 1], abs=0.2)


def test_a_rank_sum_test_finds_as_many_genes_as_in_truly_perturbed_cells(screen):
    factors = np.where(np.arange(G) % 5 == 0, factors_of(0.5), 1.0)
    controls = screen.controls.toarray()
    controls = controls / controls.sum(axis=1, keepdims=True)

    def significant(cells) -> int:
        x = cells.toarray() / cells.sum(axis=1).A1[:, None]
        return (mannwhitneyu(x, controls, axis=0).pvalue < 1e-3).sum()

    true = significant(screen.cells(factors, N, 5))
    emitted = significant(screen.emitter.emit(screen.effect(factors), N, seed=0, target="A"))
    assert true > 25
    assert emitted == pytest.approx(true, rel=0.2)
    assert significant(screen.emitter.emit(np.zeros(G), N, seed=0, target="A")) <= 2


def test_the_same_seed_and_target_give_the_same_cells_whatever_came_before(screen):
    effect = screen.effect(factors_of(0.5))
    first = screen.emitter.emit(effect, 50, seed=3, target="A")
    screen.emitter.emit(effect, 50, seed=3, target="B")
    again = Emitter(screen.controls, "simulated").emit(effect, 50, seed=3, target="A")
    for name in ("data", "indices", "indptr"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    for seed, target in ((4, "A"), (3, "B")):
        assert (screen.emitter.emit(effect, 50, seed=seed, target=target) != first).nnz


def test_emitted_counts_are_whole_and_not_negative_in_sorted_csr(screen):
    cells = screen.emitter.emit(screen.effect(factors_of(1.5)), N, seed=0, target="A")
    assert (cells.shape, cells.data.dtype, cells.indices.dtype, cells.indptr.dtype) == ((N, G), "f4", "i4", "i4")
    assert (cells.data >= 1).all()
    assert (cells.data == np.rint(cells.data)).all()
    assert cells.has_canonical_format


def test_an_effect_that_cells_can_not_show_is_brought_as_near_as_they_can(screen):
    effect = np.full(G, 0.1)
    aimed = screen.emitter.attainable(effect)
    error = np.sqrt(screen.emitter.controls.variances / N)
    assert screen.emitter.factors(effect) @ screen.emitter.controls.base == pytest.approx(1, abs=1e-3)
    # if all of them gave way alike, every gene would lose its 0.1
    assert np.median(np.abs(aimed - effect) / error) < 0.2
    assert np.square((aimed - effect) / error).sum() < 0.2 * np.square(effect / error).sum()
    cells = screen.emitter.emit(effect, N, seed=0, target="A")
    z = standardised(cells, pseudobulk(screen.controls)[0] + aimed)
    assert np.nanmean(np.abs(z) > 3) < 0.02
    assert cells.sum() / N == pytest.approx(screen.controls.sum() / 2_000, rel=0.02)


def test_a_knocked_down_target_is_lowered_and_an_effect_below_none_gives_none(screen):
    g = int(np.argsort(-screen.rates)[20])
    effect = np.zeros(G)
    effect[g] = -50
    assert screen.emitter.emit(effect, N, seed=0, target="A")[:, [g]].nnz == 0
    before = pseudobulk(screen.controls)[0][g]
    effect[g] = -0.8 * before
    cells = screen.emitter.emit(effect, N, seed=0, target="A")
    assert abs(standardised(cells, pseudobulk(screen.controls)[0] + effect)[g]) < 3


def test_a_gene_in_no_control_cell_is_raised_where_its_effect_is_positive():
    rng = np.random.default_rng(0)
    controls = rng.poisson(rng.gamma(3, 2, (500, 40))).astype(np.float32)
    controls[:, :2] = 0
    emitter = Emitter(controls, "c")
    effect = np.zeros(40)
    effect[:2] = (0.6, -0.6)
    cells = emitter.emit(effect, N, seed=0, target="A")
    assert abs(standardised(cells, pseudobulk(controls)[0] + np.maximum(effect, 0))[0]) < 3
    assert cells[:, [1]].nnz == 0
    assert emitter.factors(np.zeros(40))[:2].tolist() == [0, 0]


def test_the_cells_drawn_follow_the_batches_of_the_controls_and_none_comes_twice(screen):
    batches = np.repeat(["a", "b", "c"], [200, 600, 1_200])
    emitter = Emitter(screen.controls, "simulated", batches)
    rows = emitter.rows(100, seed=0, target="A")
    drawn = dict(zip(*np.unique(batches[rows], return_counts=True)))
    assert [drawn[b] for b in "abc"] == pytest.approx([10, 30, 60], abs=1)
    assert len(np.unique(rows)) == 100
    assert np.bincount(emitter.rows(5_000, seed=0, target="A")).tolist().count(2) == 1_000
    depth = screen.controls.sum(axis=1).A1
    assert depth[rows].mean() == pytest.approx(depth.mean(), rel=0.03)


def test_a_cell_of_a_single_count_keeps_one(screen):
    controls = csr_matrix(np.eye(3, dtype=np.float32).repeat(20, axis=0))
    cells = Emitter(controls, "c").emit(np.zeros(3), 600, seed=0, target="A")
    assert cells.sum(axis=1).min() == 1


def test_controls_that_do_not_vary_can_be_emitted_from():
    controls = np.full((30, 4), 25.0)
    cells = Emitter(controls, "c").emit(np.array([0.5, 0.5, 0.0, 0.0]), 30, seed=0, target="A")
    assert cells.sum() / 30 == pytest.approx(100, rel=0.1)


def test_a_cell_of_nothing_but_a_gene_knocked_out_keeps_its_depth():
    controls = np.zeros((200, 10))
    controls[:, 1:] = np.random.default_rng(0).poisson(20, (200, 9))
    controls[:20] = 0
    controls[:20, 0] = 150
    effect = np.where(np.arange(10) == 0, -20.0, 0.0)
    cells = Emitter(controls, "c").emit(effect, 200, seed=0, target="A")
    assert cells[:, [0]].nnz == 0
    assert cells.sum(axis=1).min() > 80


def test_what_can_not_be_emitted_is_refused_in_a_sentence(screen):
    with pytest.raises(StateshiftError, match="300 genes"):
        screen.emitter.emit(np.zeros(3), N, seed=0, target="A")
    effect = np.zeros(G)
    effect[7] = np.nan
    with pytest.raises(StateshiftError, match=r"1 NaN .* column 7"):
        screen.emitter.factors(effect)
    with pytest.raises(StateshiftError, match="no gene expressed"):
        screen.emitter.factors(np.full(G, -20.0))
    with pytest.raises(StateshiftError, match="0 cells"):
        screen.emitter.emit(np.zeros(G), 0, seed=0, target="A")


def test_all_problems_of_control_cells_are_told_at_once():
    controls = np.array([[1.0, -2.0], [0.5, 0.0], [0.0, 0.0]])
    with pytest.raises(InputProblems) as refused:
        Emitter(controls, "K562", ["a"])
    told = str(refused.value)
    for part in ("K562", "1 values are negative", "1 values are fractions", "1 cells hold no counts", "1 batch labels"):
        assert part in told


def test_a_measured_interferon_response_is_emitted_as_it_was_measured(shared_data):
    import anndata as ad

    cells = ad.read_h5ad(shared_data / "cells" / "kang_ifnb_1556x1267.h5ad")
    of_type = (cells.obs["cluster_id"] == "CD4 T cells").to_numpy()
    stimulated = (cells.obs["group_id"] == "stim").to_numpy()
    controls, truth = (csr_matrix(cells.X)[of_type & which] for which in (~stimulated, stimulated))
    before, after = pseudobulk(controls)[0], pseudobulk(truth)[0]
    emitter = Emitter(controls, "CD4 T cells")
    emitted = [emitter.emit(after - before, 200, seed=s, target="IFNB") for s in range(10)]
    z = np.stack([standardised(x, after) for x in emitted])
    assert np.nanmean(np.abs(z) > 3) < 0.01
    assert abs(np.nanmean(z)) < 0.1
    variance = np.mean([pseudobulk(x)[1] for x in emitted], axis=0)
    frequent = after > 0.5
    assert frequent.sum() > 100
    assert np.median(variance[frequent] / pseudobulk(truth)[1][frequent]) == pytest.approx(1, abs=0.1)
