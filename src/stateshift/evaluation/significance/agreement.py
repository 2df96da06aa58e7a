"""Whether a prediction finds the genes that respond, as cell-eval measures it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from stateshift.evaluation.significance.rank_sum import Significance
from stateshift.metrics import group_auc, pearson_delta

FDR = np.float32(0.05)
TOP = (50, 100, 200, 500)
CELL_EVAL_NAMES = {
    "des": "overlap_at_N",
    **{f"des_at_{k}": f"overlap_at_{k}" for k in TOP},
    "precision": "precision_at_N",
    **{f"precision_at_{k}": f"precision_at_{k}" for k in TOP},
    "direction_match": "de_direction_match",
    "lfc_spearman": "de_spearman_lfc_sig",
    "recall": "de_sig_genes_recall",
    "n_true": "de_nsig_counts_real",
    "n_predicted": "de_nsig_counts_pred",
    "pr_auc": "pr_auc",
    "roc_auc": "roc_auc",
}
"""Our columns → what cell-eval 0.8.2 calls them."""


def agreement(predicted: Significance, true: Significance) -> pd.DataFrame:
    """How a prediction's responding genes agree with the true ones, one row a perturbation.

    A gene responds where its FDR is below 0.05. Genes are ranked by |log2 fold change|, infinite ones first; both values
    count in single precision, as in cell-eval 0.8.2, whose values these are (`CELL_EVAL_NAMES`). Only equal fold
    changes, infinite ones above all, come in the order of the genes here, and there as an unstable sort leaves them:
    where such a tie lies across the last place that counts, a value may differ.

    Parameters
    ----------
    predicted, true
        Tests of the same perturbations and genes, in one order, on log1p.

    Returns
    -------
    pd.DataFrame
        Index ``perturbation``. With n truly responding genes: ``des``, of which the share among the n predicted
        responders with the largest fold changes (0 where n is 0); ``des_at_k``, the same of the first k on both sides;
        ``precision`` and ``precision_at_k``, the share of the predicted responders, or of their first k, that is among
        as many true ones; ``recall``; ``direction_match``, the share of the n with the predicted sign, and
        ``lfc_spearman``, the rank correlation of their fold changes, NaN where n is too small; ``n_true``,
        ``n_predicted``; ``pr_auc``, ``roc_auc`` of telling the n by the predicted −log10 FDR (bounded at 10), NaN where
        all or none respond.
    """
    if predicted.perturbations != true.perturbations or predicted.fdr.shape != true.fdr.shape:
        raise ValueError("both tests must hold the same perturbations and genes, in one order")
    predicted, true = _single(predicted), _single(true)
    rows = []
    for i in range(len(true.perturbations)):
        row = _overlaps(_ranked(predicted, i), _ranked(true, i), len(true.tested))
        rows.append(row | _directions(predicted.fold_changes[i], true.fold_changes[i], true.fdr[i] < FDR))
    table = pd.DataFrame(rows, index=pd.Index(true.perturbations, name="perturbation"))
    table["pr_auc"], table["roc_auc"] = _areas(predicted.fdr, true.fdr < FDR)
    return table[list(CELL_EVAL_NAMES)]


def count_correlation(table: pd.DataFrame) -> float:
    """Spearman correlation of the numbers of responding genes, over perturbations that truly have any.

    cell-eval's ``de_spearman_sig``; 1 where none has any, NaN where all have as many.
    """
    some = table[table["n_true"] > 0]
    return _spearman(some["n_true"].to_numpy(), some["n_predicted"].to_numpy()) if len(some) else 1.0


def _single(side: Significance) -> Significance:
    return replace(side, fdr=side.fdr.astype(np.float32), fold_changes=side.fold_changes.astype(np.float32))


def _ranked(side: Significance, i: int) -> np.ndarray:
    """The responding genes of perturbation i, largest |log2 fold change| first."""
    genes = np.flatnonzero(side.fdr[i] < FDR)
    return genes[np.argsort(-np.abs(side.fold_changes[i, genes]), kind="stable")]


def _overlaps(predicted: np.ndarray, true: np.ndarray, n_genes: int) -> dict[str, float]:
    # a gene's place among the true ones, the number of all genes where it has none
    place = np.full(n_genes, n_genes)
    place[true] = np.arange(len(true))

    def shared(k: int) -> float:
        return float((place[predicted[:k]] < k).sum() / k) if k else 0.0

    row = {"n_true": len(true), "n_predicted": len(predicted)}
    row |= {"des": shared(len(true)), "precision": shared(len(predicted))}
    for k in TOP:
        row[f"des_at_{k}"], row[f"precision_at_{k}"] = shared(min(k, len(true))), shared(min(k, len(predicted)))
    found = float((place[predicted] < n_genes).sum())
    return row | {"recall": found / len(true) if len(true) else np.nan}


def _directions(predicted: np.ndarray, true: np.ndarray, responds: np.ndarray) -> dict[str, float]:
    if not responds.any():
        return {"direction_match": np.nan, "lfc_spearman": np.nan}
    x, y = predicted[responds], true[responds]
    return {"direction_match": float((np.sign(x) == np.sign(y)).mean()), "lfc_spearman": _spearman(x, y)}


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(pearson_delta(rankdata(x)[None], rankdata(y)[None])[0])


def _areas(predicted: np.ndarray, responds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and area under the ROC curve of each perturbation, (P,) each."""
    from sklearn.metrics import average_precision_score

    P, G = predicted.shape
    scores = -np.log10(np.clip(predicted, np.float32(1e-10), np.float32(1)))
    precision = np.full(P, np.nan)
    for i in np.flatnonzero(responds.any(axis=1) & ~responds.all(axis=1)):
        precision[i] = average_precision_score(responds[i], scores[i])
    return precision, group_auc(scores.ravel(), responds.ravel(), np.repeat(np.arange(P), G))
