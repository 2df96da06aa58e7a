import logging
import os
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scanpy as sc
from scipy.sparse import csc_matrix

from stateshift.cells.prepare import prepare_cells
from stateshift.errors import InputProblems, StateshiftError
from stateshift.training import check_experiment

SMALL = {"min_genes": 20, "min_counts": 50, "min_cells_per_perturbation": 10, "hvg": 40}
COLUMNS = {"perturbation": "gene", "cell_type": "cell_line", "batch": "batch", "control": "non-targeting"}


def rewritten(path: Path, change) -> Path:
    """A raw file changed by a function of its AnnData."""
    adata = ad.read_h5ad(path)
    change(adata)
    adata.write_h5ad(path)
    return path


def test_counts_come_back_from_the_totals(raw_file, tmp_path):
    made = ad.read_h5ad(prepare_cells(raw_file, tmp_path / "out.h5ad", **SMALL).path)
    raw = ad.read_h5ad(raw_file)[made.obs_names]
    counts = np.expm1(made.X.toarray()) * made.obs["total_counts"].to_numpy()[:, None] / 1e4
    np.testing.assert_allclose(counts, raw.X.toarray(), atol=1e-3)
    np.testing.assert_array_equal(made.obs["note"], raw.obs["note"])
    assert made.X.dtype == np.float32
    assert made.uns["stateshift"]["scale"] == "log1p_1e4"


def test_the_filter_drops_what_is_not_knocked_down_and_each_step_is_counted(raw_file, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "stateshift"):
        made = prepare_cells(raw_file, tmp_path / "out.h5ad", **SMALL)
    adata = ad.read_h5ad(made.path)
    assert set(adata.obs["gene"]) == {"non-targeting", "T0", "T1", "T2", "T3", "T4", "T0+T1"}
    assert [s.name for s in made.steps] == ["read", "QC", "knock-down filter", "normalised", "highly variable genes"]
    record = adata.uns["stateshift"]["prepared"]
    assert (record["read_cells"], record["read_genes"]) == (640, 300)
    assert record["knock_down_filter_cells"] == adata.n_obs == made.steps[2].cells
    assert "1 not knocked down, or in too few cells: T5" in record["knock_down_filter_said"]
    assert "2 contexts share one control mean" in caplog.text
    assert "No --experiment says which cells train" in caplog.text
    assert all(isinstance(v, str | int | float | bool | np.generic) for v in record.values())


def test_the_filter_can_be_left_out(raw_file, tmp_path):
    made = prepare_cells(raw_file, tmp_path / "out.h5ad", knockdown_filter=False, min_genes=0, min_counts=0, hvg=0)
    assert made.steps[-1].cells == 640
    adata = ad.read_h5ad(made.path)
    assert "X_hvg" not in adata.obsm
    assert "embedding_genes" not in adata.uns["stateshift"]


def test_cells_lie_by_context_perturbation_and_batch_in_their_old_order(raw_file, tmp_path):
    made = ad.read_h5ad(prepare_cells(raw_file, tmp_path / "out.h5ad", **SMALL).path)
    raw = ad.read_h5ad(raw_file).obs.assign(place=range(640))
    keys = made.obs[["cell_line", "gene", "batch"]].astype(str).assign(place=raw.loc[made.obs_names, "place"])
    rows = list(keys.itertuples(index=False, name=None))
    assert rows == sorted(rows)


