"""Highly variable genes of the cells that train."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.errors import StateshiftError
from stateshift.progress import track

BINS = 20
CELLS_AT_ONCE = 2_000


def variable_genes(X: csr_matrix, rows: np.ndarray, n_top_genes: int) -> np.ndarray:
    """Mask (G,) of the genes that vary most among some cells: those of ``scanpy.pp.highly_variable_genes``.

    A gene's dispersion is ln(variance / mean) of its linear expression; it is standardised among the genes of
    similar mean, in 20 bins of equal width of ln(1 + mean), and the highest win (Satija et al., Nature
    Biotechnology 2015; scanpy's flavor ``seurat``). scanpy copies the matrix three times for that, which 200,000
    cells of 18,080 genes don't allow; here mean and variance are gathered in blocks of cells.

    Parameters
    ----------
    X
        Cells (n, G), log1p of counts to a total of 1e4.
    rows
        The cells that count.
    n_top_genes
        Genes wanted; fewer come where fewer vary.

    Raises
    ------
    StateshiftError
        No gene varies, as with a single cell.
    """
    mean, variance = _linear_moments(X, rows)
    varies = variance > 0
    if not varies.any():
        raise StateshiftError(f"no gene varies among {len(rows):,} training cells: pass --hvg 0 to go without.")
    dispersion = np.full(len(mean), np.nan)
    dispersion[varies] = np.log(variance[varies] / mean[varies])
    genes = pd.DataFrame({"bin": pd.cut(np.log1p(mean), BINS), "dispersion": dispersion})
    of_bin = genes.groupby("bin", observed=True)["dispersion"]
    spread = of_bin.transform("std")
    standardised = (genes["dispersion"] - of_bin.transform("mean")) / spread
    # a gene that has its bin to itself counts as one standard deviation up, as in scanpy
    standardised[varies & spread.isna()] = 1.0
    highest = standardised.sort_values(ascending=False).dropna()
    return (standardised >= highest.iloc[min(n_top_genes, len(highest)) - 1]).to_numpy()


def _linear_moments(X: csr_matrix, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample variance (G,) of expm1(X) over some cells; in two passes, exact for constant genes too."""
    n, G = len(rows), X.shape[1]
    sums, n_seen, squares = np.zeros(G), np.zeros(G), np.zeros(G)
    starts = range(0, n, CELLS_AT_ONCE)
    for start in track(starts, "mean of each gene"):
        block = X[rows[start : start + CELLS_AT_ONCE]]
        sums += np.bincount(block.indices, np.expm1(block.data.astype(np.float64)), G)
        n_seen += np.bincount(block.indices, minlength=G)
    mean = sums / max(n, 1)
    for start in track(starts, "variance of each gene"):
        block = X[rows[start : start + CELLS_AT_ONCE]]
        away = np.expm1(block.data.astype(np.float64)) - mean[block.indices]
        squares += np.bincount(block.indices, away**2, G)
    return mean, (squares + (n - n_seen) * mean**2) / max(n - 1, 1)
