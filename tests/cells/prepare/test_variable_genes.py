import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from packaging.version import Version
from scipy.sparse import csr_matrix

from stateshift.cells.prepare import variable_genes as module
from stateshift.cells.prepare.variable_genes import variable_genes
from stateshift.errors import StateshiftError


def log1p_cells(seed: int, n: int = 400, n_genes: int = 800) -> csr_matrix:
    """Overdispersed counts of very different means, normalised; some genes are never seen."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(-1, 1.5, n_genes) * (rng.random(n_genes) > 0.1)
    counts = rng.poisson(mean * rng.gamma(rng.uniform(0.3, 5, n_genes), 1.0, (n, n_genes)))
    adata = ad.AnnData(csr_matrix(counts.astype(np.float32)))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata.X


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_top_genes", [50, 200, 10_000])
def test_the_genes_are_scanpys(seed, n_top_genes, monkeypatch):
    if n_top_genes > 800 and Version(sc.__version__) < Version("1.11"):
        pytest.skip("scanpy before 1.11 takes genes below average dispersion for constant ones when all are asked for")
    monkeypatch.setattr(module, "CELLS_AT_ONCE", 90)
    X = log1p_cells(seed)
    rows = np.sort(np.random.default_rng(seed).choice(400, 250, replace=False))
    adata = ad.AnnData(X[rows], uns={"log1p": {"base": None}})
    expected = sc.pp.highly_variable_genes(adata, n_top_genes=n_top_genes, inplace=False)["highly_variable"]
    found = variable_genes(X, rows, n_top_genes)
    np.testing.assert_array_equal(found, expected.to_numpy())
    assert found.sum() == (n_top_genes if n_top_genes < 800 else (X[rows].sum(axis=0) > 0).sum())


@pytest.mark.parametrize("rows", [[], [3], [5, 5]])
def test_cells_among_which_no_gene_varies_are_refused(rows):
    with pytest.raises(StateshiftError, match=f"no gene varies among {len(rows)} training cells: pass --hvg 0"):
        variable_genes(log1p_cells(0), np.array(rows, int), 10)