def test_qc_is_scanpys_and_each_limit_is_said(raw_maker, tmp_path):
    adata = raw_maker(n_cells=30)
    X = adata.X.toarray()
    X[0, :] = 0
    X[1, 5:] = 0
    X[2, -2:] = 3000
    X[:, 30] = 0
    X[7, 30] = 1
    adata.X = X
    adata.write_h5ad(tmp_path / "raw.h5ad")
    made = prepare_cells(
        tmp_path / "raw.h5ad", tmp_path / "out.h5ad", min_genes=20, min_counts=80, max_mt=30, min_cells_per_gene=3,
        knockdown_filter=False, hvg=0,
    )  # fmt: skip
    expected = ad.read_h5ad(tmp_path / "raw.h5ad")
    expected.var["mt"] = expected.var_names.str.startswith("MT-")
    sc.pp.calculate_qc_metrics(expected, qc_vars=["mt"], percent_top=None, log1p=False, inplace=True)
    passed = (expected.obs["n_genes_by_counts"] >= 20) & (expected.obs["total_counts"] >= 80)
    passed &= expected.obs["pct_counts_mt"] <= 30
    found = ad.read_h5ad(made.path)
    assert set(found.obs_names) == set(expected.obs_names[passed])
    assert not {"cell0", "cell1", "cell2"} & set(found.obs_names)
    np.testing.assert_allclose(
        found.obs["pct_counts_mt"], expected.obs.loc[found.obs_names, "pct_counts_mt"], rtol=1e-5
    )
    assert "G24" not in found.var_names
    assert made.steps[1].said.startswith("2 under 20 genes; ")
    assert "1 over 30 % mitochondrial; 1 genes in fewer than 3 cells" in made.steps[1].said
    # the totals are those of the genes that are left, so that counts come back
    np.testing.assert_array_equal(
        found.obs["total_counts"], expected[found.obs_names, found.var_names].X.sum(axis=1).ravel()
    )


def test_a_cell_without_counts_goes_whatever_the_limits(raw_file, tmp_path):
    def empty(adata):
        adata.X[3] = 0

    rewritten(raw_file, empty)
    made = prepare_cells(raw_file, tmp_path / "out.h5ad", min_genes=0, min_counts=0, knockdown_filter=False, hvg=0)
    assert made.steps[1].cells == 639


def odd_context(adata):
    """RPE1 alone varies wildly in G10 … G19."""
    rng = np.random.default_rng(1)
    X = adata.X.toarray()
    odd = np.flatnonzero(adata.obs["cell_line"] == "RPE1")
    X[np.ix_(odd, range(16, 26))] *= rng.integers(0, 9, (len(odd), 10))
    adata.X = X


def test_variable_genes_are_scanpys_on_the_training_cells_alone(raw_file, tmp_path):
    rewritten(raw_file, odd_context)
    toml, out = tmp_path / "e.toml", tmp_path / "out.h5ad"
    toml.write_text(f'[datasets]\nd = "{out}"\n[training]\nd = "train"\n[zeroshot]\n"d.RPE1" = "test"\n'
                    '[fewshot."d.K562"]\nval = ["T2"]\n')  # fmt: skip
    made = prepare_cells(raw_file, out, experiment=toml, **SMALL)
    adata = ad.read_h5ad(out)
    train = adata[(adata.obs["cell_line"] == "K562") & (adata.obs["gene"] != "T2")].copy()
    expected = sc.pp.highly_variable_genes(train, n_top_genes=40, inplace=False)["highly_variable"].to_numpy()
    np.testing.assert_array_equal(adata.var["highly_variable"], expected)
    assert made.hvg == adata.var_names[expected].tolist()

    of_all = prepare_cells(raw_file, tmp_path / "all.h5ad", **SMALL)
    expected = sc.pp.highly_variable_genes(adata, n_top_genes=40, inplace=False)["highly_variable"].to_numpy()
    assert of_all.hvg == adata.var_names[expected].tolist()
    odd = {f"G{i}" for i in range(10, 20)}
    assert len(odd & set(of_all.hvg)) >= 9
    assert len(odd & set(made.hvg)) <= 5
    np.testing.assert_array_equal(ad.read_h5ad(of_all.path).X.toarray(), adata.X.toarray())


def test_x_hvg_holds_the_named_genes_in_the_order_of_var(raw_file, tmp_path):
    made = prepare_cells(raw_file, tmp_path / "out.h5ad", **SMALL)
    adata = ad.read_h5ad(made.path)
    names = adata.uns["stateshift"]["embedding_genes"]["X_hvg"].tolist()
    assert names == made.hvg == [g for g in adata.var_names if g in set(names)]
    assert adata.obsm["X_hvg"].dtype == np.float32
    np.testing.assert_array_equal(adata.obsm["X_hvg"], adata[:, names].X.toarray())


