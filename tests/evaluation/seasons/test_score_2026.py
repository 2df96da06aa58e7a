"""The members and anchors of 2026 beside cell-eval2's, and what is refused."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.errors import StateshiftError
from stateshift.evaluation.seasons import CELL_EVAL2_NAMES, anchors_2026, score_2026
from stateshift.evaluation.seasons.bulk import bulk_and_noise
from stateshift.evaluation.seasons.score_2026 import member_score

PARTS = {**CELL_EVAL2_NAMES, "error": "expr_mse_unbiased_capped", "effect": "expr_distance_unbiased"}
# given, so that a score needs no measuring
ENDS = pd.DataFrame(
    {"baseline": [0.5, 1.0, 1.2, 0.3, 0.1, 0.1], "replicate": [0.9, 0.2, 0.5, 0.7, 0.8, 0.5]},
    index=list(CELL_EVAL2_NAMES),
)


@pytest.fixture
def cell_eval2(caplog):
    package = pytest.importorskip("cell_eval2", reason="the official extra is not installed")
    caplog.set_level(logging.CRITICAL)
    return package


@pytest.fixture
def preset(cell_eval2):
    from cell_eval2.config import EvalConfig

    return dataclasses.replace(EvalConfig.from_preset("vcc2026"), pert_col="target_gene", num_threads=1)


@pytest.mark.filterwarnings("ignore")
def test_members_and_both_ends_of_the_scale_are_cell_eval2s(panel, cell_eval2, preset):
    from cell_eval2.anchor import compute_replicate_anchor
    from cell_eval2.baseline import build_generic_baseline
    from cell_eval2.run import aggregate_metrics

    rows = cell_eval2.compute_metrics(panel.predicted.copy(), panel.truth.copy(), config=preset)
    ours = score_2026(panel.without_controls(), panel.truth)
    theirs = rows.to_pandas().pivot(index="perturbation", columns="metric", values="value")
    for name, official in PARTS.items():
        if name != "mse":
            np.testing.assert_allclose(ours.table[name], theirs[official], atol=1e-6, err_msg=name)
    assert ours.table["lfc_nmae"].isna().any()
    means = dict(aggregate_metrics(rows).select("metric", "mean").iter_rows())
    base = build_generic_baseline(panel.truth.copy(), config=preset, allow_degenerate=True).agg
    baseline = base.row(base["statistic"].to_list().index("mean"), named=True)
    replicate = dict(
        compute_replicate_anchor(panel.truth.copy(), config=preset)[1].select("metric", "replicate").iter_rows()
    )
    for name, official in CELL_EVAL2_NAMES.items():
        expected = [means[official], baseline[official], replicate[official]]
        found = ours.members.loc[name, ["value", "baseline", "replicate"]].tolist()
        assert found == pytest.approx(expected, abs=1e-6), name
    assert ours.score == pytest.approx(ours.members["score"].mean())


@pytest.mark.filterwarnings("ignore")
def test_a_members_score_is_cell_eval2s(cell_eval2):
    from cell_eval2.catalog import CATALOG
    from cell_eval2.scoring import score_one

    for name, official in CELL_EVAL2_NAMES.items():
        low, high = (1.1, 0.2) if name in ("mse", "lfc_nmae") else (0.1, 0.8)
        policy = dataclasses.replace(CATALOG[official].scoring, anchor=high)
        for value in (low, high, 0.5, 0.05, 1.3, 30.0, float("nan")):
            assert member_score(name, value, low, high) == pytest.approx(score_one(value, low, policy)), (name, value)


def test_files_other_gene_order_threads_and_given_anchors_give_the_same(panel, tmp_path):
    expected = score_2026(panel.predicted, panel.truth)
    panel.truth.write_h5ad(tmp_path / "truth.h5ad")
    panel.without_controls()[:, ::-1].copy().write_h5ad(tmp_path / "predicted.h5ad")
    ends = anchors_2026(tmp_path / "truth.h5ad", threads=2)
    pd.testing.assert_frame_equal(ends, expected.members[["baseline", "replicate"]], check_names=False)
    found = score_2026(tmp_path / "predicted.h5ad", tmp_path / "truth.h5ad", anchors=ends, threads=2)
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert found.score == pytest.approx(expected.score)


def test_two_values_of_one_place_are_their_sum(panel):
    expected = score_2026(panel.predicted, panel.truth, anchors=ENDS)
    X, twice = panel.truth.X, panel.truth.copy()
    values = np.stack([np.floor(X.data / 2), np.ceil(X.data / 2)], axis=1).ravel()
    twice.X = csr_matrix((values, np.repeat(X.indices, 2), X.indptr * 2), X.shape)
    pd.testing.assert_frame_equal(score_2026(panel.predicted, twice, anchors=ENDS).table, expected.table)


def test_a_predictions_own_controls_are_not_looked_at(panel):
    with_controls = score_2026(panel.predicted, panel.truth, anchors=ENDS)
    without = score_2026(panel.without_controls(), panel.truth, anchors=ENDS)
    pd.testing.assert_frame_equal(with_controls.table, without.table)


def test_the_truth_itself_is_as_near_as_can_be(panel):
    found = score_2026(panel.truth, panel.truth, anchors=ENDS).members["value"]
    assert found[["pds_cosine", "direction_fidelity", "jaccard", "lfc_nmae"]].tolist() == [1, 1, 1, 0]
    assert found["mse"] < 0


def test_pasted_controls_reach_no_direction(panel):
    pasted = panel.without_controls()
    controls = panel.truth.X[(panel.truth.obs["target_gene"] == "non-targeting").to_numpy()]
    pasted.X = csr_matrix(controls[np.random.default_rng(0).integers(0, controls.shape[0], pasted.n_obs)])
    found = score_2026(pasted, panel.truth, anchors=ENDS)
    assert found.members.loc["direction_fidelity", "value"] < 0.1
    assert found.members.loc["mse", "value"] > 0.7


def test_noise_of_a_pseudobulk_is_its_jackknife_by_hand():
    counts = np.array([[3.0, 0, 1], [0, 5, 2], [4, 4, 0], [0, 0, 0]])

    def bulk(cells):
        return np.log1p(cells.sum(axis=0) * 50_000 / cells.sum())

    without = np.stack([bulk(np.delete(counts, i, axis=0)) for i in range(4)])
    expected = 3 / 4 * ((without - without.mean(axis=0)) ** 2).sum()
    sums, found, noise = bulk_and_noise(csr_matrix(counts))
    assert sums.tolist() == [7, 9, 3]
    assert found == pytest.approx(bulk(counts))
    assert noise == pytest.approx(expected)
    assert bulk_and_noise(csr_matrix(counts[:1]))[2] == 0
    assert bulk_and_noise(csr_matrix((3, 2)))[1].tolist() == [0, 0]


def test_what_can_not_be_scored_is_told(panel):
    with pytest.raises(StateshiftError, match="no whole counts"):
        score_2026(panel.log1p().predicted, panel.truth, anchors=ENDS)
    with pytest.raises(StateshiftError, match="`jaccard` has no scale"):
        score_2026(panel.predicted, panel.truth, anchors=ENDS.assign(replicate=[0.9, 0.2, 0.5, 0.7, 0.8, 0.05]))
    drugs = panel.truth.copy()
    drugs.obs["target_gene"] = [
        "non-targeting" if t == "non-targeting" else f"drug {t}" for t in drugs.obs["target_gene"]
    ]
    with pytest.raises(StateshiftError, match="named after a measured gene"):
        score_2026(drugs, drugs, anchors=ENDS)
    single = panel.truth[~((panel.truth.obs["target_gene"] == "g1") & (np.arange(panel.truth.n_obs) != 4))].copy()
    with pytest.raises(StateshiftError, match="g1 have fewer than two cells"):
        anchors_2026(single)
