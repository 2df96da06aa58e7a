"""Which cells and genes are good enough, by scanpy's QC metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.progress import track

MITOCHONDRIAL = ("MT-", "mt-")
CELLS_AT_ONCE = 2_000


@dataclass
class Quality:
    """QC of raw counts.

    Parameters
    ----------
    metrics
        (n) rows: ``n_genes_by_counts``, ``total_counts``, and ``pct_counts_mt`` where such genes exist.
    cells, genes
        Masks (n,) and (G,) of what passes.
    said
        Why cells failed, and what couldn't be judged.
    """

    metrics: pd.DataFrame
    cells: np.ndarray
    genes: np.ndarray
    said: str

    def medians(self) -> str:
        """What a usual cell has, for errors."""
        genes, counts = self.metrics[["n_genes_by_counts", "total_counts"]].median()
        return f"{genes:,.0f} genes and {counts:,.0f} counts"


def judge_quality(
    X: csr_matrix, genes: np.ndarray, *, min_genes: int, min_counts: int, max_mt: float, min_cells_per_gene: int
) -> Quality:
    """Judge cells and genes by the counts as read; 0 switches a limit off.

    A cell without any count fails in any case, as it can't be normalised.

    Parameters
    ----------
    X
        Counts (n, G).
    genes
        Their names; those that begin with ``MT-`` or ``mt-`` are mitochondrial.
    min_genes, min_counts, max_mt
        Genes detected in a cell, its counts, and at most so many per cent of them mitochondrial.
    min_cells_per_gene
        Cells that a gene is detected in.
    """
    mitochondrial = np.array([str(gene).startswith(MITOCHONDRIAL) for gene in genes])
    metrics, seen_in = _metrics(X, mitochondrial)
    total = metrics["total_counts"].to_numpy()
    failures = {
        f"{min_genes:,} genes": metrics["n_genes_by_counts"].to_numpy() < max(min_genes, 1),
        f"{min_counts:,} counts": total < min_counts,
    }
    said = [f"{failed.sum():,} under {limit}" for limit, failed in failures.items() if failed.any()]
    passed = ~np.logical_or.reduce(list(failures.values()))
    if not mitochondrial.any():
        said.append("no gene begins with MT- or mt-, so the mitochondrial share is not judged")
    elif max_mt:
        stressed = metrics["pct_counts_mt"].to_numpy() > max_mt
        passed &= ~stressed
        if stressed.any():
            said.append(f"{stressed.sum():,} over {max_mt:g} % mitochondrial")
    kept = seen_in >= min_cells_per_gene
    if not kept.all():
        said.append(f"{(~kept).sum():,} genes in fewer than {min_cells_per_gene} cells")
        passed &= np.asarray(X @ kept.astype(np.float32)).ravel() > 0
    return Quality(metrics, passed, kept, "; ".join(said))


def _metrics(X: csr_matrix, mitochondrial: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Metrics of every cell by scanpy, and the cells that each gene is seen in; in blocks, as scanpy copies."""
    import anndata
    import scanpy

    blocks, seen_in = [], np.zeros(X.shape[1], int)
    var = pd.DataFrame({"mt": mitochondrial}, index=np.arange(X.shape[1]).astype(str))
    qc_vars = ["mt"] if mitochondrial.any() else []
    for start in track(range(0, X.shape[0], CELLS_AT_ONCE), "QC"):
        block = anndata.AnnData(X[start : start + CELLS_AT_ONCE], var=var)
        cells, genes = scanpy.pp.calculate_qc_metrics(block, qc_vars=qc_vars, percent_top=None, log1p=False)
        blocks.append(cells)
        seen_in += genes["n_cells_by_counts"].to_numpy()
    return pd.concat(blocks, ignore_index=True).drop(columns="total_counts_mt", errors="ignore"), seen_in