def test_perturbed_genes_are_variable_too_when_asked(raw_file, tmp_path):
    plain = prepare_cells(raw_file, tmp_path / "a.h5ad", **SMALL)
    kept = prepare_cells(raw_file, tmp_path / "b.h5ad", keep_targets=True, **SMALL)
    assert set(kept.hvg) == set(plain.hvg) | {f"T{i}" for i in range(6)}
    assert ad.read_h5ad(kept.path).obsm["X_hvg"].shape[1] == len(kept.hvg) > 40


def test_cell_load_reads_the_file_with_its_variable_genes(raw_file, tmp_path):
    from cell_load.data_modules import PerturbationDataModule

    toml, out = tmp_path / "e.toml", tmp_path / "out.h5ad"
    toml.write_text(f'[datasets]\nd = "{out}"\n[training]\nd = "train"\n[zeroshot]\n"d.RPE1" = "test"\n')
    prepare_cells(raw_file, out, experiment=toml, **SMALL)
    module = PerturbationDataModule(
        str(toml), pert_col="gene", batch_col="batch", cell_type_key="cell_line", control_pert="non-targeting",
        embed_key="X_hvg", output_space="gene", num_workers=0, batch_size=4, cell_sentence_len=8,
    )  # fmt: skip
    module.setup()
    adata = ad.read_h5ad(out)
    batch = next(iter(module.train_dataloader()))
    assert batch["pert_cell_emb"].shape[1] == 40
    rows = {tuple(row) for row in adata.obsm["X_hvg"]}
    assert all(tuple(row) in rows for row in batch["pert_cell_emb"].numpy())
    names = module.get_var_names() if hasattr(module, "get_var_names") else None
    assert names is None or list(names) == adata.uns["stateshift"]["embedding_genes"]["X_hvg"].tolist()


def test_check_reads_what_was_prepared_and_what_was_dropped_of_the_held_out_is_said(raw_file, tmp_path, caplog):
    toml, out = tmp_path / "e.toml", tmp_path / "out.h5ad"
    toml.write_text(f'[datasets]\nd = "{out}"\n[training]\nd = "train"\n[zeroshot]\n"d.RPE1" = "test"\n')
    prepare_cells(raw_file, out, experiment=toml, **SMALL)
    found = check_experiment(toml)
    assert found.scale == "log1p_1e4"
    assert found.counts["test"]["RPE1"].keys() == {"T0", "T1", "T2", "T3", "T4", "T0+T1"}
    assert "the knock-down filter leaves no cell of T5 in RPE1, held out for test. Of these" in caplog.text
    assert "take them out of e.toml, or keep their cells" in caplog.text


@pytest.mark.parametrize("form", ["dense", "csc", "integers", "zarr", "layer"])
def test_every_form_of_a_matrix_gives_the_same_cells(form, raw_file, raw_maker, tmp_path):
    expected = ad.read_h5ad(prepare_cells(raw_file, tmp_path / "expected.h5ad", **SMALL).path)
    adata, path, options = raw_maker(), tmp_path / "other.h5ad", {}
    if form == "layer":
        adata.layers["counts"] = adata.X.copy()
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
        options = {"layer": "counts"}
    else:
        forms = {"dense": lambda X: X.toarray(), "csc": csc_matrix, "integers": lambda X: X.astype(np.int64)}
        adata.X = forms.get(form, lambda X: X)(adata.X)
    if form == "zarr":
        path = tmp_path / "other.zarr"
        adata.write_zarr(path)
    else:
        adata.write_h5ad(path)
    found = ad.read_h5ad(prepare_cells(path, tmp_path / "found.h5ad", **options, **SMALL).path)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    np.testing.assert_array_equal(found.obsm["X_hvg"], expected.obsm["X_hvg"])
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    assert not found.layers


def test_what_is_normalised_already_is_refused_and_the_counts_are_pointed_at(raw_file, tmp_path):
    def normalise(adata):
        adata.layers["umi"] = adata.X.copy()
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)

    rewritten(raw_file, normalise)
    with pytest.raises(StateshiftError, match=r"is log1p_1e4, and raw counts are needed.*--layer umi"):
        prepare_cells(raw_file, tmp_path / "out.h5ad")
    with pytest.raises(InputProblems, match="there is no layer `uni` .did you mean `umi`"):
        prepare_cells(raw_file, tmp_path / "out.h5ad", layer="uni")
    assert os.listdir(tmp_path) == ["raw.h5ad"]


