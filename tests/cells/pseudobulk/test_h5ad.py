import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift import __version__
from stateshift.cells import effects_to_anndata, estimate_effects, read_cells, read_effects, write_effects
from stateshift.cells.pseudobulk.table import PER_GENE, PER_ROW
from stateshift.cells.simulate import simulate_experiment, true_effects
from stateshift.errors import InputProblems, StateshiftError


def test_the_file_holds_what_the_table_knows(whole_table, tmp_path):
    write_effects(whole_table, tmp_path / "effects.h5ad")
    adata = ad.read_h5ad(tmp_path / "effects.h5ad")
    assert (adata.X.dtype, list(adata.var_names)) == (np.float32, ["g1", "g2", "g3", "g4"])
    np.testing.assert_array_equal(adata.X, whole_table.effects)
    for name in ("log2_fold_change", "standard_error", "shrunk"):
        np.testing.assert_array_equal(adata.layers[name], getattr(whole_table, name))
    assert adata.obs["perturbation"].tolist() == ["A", "A+B", "A"]
    assert adata.obs["context"].tolist() == ["K562", "K562", "T98G/late"]
    assert adata.obs["n_controls"].tolist() == [100, 100, 12]
    np.testing.assert_allclose(adata.obs["reliability_spearman_brown"], [2 / 3, 1.8 / 1.9, np.nan])
    about = adata.uns["stateshift"]
    assert (about["kind"], about["scale"], about["simulated"]) == ("effects", "log1p_1e4", True)
    assert about["version"] == __version__
    means = pd.DataFrame(adata.varm["control_means"], adata.var_names, about["control_contexts"])
    np.testing.assert_array_equal(means["unseen"], whole_table.control_means["unseen"])


def test_a_table_comes_back_from_its_file(whole_table, tmp_path):
    again = read_effects(write_effects(whole_table, tmp_path / "effects.h5ad"))
    for name in (*PER_GENE, *PER_ROW):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole_table, name))
    assert (again.genes, again.perturbations, again.contexts) == (
        whole_table.genes, whole_table.perturbations, whole_table.contexts
    )  # fmt: skip
    assert list(again.control_means) == list(whole_table.control_means)
    np.testing.assert_array_equal(again.control_means["K562"], whole_table.control_means["K562"])
    assert (again.scale, again.simulated) == ("log1p_1e4", True)


def test_estimates_of_measured_cells_are_not_marked_simulated(screen):
    adata = effects_to_anndata(estimate_effects(read_cells(screen.cells)))
    assert "simulated" not in adata.uns["stateshift"]
    assert "matched by file, context and batch" in adata.uns["stateshift"]["how"]


def test_a_file_is_not_replaced_unasked_and_has_to_be_h5ad(whole_table, tmp_path):
    path = write_effects(whole_table, tmp_path / "effects.h5ad")
    with pytest.raises(StateshiftError, match="effects.h5ad exists already"):
        write_effects(whole_table, path)
    assert write_effects(whole_table, path, overwrite=True) == path
    with pytest.raises(StateshiftError, match="effects are written as .h5ad, name effects.h5ad"):
        write_effects(whole_table, tmp_path / "effects.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["effects.h5ad"]


def test_effects_of_others_need_a_perturbation_and_little_else(tmp_path):
    X = np.array([[1.0, 0.0], [0.0, np.nan]], dtype=np.float32)
    adata = ad.AnnData(X, obs=pd.DataFrame({"target_gene": ["A", "B"]}, index=["r1", "r2"]))
    adata.var_names = ["g", "h"]
    adata.write_h5ad(tmp_path / "theirs.h5ad")
    table = read_effects(tmp_path / "theirs.h5ad", in_context="RPE1", scale="z score")
    assert (table.perturbations, table.contexts, table.genes) == (["A", "B"], ["RPE1", "RPE1"], ["g", "h"])
    assert (table.n_cells, table.standard_error, table.control_means, table.scale) == (None, None, {}, "z score")
    np.testing.assert_array_equal(table.effects, X)


def test_sparse_effects_and_a_zarr_store_are_read(tmp_path):
    obs = pd.DataFrame({"pert": ["A", "B"], "cell_line": ["x", "y"]}, index=["r1", "r2"])
    adata = ad.AnnData(csr_matrix(np.array([[0.0, 2.0], [1.0, 0.0]], dtype=np.float32)), obs=obs)
    adata.write_zarr(tmp_path / "effects.zarr")
    table = read_effects(tmp_path / "effects.zarr")
    assert table.effects.tolist() == [[0, 2], [1, 0]]
    assert table.contexts == ["x", "y"]


def test_the_truth_of_simulated_cells_is_an_effect_table_too(tmp_path):
    simulate_experiment(tmp_path / "sim.h5ad", contexts=2, targets=3, cells=60, genes=40, batches=2)
    truth = true_effects(tmp_path / "sim.h5ad")
    truth.write_h5ad(tmp_path / "truth.h5ad")
    table = read_effects(tmp_path / "truth.h5ad")
    assert (len(table), table.scale, table.simulated) == (6, "log_fold_change", True)
    np.testing.assert_array_equal(table.effects, truth.X)


def test_cells_are_not_taken_for_effects(screen):
    with pytest.raises(StateshiftError, match=r"more than once.*If these are cells, estimate their effects"):
        read_effects(screen.cells)


def test_infinite_effects_and_a_misspelt_column_are_refused(whole_table, tmp_path):
    whole_table.effects[0, 0] = np.inf
    path = write_effects(whole_table, tmp_path / "effects.h5ad")
    with pytest.raises(StateshiftError, match="X holds infinite values: put NaN where a gene was not measured"):
        read_effects(path)
    with pytest.raises(InputProblems, match=r"no column `contxt` for the context \(did you mean `context`\?\)"):
        read_effects(path, {"context": "contxt"})


def test_a_row_without_a_perturbation_is_refused_by_name(tmp_path):
    obs = pd.DataFrame({"perturbation": pd.Categorical(["A", None])}, index=["r1", "r2"])
    ad.AnnData(np.ones((2, 2), dtype=np.float32), obs=obs).write_h5ad(tmp_path / "theirs.h5ad")
    with pytest.raises(StateshiftError, match=r"obs `perturbation` is empty in 1 rows \(first: r2\)"):
        read_effects(tmp_path / "theirs.h5ad")
