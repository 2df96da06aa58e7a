"""How much each source of a fused feature table tells of the effects at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stateshift.cells.pseudobulk import EffectTable


def source_scales(
    rows: np.ndarray, sources: Sequence[tuple[int, int]], train: EffectTable, residuals: Any, measured: Any
) -> np.ndarray:
    """Factors (F,) of the columns, so that each source counts as its similarities explain products of residuals.

    Two targets' residuals r, r' of one gene have the product Σ w K over the sources in the mean, with K the products
    of the targets' rows there. The w ≥ 0 are those of least squares over all pairs of different targets in one context
    (Haseman & Elston, Behav. Genet. 2, 3, 1972); a source of noise gets about none. Where no source explains
    anything, all keep the sizes that they have.

    Parameters
    ----------
    rows
        Training targets (R, F), a source's part of a row as long as √ its weight in the fusion.
    sources
        First column and the one after the last of each.
    train
        Whose perturbations and contexts are compared.
    residuals, measured
        (R, G) dense or CSR, zero where unmeasured; ones where measured.
    """
    from scipy.optimize import nnls

    alike = [rows[:, first:end] @ rows[:, first:end].T for first, end in sources]
    products, counts = (np.asarray(_dense(x @ x.T)) for x in (residuals, measured))
    context, target = np.array(train.contexts), np.array(train.perturbations)
    pairs = np.triu((context[:, None] == context) & (target[:, None] != target) & (counts > 0), 1)
    root = np.sqrt(counts[pairs]).astype(np.float64)
    if not len(root):
        return np.ones(rows.shape[1], dtype=np.float32)
    weights, _ = nnls(np.stack([k[pairs] * root for k in alike], axis=1), products[pairs] / root)
    # what a source counts for at present is its part of the squared lengths
    present = np.array([np.diag(k).max() for k in alike])
    shares = weights * present
    scales = np.ones(rows.shape[1], dtype=np.float32)
    if shares.sum() > 0:
        for (first, end), share, now in zip(sources, shares / shares.sum() * present.sum(), present):
            scales[first:end] = np.sqrt(share / now) if now > 0 else 0.0
    return scales


def _dense(x: Any) -> np.ndarray:
    return x.toarray() if hasattr(x, "toarray") else x