def test_whole_numbers_under_a_stale_mark_are_refused_until_declared(raw_file, tmp_path):
    def mark(adata):
        adata.X = adata.X.minimum(9)
        adata.uns["log1p"] = {"base": None}

    rewritten(raw_file, mark)
    with pytest.raises(StateshiftError, match="--scale"):
        prepare_cells(raw_file, tmp_path / "out.h5ad", **SMALL)
    assert prepare_cells(raw_file, tmp_path / "out.h5ad", scale="counts", **SMALL).path.is_file()


def test_corrected_counts_with_fractions_are_refused(raw_file, tmp_path):
    def scale(adata):
        adata.X = adata.X * 1.37

    rewritten(raw_file, scale)
    with pytest.raises(StateshiftError, match="No other matrix of this file looks like counts"):
        prepare_cells(raw_file, tmp_path / "out.h5ad", **SMALL)


def test_obs_uns_and_obsm_of_the_user_are_kept_and_layers_said_to_be_dropped(raw_file, tmp_path, caplog):
    def add(adata):
        adata.obs["total_counts"] = 7.0
        adata.obsm["X_state"] = np.arange(640 * 3, dtype=np.float32).reshape(640, 3)
        adata.var["chromosome"] = "1"
        adata.uns["stateshift"] = {"simulated": True}
        adata.layers["other"] = adata.X.copy()

    rewritten(raw_file, add)
    with caplog.at_level(logging.INFO, "stateshift"):
        made = ad.read_h5ad(prepare_cells(raw_file, tmp_path / "out.h5ad", **SMALL).path)
    raw = ad.read_h5ad(raw_file)[made.obs_names]
    assert "not carried over: layers" in caplog.text
    assert (made.obs["raw_total_counts"] == 7.0).all()
    np.testing.assert_array_equal(made.obsm["X_state"], raw.obsm["X_state"])
    assert made.uns["stateshift"]["simulated"]
    assert made.var["chromosome"].tolist() == ["1"] * 300
    assert all(made.obs[c].dtype == "category" for c in ("cell_line", "gene", "batch"))
    assert made.obs["gene"].cat.categories.tolist() == sorted(set(made.obs["gene"]))


def test_rows_lie_in_chunks_of_few_cells(raw_maker, tmp_path):
    raw_maker(n_cells=200).write_h5ad(tmp_path / "raw.h5ad")
    out = prepare_cells(tmp_path / "raw.h5ad", tmp_path / "out.h5ad", **SMALL).path
    with h5py.File(out) as file:
        assert file["X/data"].compression == file["obsm/X_hvg"].compression == "lzf"
        assert np.prod(file["X/data"].chunks) <= 4096
        assert np.prod(file["obsm/X_hvg"].chunks) <= 4096


def test_all_problems_of_the_tables_come_at_once(raw_file, tmp_path):
    with pytest.raises(InputProblems) as raised:
        prepare_cells(
            raw_file, tmp_path / "out.h5ad", layer="counts", gene_column="symbol", columns={"perturbation": "gena"}
        )
    assert len(raised.value.problems) == 3
    with pytest.raises(InputProblems, match="--cell-type-key"):
        prepare_cells(
            rewritten(raw_file, lambda adata: adata.obs.drop(columns="cell_line", inplace=True)), tmp_path / "out.h5ad"
        )


def test_an_existing_file_is_never_written_over(raw_file, tmp_path):
    (tmp_path / "out.h5ad").write_text("mine")
    with pytest.raises(StateshiftError, match="exists already"):
        prepare_cells(raw_file, tmp_path / "out.h5ad", **SMALL)
    assert (tmp_path / "out.h5ad").read_text() == "mine"
    with pytest.raises(StateshiftError, match="ends in .h5ad"):
        prepare_cells(raw_file, tmp_path / "out.zarr", **SMALL)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_run_stopped_while_it_writes_leaves_nothing(stop, raw_file, tmp_path, monkeypatch):
    write, seen = ad.AnnData.write_h5ad, []

    def stopped(self, path, **options):
        write(self, path, **options)
        seen.append(Path(path).stat().st_size)
        raise stop

    monkeypatch.setattr(ad.AnnData, "write_h5ad", stopped)
    with pytest.raises((KeyboardInterrupt, StateshiftError)):
        prepare_cells(raw_file, tmp_path / "out.h5ad", **SMALL)
    assert seen[0] > 0
    assert os.listdir(tmp_path) == ["raw.h5ad"]


