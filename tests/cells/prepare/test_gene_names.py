import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stateshift.cells.prepare import prepare_cells
from stateshift.cells.prepare.gene_names import name_genes, symbol_columns
from stateshift.errors import InputProblems

IDS = [f"ENSG{i:011d}" for i in range(300)]


@pytest.fixture
def with_ids(raw_file):
    """The raw screen under Ensembl ids, symbols in a column; G0 stands twice."""
    adata = ad.read_h5ad(raw_file)
    adata.var["feature_types"] = "Gene Expression"
    adata.var["gene_name"] = [*adata.var_names[:7], "G0", *adata.var_names[8:]]
    adata.var_names = IDS
    adata.write_h5ad(raw_file)
    return adata


def test_ensembl_ids_beside_symbols_are_refused_with_the_column(with_ids, raw_file, tmp_path):
    with pytest.raises(InputProblems, match="var column `gene_name` looks like symbols .*--gene-column gene_name"):
        prepare_cells(raw_file, tmp_path / "out.h5ad")
    assert symbol_columns(with_ids.var) == ["gene_name"]


def test_symbols_of_a_column_are_used_and_those_that_repeat_are_summed(with_ids, raw_file, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "stateshift"):
        prepare_cells(raw_file, tmp_path / "out.h5ad", gene_column="gene_name", min_genes=0, knockdown_filter=False)
    assert "1 gene names stand for several genes, whose counts are summed: G0" in caplog.text
    made = ad.read_h5ad(tmp_path / "out.h5ad")
    assert made.n_vars == 299
    assert made.var.loc["G0", "raw_var_name"] == IDS[6]
    counts = np.expm1(made[:, "G0"].X.toarray().ravel()) * made.obs["total_counts"] / 1e4
    raw = with_ids[made.obs_names].X.toarray()
    np.testing.assert_allclose(counts, raw[:, 6] + raw[:, 7], rtol=1e-3)
    np.testing.assert_array_equal(made.obs["total_counts"], raw.sum(axis=1))


def test_ids_can_be_kept_by_name(with_ids, raw_file, tmp_path):
    made = prepare_cells(raw_file, tmp_path / "out.h5ad", gene_column="var_names", min_genes=0, knockdown_filter=False)
    assert ad.read_h5ad(made.path).var_names.tolist() == IDS


def test_repeated_var_names_are_refused_with_both_ways_out():
    var = pd.DataFrame({"symbol": ["TP53", "KRAS", "MYC"]}, index=["A", "B", "A"])
    problem = name_genes(var, None)[1][0]
    assert "var_names hold A more than once" in problem
    assert "--gene-column symbol uses it" in problem
    assert "--gene-column var_names sums the counts of one name" in problem
    names, problems = name_genes(var, "var_names")
    assert (names.tolist(), problems) == (["A", "B", "A"], [])


def test_genes_without_a_symbol_keep_their_var_name():
    var = pd.DataFrame({"symbol": ["TP53", None, ""]}, index=["x", "y", "z"])
    assert name_genes(var, "symbol")[0].tolist() == ["TP53", "y", "z"]


def test_a_misspelt_gene_column_is_refused_with_a_suggestion():
    var = pd.DataFrame({"gene_name": ["TP53"]}, index=["x"])
    assert name_genes(var, "gene_nme")[1] == ["var has no column `gene_nme` (did you mean `gene_name`?)."]
