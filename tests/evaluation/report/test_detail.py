"""What the report shows of each pair, against scipy and plain means of the cells."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy.stats import false_discovery_control, mannwhitneyu
from sklearn.decomposition import PCA

from stateshift.errors import StateshiftError
from stateshift.evaluation import Evaluation
from stateshift.evaluation.report.detail import effect_map, feature_map, read_detail, sets_by_gene
from stateshift.evaluation.report.detail.gene_sets import set_files_of
from stateshift.feature_table import FeatureTable


@pytest.fixture(scope="module")
def detail(world_folder):
    evaluation = Evaluation.load(world_folder / "scores")
    return read_detail(world_folder / "predicted.h5ad", world_folder / "truth.h5ad", evaluation=evaluation)


def rows_of(adata, context, perturbation):
    keep = (adata.obs["context"] == context) & (adata.obs["target_gene"] == perturbation)
    return adata[keep].X.toarray().astype(np.float64)


def test_effects_are_differences_of_means_and_rates_are_those_of_scipy(detail, world_folder):
    truth, predicted = (ad.read_h5ad(world_folder / name) for name in ("truth.h5ad", "predicted.h5ad"))
    row = detail.row_of("G03", "RPE1")
    controls, treated = rows_of(truth, "RPE1", "ctrl"), rows_of(truth, "RPE1", "G03")
    np.testing.assert_allclose(detail.measured[row], treated.mean(0) - controls.mean(0), atol=1e-6)
    made = rows_of(predicted, "RPE1", "G03").mean(0) - controls.mean(0)
    np.testing.assert_allclose(detail.predicted[row], made, atol=1e-6)
    p = mannwhitneyu(treated, controls, method="asymptotic").pvalue
    np.testing.assert_allclose(detail.fdr[row], false_discovery_control(p), rtol=1e-9)


def test_rows_carry_scores_support_and_intervals(detail):
    row = detail.rows.loc[detail.row_of("G03", "K562")]
    assert (row["regime"], row["route"], row["nearest_gene"], row["n_true"]) == ("T", "neural", "G01", 20)
    found = np.corrcoef(detail.predicted[row.name], detail.measured[row.name])[0, 1]
    assert row["pearson_delta"] == pytest.approx(found, abs=1e-6)
    assert detail.level == 0.9
    np.testing.assert_allclose(detail.half_widths, 0.5)


def test_a_prediction_alone_has_effects_and_intervals_and_nothing_measured(detail, world_folder):
    alone = read_detail(world_folder / "predicted.h5ad", None)
    assert alone.measured is None
    assert alone.fdr is None
    assert alone.rows["n_true"].eq(0).all()
    controls = ad.read_h5ad(world_folder / "predicted.h5ad")
    made = rows_of(controls, "K562", "G00").mean(0) - rows_of(controls, "K562", "ctrl").mean(0)
    np.testing.assert_allclose(alone.predicted[alone.row_of("G00", "K562")], made, atol=1e-6)


def test_a_truth_is_read_by_the_columns_that_it_was_evaluated_by(detail, world_folder, tmp_path):
    truth = ad.read_h5ad(world_folder / "truth.h5ad")
    truth.obs = truth.obs.rename(columns={"target_gene": "guide"})
    truth.write_h5ad(tmp_path / "truth.h5ad")
    evaluation = Evaluation.load(world_folder / "scores")
    evaluation.about["columns"] = {"perturbation": "guide", "cell_type": "cell_type", "control": "ctrl"}
    again = read_detail(world_folder / "predicted.h5ad", tmp_path / "truth.h5ad", evaluation=evaluation)
    np.testing.assert_array_equal(again.measured, detail.measured)


def test_scores_of_other_cells_are_refused(world_folder):
    other = Evaluation.load(world_folder / "scores")
    other.about["model"] = "mean"
    with pytest.raises(StateshiftError, match="are not the cells that were evaluated"):
        read_detail(world_folder / "predicted.h5ad", world_folder / "truth.h5ad", evaluation=other)


def test_the_strongest_genes_and_the_targets_are_kept_in_their_order(detail):
    kept = detail.with_strongest_genes(12)
    assert set(detail.genes[:7]) <= set(kept.genes)
    assert kept.genes == [gene for gene in detail.genes if gene in set(kept.genes)]
    strength = np.maximum(np.abs(detail.predicted).max(0), np.abs(detail.measured).max(0))
    others = sorted(range(7, 30), key=lambda i: -strength[i])[:5]
    assert set(kept.genes) == {*detail.genes[:7], *(detail.genes[i] for i in others)}
    at = [detail.genes.index(gene) for gene in kept.genes]
    np.testing.assert_array_equal(kept.fdr, detail.fdr[:, at])
    assert kept.n_genes == 30
    assert detail.with_strongest_genes(30) is detail


def test_a_pair_is_found_by_name_and_a_misspelt_one_is_suggested(detail):
    with pytest.raises(StateshiftError, match=r"`g3` is not among .* \(did you mean `G03`\?\)"):
        detail.row_of("g3", None)
    with pytest.raises(StateshiftError, match="predicted in K562, RPE1: name one with --context"):
        detail.row_of("G03", None)
    with pytest.raises(StateshiftError, match="not predicted in `rpe1`"):
        detail.row_of("G03", "rpe1")
    ordered = detail.rows["pearson_delta"].sort_values().index
    assert detail.row_of(None, None) == ordered[len(ordered) // 2]


def test_the_maps_are_principal_components(detail, world_folder):
    by_effect = effect_map(detail)
    expected = PCA(2, svd_solver="full").fit(detail.predicted)
    assert by_effect.explained == pytest.approx(tuple(expected.explained_variance_ratio_), rel=1e-4)
    features = FeatureTable.load(world_folder / "runs" / "first" / "features.pt")
    by_features = feature_map(detail, features)
    assert by_features.other_names == [f"G{i:02d}" for i in range(7, 20)]
    without = ~detail.rows["perturbation"].isin(features.genes).to_numpy()
    assert np.isnan(by_features.places[without]).all()
    scaled = (features.vectors - features.vectors.mean(0)) / features.vectors.std(0)
    expected = PCA(2, svd_solver="full").fit(scaled)
    assert by_features.explained == pytest.approx(tuple(expected.explained_variance_ratio_), rel=1e-4)
    assert feature_map(detail, features.subset(["G00", "G10", "G11"])) is None


def test_the_smallest_sets_of_a_gene_come_first(tmp_path):
    file = tmp_path / "sets.gmt"
    file.write_text("big\t\tA\tB\tC\nsmall\t\tA\nmiddle\t\tA\tB\n")
    assert sets_by_gene(file, ["A", "B", "Z"], most=2) == {"A": ["small", "middle"], "B": ["middle", "big"]}
    with pytest.raises(StateshiftError, match="none of the 1 genes"):
        sets_by_gene(file, ["Z"])


def test_the_gene_sets_of_a_run_are_found_by_name_and_checksum(world_folder, tmp_path):
    run = world_folder / "runs" / "first"
    assert set_files_of([run], [world_folder]) == [(world_folder / "sets.gmt").resolve()]
    (tmp_path / "sets.gmt").write_text("others\t\tG07\n")
    assert set_files_of([run], [tmp_path]) == []