def test_more_variable_genes_than_there_are_gives_all_that_vary(raw_file, tmp_path):
    def flat(adata):
        adata.X[:, 20] = 0

    rewritten(raw_file, flat)
    made = prepare_cells(raw_file, tmp_path / "out.h5ad", **{**SMALL, "hvg": 2000})
    assert len(made.hvg) == 299
    assert "G14" not in made.hvg


def test_limits_that_leave_nothing_say_what_a_cell_has(raw_file, tmp_path):
    with pytest.raises(StateshiftError, match=r"QC leaves no control cells \(the median cell has 29\d genes and"):
        prepare_cells(raw_file, tmp_path / "out.h5ad", **{**SMALL, "min_genes": 400})


def test_the_types_of_kang_under_interferon(shared_data, tmp_path):
    raw = shared_data / "cells" / "kang_ifnb_1556x1267.h5ad"
    columns = {"perturbation": "group_id", "cell_type": "cluster_id", "batch": "sample_id"}
    toml, out = tmp_path / "e.toml", tmp_path / "kang.h5ad"
    toml.write_text(f'[datasets]\nkang = "{out}"\n[training]\nkang = "train"\n[zeroshot]\n"kang.B cells" = "test"\n'
                    '[columns]\nperturbation = "group_id"\ncell_type = "cluster_id"\nbatch = "sample_id"\n')  # fmt: skip
    with pytest.raises(
        StateshiftError, match="leaves no perturbed cells .1 perturbations whose gene is not measured: stim"
    ):
        prepare_cells(raw, out, columns=columns)
    made = prepare_cells(raw, out, experiment=toml, knockdown_filter=False, hvg=300)
    adata, whole = ad.read_h5ad(out), ad.read_h5ad(raw)
    sc.pp.filter_cells(whole, min_genes=200)
    sc.pp.filter_cells(whole, min_counts=500)
    assert set(adata.obs_names) == set(whole.obs_names)
    sc.pp.normalize_total(whole, target_sum=1e4)
    sc.pp.log1p(whole)
    np.testing.assert_allclose(adata.X.toarray(), whole[adata.obs_names].X.toarray(), rtol=1e-5)
    train = whole[whole.obs["cluster_id"] != "B cells"].copy()
    expected = sc.pp.highly_variable_genes(train, n_top_genes=300, inplace=False)["highly_variable"].to_numpy()
    assert made.hvg == whole.var_names[expected].tolist()
    stimulated = (adata.obs["cluster_id"] == "B cells") & (adata.obs["group_id"] == "stim")
    assert check_experiment(toml).counts["test"] == {"B cells": {"stim": int(stimulated.sum())}}


def test_guide_names_of_datlinger_are_named_as_unmeasured(shared_data, tmp_path):
    raw = shared_data / "cells" / "datlinger_jurkat_7500x2000.h5ad"
    with pytest.raises(StateshiftError, match="40 perturbations whose gene is not measured: DOK2_1"):
        prepare_cells(raw, tmp_path / "out.h5ad", min_genes=0, min_counts=0)
    genes = prepare_cells(raw, tmp_path / "genes.h5ad", min_genes=0, min_counts=0, guide_separator="_", hvg=0)
    assert "14 perturbations whose gene is not measured: DOK2, " in genes.steps[2].said
    made = prepare_cells(raw, tmp_path / "out.h5ad", min_genes=0, min_counts=10, knockdown_filter=False, hvg=500)
    assert made.steps[1].cells == int((ad.read_h5ad(raw).X.sum(axis=1) >= 10).sum())
    assert len(made.hvg) == 500
