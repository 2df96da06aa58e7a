"""Pseudobulk of 2026, its sampling noise, and the noise-corrected distances of the challenge's squared error."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

BULK_TOTAL = 50_000.0
"""The total counts to which a group's summed counts are brought before log1p."""


def bulk_and_noise(counts: csr_matrix) -> tuple[np.ndarray, float]:
    """log1p of a group's summed counts brought to 50,000 (G,), and their squared sampling error, summed over genes.

    The noise is the jackknife's (Efron & Stein 1981): with b₋ᵢ the pseudobulk without cell i,
    (n − 1)/n · Σᵢ ‖b₋ᵢ − mean b₋‖²; 0 for a single cell.

    Parameters
    ----------
    counts
        A group's n cells (n, G), whole counts or not.
    """
    by_gene = counts.astype(np.float64).tocsc()
    sums, totals = np.asarray(by_gene.sum(axis=0)).ravel(), np.asarray(by_gene.sum(axis=1)).ravel()
    total = sums.sum()
    if total <= 0:
        return np.zeros(len(sums)), 0.0
    bulk = np.log1p(sums * (BULK_TOTAL / total))
    return bulk, _jackknife(by_gene.data, by_gene.indices, by_gene.indptr, sums, totals, total)


@njit(cache=True, nogil=True)
def _jackknife(
    values: np.ndarray, cells: np.ndarray, starts: np.ndarray, sums: np.ndarray, totals: np.ndarray, total: float
) -> float:
    n, spread = len(totals), 0.0
    if n < 2:
        return 0.0
    own, rest = np.zeros(n), total - totals
    # without a cell that has all counts nothing is left: log(1) − log(1)
    rest[rest <= 0.0] = 1.0
    log_rest = np.log(rest)
    for j in range(len(sums)):
        if sums[j] == 0.0:
            continue
        for at in range(starts[j], starts[j + 1]):
            own[cells[at]] += values[at]
        whole, first, second = math.log1p(BULK_TOTAL * sums[j] / total), 0.0, 0.0
        for i in range(n):
            # log1p(a / b) as log(a + b) − log(b), which is done once a cell; about the whole group's value, or the
            # difference of two large sums would be rounding
            without = math.log(rest[i] + BULK_TOTAL * (sums[j] - own[i])) - log_rest[i] - whole
            first += without
            second += without * without
        spread += second - first * first / n
        for at in range(starts[j], starts[j + 1]):
            own[cells[at]] = 0.0
    return max((n - 1) / n * spread, 0.0)


def corrected_error(
    predicted: np.ndarray,
    predicted_noise: np.ndarray,
    true: np.ndarray,
    true_noise: np.ndarray,
    own_gene: np.ndarray,
) -> np.ndarray:
    """Mean squared error a gene (P,) of predicted and true pseudobulk (P, G), less what sampling adds to it.

    The prediction's noise is taken off only as far as the truth's own, and in all only as far as its pseudobulks differ
    between perturbations at all: a prediction whose noise cancels in the sum can't claim it.

    Parameters
    ----------
    predicted_noise, true_noise
        (P,), of `bulk_and_noise`.
    own_gene
        For each perturbation the column of its target gene (P,), which doesn't count; −1 where it isn't measured.
    """
    weights = 1.0 / _genes_counted(own_gene, true.shape[1])
    claimed = np.minimum(predicted_noise, true_noise)
    total = float((claimed * weights).sum())
    if total > 0.0:
        claimed = claimed * min(1.0, _differences(predicted, own_gene, weights) / total)
    return _per_gene(predicted, true, claimed + true_noise, own_gene)


def effect_size(
    true: np.ndarray, true_noise: np.ndarray, control: np.ndarray, control_noise: float, own_gene: np.ndarray
) -> np.ndarray:
    """Squared distance a gene (P,) of true pseudobulks (P, G) to the controls' (G,), less what sampling adds to it."""
    return _per_gene(true, np.broadcast_to(control, true.shape), true_noise + control_noise, own_gene)


def _genes_counted(own_gene: np.ndarray, n_genes: int) -> np.ndarray:
    return n_genes - (own_gene >= 0).astype(float)


def _per_gene(a: np.ndarray, b: np.ndarray, noise: np.ndarray, own_gene: np.ndarray) -> np.ndarray:
    gap = (a - b) ** 2
    known = np.flatnonzero(own_gene >= 0)
    left_out = np.zeros(len(gap))
    left_out[known] = gap[known, own_gene[known]]
    return (gap.sum(axis=1) - noise - left_out) / _genes_counted(own_gene, a.shape[1])


def _differences(predicted: np.ndarray, own_gene: np.ndarray, weights: np.ndarray) -> float:
    """Weighted squares of the predicted pseudobulks about their weighted mean, each gene without its own target."""
    W = np.repeat(weights[:, None], predicted.shape[1], axis=1)
    known = np.flatnonzero(own_gene >= 0)
    W[known, own_gene[known]] = 0.0
    about = predicted - predicted.mean(axis=0)
    sums, squares, total = (W * about).sum(axis=0), (W * about * about).sum(axis=0), W.sum(axis=0)
    enough = (W > 0).sum(axis=0) >= 2
    return float(np.maximum(squares[enough] - sums[enough] ** 2 / total[enough], 0.0).sum())
