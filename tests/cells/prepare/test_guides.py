import logging

import anndata as ad
import pandas as pd
import pytest

from stateshift.cells.prepare import prepare_cells
from stateshift.cells.prepare.guides import genes_of_guides
from stateshift.errors import InputProblems, StateshiftError


def test_a_symbol_with_the_separator_in_it_stays_whole():
    labels = pd.Series(["HLA-A-1", "NKX3-1-2+HLA-A-3", "control", "-1"], name="guide")
    assert genes_of_guides(labels, "-").tolist() == ["HLA-A", "NKX3-1+HLA-A", "control", "-1"]


def test_a_declared_control_that_holds_the_separator_stays():
    labels = pd.Series(["TP53_1", "non_targeting"])
    assert genes_of_guides(labels, "_", control="non_targeting").tolist() == ["TP53", "non_targeting"]


def test_a_separator_that_no_label_holds_is_refused():
    with pytest.raises(StateshiftError, match="`gene` holds no label with the separator `:` .*TP53_1"):
        genes_of_guides(pd.Series(["TP53_1", "control"], name="gene"), ":")


def test_a_double_with_the_separator_between_its_genes_is_not_cut_to_the_first():
    labels = pd.Series(["KLF1", "KLF1_MAPK1", "MAPK1_2+KLF1_1", "CBL_KLF1", "control"], name="guide")
    with pytest.raises(
        StateshiftError, match=r"no guide but a perturbation \(CBL_KLF1, KLF1_MAPK1\): a double is written A\+B"
    ):
        genes_of_guides(labels, "_")


def test_guides_are_prepared_as_their_genes_and_kept(raw_maker, tmp_path, caplog):
    adata = raw_maker()
    guides = {"T0": "T0_1", "T0+T1": "T0_1+T1_2", "non-targeting": "non-targeting_7"}
    perturbation = adata.obs["gene"].copy()
    adata.obs["gene"] = perturbation.map(lambda name: guides.get(name, f"{name}_2"))
    adata.write_h5ad(tmp_path / "raw.h5ad")
    with caplog.at_level(logging.INFO, "stateshift"):
        made = prepare_cells(
            tmp_path / "raw.h5ad", tmp_path / "out.h5ad", guide_separator="_", min_genes=20, min_counts=50, hvg=0
        )
    out = ad.read_h5ad(made.path)
    assert set(out.obs["gene"]) == {"non-targeting", "T0", "T1", "T2", "T3", "T4", "T0+T1"}
    pd.testing.assert_series_equal(
        out.obs["gene"].astype(str), perturbation[out.obs_names].astype(str), check_names=False
    )
    assert set(out.obs["gene_guide"][out.obs["gene"] == "T0+T1"]) == {"T0_1+T1_2"}
    assert "8 labels of `gene` are 8 genes and controls" in caplog.text


def test_a_file_that_has_the_column_of_guides_is_refused(raw_maker, tmp_path):
    adata = raw_maker()
    adata.obs["gene_guide"] = "mine"
    adata.write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(InputProblems, match="a column `gene_guide` already"):
        prepare_cells(tmp_path / "raw.h5ad", tmp_path / "out.h5ad", guide_separator="_")
