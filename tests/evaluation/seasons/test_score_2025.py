"""The measures and the score of 2025 beside cell-eval's, and what is refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist

from stateshift.errors import InputProblems, StateshiftError
from stateshift.evaluation.seasons import score_2025
from stateshift.evaluation.seasons.energy import energy_distance
from stateshift.evaluation.significance import CELL_EVAL_NAMES

CONTROL = "non-targeting"
NAMES = {
    **CELL_EVAL_NAMES,
    "pearson_delta": "pearson_delta",
    "mae": "mae",
    "mse": "mse",
    "pds_l1": "discrimination_score_l1",
    "pds_l2": "discrimination_score_l2",
    "pds_cosine": "discrimination_score_cosine",
}


def cell_evals(package, predicted, truth, profile, folder):
    evaluator = package.MetricsEvaluator(
        predicted.copy(), truth.copy(), control_pert=CONTROL, pert_col="target_gene", num_threads=1, outdir=str(folder)
    )
    return evaluator.compute(
        profile=profile, write_csv=False, break_on_error=True, skip_metrics=["clustering_agreement"]
    )


def replaced(adata, rows, values) -> None:
    X = adata.X.toarray()
    X[rows] = values
    adata.X = csr_matrix(X)


@pytest.mark.parametrize("controls", ["truth", "own"])
def test_every_measure_and_the_score_are_cell_evals(panel, controls, tmp_path, caplog):
    package = pytest.importorskip("cell_eval", reason="the official extra is not installed")
    caplog.set_level(logging.CRITICAL)
    # fold changes that are infinite tie, and cell-eval leaves ties to an unstable sort
    panel = panel.log1p().of_genes_in_controls()
    theirs_of = panel.predicted.copy()
    if controls == "truth":
        is_control = (theirs_of.obs["target_gene"] == CONTROL).to_numpy()
        replaced(theirs_of, is_control, panel.truth.X[is_control].toarray())
    rows, _ = cell_evals(package, theirs_of, panel.truth, "full", tmp_path / "a")
    rows = rows.to_pandas().set_index("perturbation")
    ours = score_2025(panel.predicted, panel.truth, controls=controls, energy=True)
    for name, official in NAMES.items():
        expected = rows.loc[ours.table.index, official].astype(float)
        np.testing.assert_allclose(ours.table[name].astype(float), expected, atol=1e-6, err_msg=name)
    assert ours.means["energy_pearson"] == pytest.approx(rows["pearson_edistance"].iloc[0], abs=1e-6)
    assert ours.means["count_spearman"] == pytest.approx(rows["de_spearman_sig"].iloc[0], abs=1e-6)
    base = package.build_base_mean_adata(panel.truth.copy(), pert_col="target_gene", control_pert=CONTROL)
    of_base = cell_evals(package, base, panel.truth, "vcc", tmp_path / "b")[1]
    own = cell_evals(package, theirs_of, panel.truth, "vcc", tmp_path / "c")[1]
    score = dict(package.score_agg_metrics(own, of_base).iter_rows())["avg_score"]
    assert 0.05 < ours.score == pytest.approx(score, abs=1e-6)


def test_a_prediction_cant_gain_by_its_own_controls(panel):
    panel = panel.log1p()
    altered = panel.predicted.copy()
    replaced(altered, (altered.obs["target_gene"] == CONTROL).to_numpy(), 0.1)
    before, after = (score_2025(side, panel.truth) for side in (panel.predicted, altered))
    assert before.table.equals(after.table)
    assert score_2025(altered, panel.truth, controls="own").score != before.score


def test_genes_in_another_order_and_files_give_the_same(panel, tmp_path):
    panel = panel.log1p()
    turned = panel.predicted[:, ::-1].copy()
    panel.truth.write_h5ad(tmp_path / "truth.h5ad")
    turned.write_h5ad(tmp_path / "predicted.h5ad")
    expected = score_2025(panel.predicted, panel.truth)
    found = score_2025(tmp_path / "predicted.h5ad", tmp_path / "truth.h5ad", threads=2)
    assert found.table.equals(expected.table)
    assert found.score == expected.score


def test_a_perfect_prediction_scores_one_on_everything_that_is_bounded(panel):
    truth = panel.log1p().truth
    found = score_2025(truth, truth)
    some = found.table["n_true"] > 0
    for name in ("des", "precision", "direction_match", "recall", "pearson_delta_de"):
        assert found.table.loc[some, name].to_numpy() == pytest.approx(1), name
    assert found.means["pds_l1"] == 1
    assert found.score == pytest.approx(1)


def test_every_problem_of_the_two_sides_is_told_at_once(panel):
    panel = panel.log1p()
    predicted = panel.predicted[panel.predicted.obs["target_gene"] != "g3"].copy()
    predicted.obs["target_gene"] = predicted.obs["target_gene"].astype(str).replace("g4", "G4")
    with pytest.raises(InputProblems, match=r"not predicted: g3, g4[\s\S]*not in the truth: G4"):
        score_2025(predicted, panel.truth)
    with pytest.raises(InputProblems, match=r"no control `nontargeting` \(did you mean `non-targeting`\?\)"):
        score_2025(panel.predicted, panel.truth, control="nontargeting")
    with pytest.raises(InputProblems, match="2 genes of the truth are absent: g238, g239"):
        score_2025(panel.predicted[:, :-2].copy(), panel.truth)
    with pytest.raises(InputProblems, match=r"no column `target`"):
        score_2025(panel.predicted, panel.truth, perturbation="target")


def test_counts_and_a_prediction_without_its_own_controls_are_refused(panel):
    with pytest.raises(StateshiftError, match="whole numbers"):
        score_2025(panel.predicted, panel.truth)
    panel = panel.log1p()
    with pytest.raises(StateshiftError, match="controls='truth'"):
        score_2025(panel.without_controls(), panel.truth, controls="own")


def test_energy_distances_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (1500, 3)), rng.normal(1, 1, (7, 3))
    expected = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    assert energy_distance(x, y) == pytest.approx(expected, abs=1e-9)
