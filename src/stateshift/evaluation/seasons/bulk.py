"""Pseudobulk of 2026, its sampling noise, and the noise-corrected distances of the challenge's squared error."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from stateshift.evaluation.significance import unsigned

BULK_TOTAL = 50_000.0
"""The total counts to which a group's summed counts are brought before log1p."""
LARGEST_SHARE = 0.03
"""Up to here eleven powers of a share are beyond 64 bits."""


def bulk_and_noise(counts: csr_matrix) -> tuple[np.ndarray, np.ndarray, float]:
    """A group's summed counts (G,), log1p of them brought to 50,000 (G,), and its squared sampling error over all genes.

    The noise is the jackknife's (Efron & Stein 1981): with b₋ᵢ the pseudobulk without cell i,
    (n − 1)/n · Σᵢ ‖b₋ᵢ − mean b₋‖²; 0 for a single cell.

    Parameters
    ----------
    counts
        A group's n cells (n, G), whole counts or not, each gene stored once a cell.
    """
    genes, starts = unsigned(counts)
    sums, totals = _sums(counts.data, genes, starts, counts.shape[1])
    total = sums.sum()
    if total <= 0:
        return sums, np.zeros(len(sums)), 0.0
    bulk = np.log1p(sums * (BULK_TOTAL / total))
    n, share = len(totals), totals / total
    if n < 2:
        return sums, bulk, 0.0
    if share.max() == 1.0:
        # without the cell that has all counts nothing is left, and the others change nothing
        return sums, bulk, float(((n - 1) / n) ** 2 * (bulk**2).sum())
    moments = np.array([(share**k).sum() for k in range(2 * _terms(share.max()) + 1)])
    noise = _jackknife(counts.data, genes, starts, sums / total, share, moments, total)
    return sums, bulk, noise


def _terms(largest: float) -> int:
    """After how many powers of a cell's share of the counts nothing is left to add."""
    return min(int(np.ceil(np.log(1e-17) / np.log(largest))), 16)


@njit(cache=True, nogil=True)
def _sums(values: np.ndarray, genes: np.ndarray, starts: np.ndarray, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each gene (G,) and of each cell (n,), in 64 bits."""
    sums, totals = np.zeros(n_genes), np.zeros(len(starts) - 1)
    for i in range(len(totals)):
        total = 0.0
        for e in range(starts[i], starts[i + 1]):
            sums[genes[e]] += values[e]
            total += values[e]
        totals[i] = total
    return sums, totals


@njit(cache=True, nogil=True, fastmath={"contract"})
def _jackknife(
    values: np.ndarray,
    genes: np.ndarray,
    starts: np.ndarray,
    gene_share: np.ndarray,
    cell_share: np.ndarray,
    moments: np.ndarray,
    total: float,
) -> float:
    """The noise from shares of all counts: of cell i, which has δᵢ and ωᵢⱼ in gene j; of gene j, which has σⱼ.

    Without cell i the pseudobulk changes by

        log1p(B (σⱼ − ωᵢⱼ) / (1 − δᵢ)) − log1p(B σⱼ) = log(1 − (δᵢ + B ωᵢⱼ) / (1 + B σⱼ)) − log(1 − δᵢ).

    Of cells without the gene that is Σₖ aₖ δᵢᵏ with aₖ = (1 − (1 + B σⱼ)⁻ᵏ) / k, which needs no cell but only the
    moments Σᵢ δᵢᵏ; the other cells are put in one by one. So zeros are never walked through.
    """
    G, n, K = len(gene_share), len(cell_share), (len(moments) - 1) // 2
    first, second, inverse = np.zeros(G), np.zeros(G), 1.0 / (1.0 + BULK_TOTAL * gene_share)
    near = cell_share.max() <= LARGEST_SHARE
    a = np.empty(K + 1)
    for j in range(G):
        if gene_share[j] == 0.0:
            continue
        if near:
            power = 1.0
            for k in range(1, K + 1):
                power *= inverse[j]
                a[k] = (1.0 - power) / k
                first[j] += a[k] * moments[k]
            for k in range(1, K + 1):
                for m in range(1, K + 1):
                    second[j] += a[k] * a[m] * moments[k + m]
        else:
            for i in range(n):
                change = _log1m(cell_share[i] * inverse[j]) - _log1m(cell_share[i])
                first[j] += change
                second[j] += change * change
    scale = BULK_TOTAL / total
    for i in range(n):
        share, own, little = cell_share[i], _log1m(cell_share[i]), cell_share[i] < 0.01
        for e in range(starts[i], starts[i + 1]):
            j = genes[e]
            without = _log1m((share + scale * values[e]) * inverse[j]) - own
            absent = (_log1m_of_little(share * inverse[j]) if little else _log1m(share * inverse[j])) - own
            first[j] += without - absent
            second[j] += without * without - absent * absent
    spread = 0.0
    for j in range(G):
        spread += second[j] - first[j] * first[j] / n
    return max((n - 1) / n * spread, 0.0)


@njit(inline="always")
def _log1m(x: float) -> float:
    """log(1 − x) for 0 ≤ x < 1, by its series where ten terms are all that 64 bits hold of it."""
    if x > LARGEST_SHARE:
        return math.log(1.0 - x)
    high = 1 / 6 + x * (1 / 7 + x * (1 / 8 + x * (1 / 9 + x * (1 / 10))))
    return -x * (1.0 + x * (1 / 2 + x * (1 / 3 + x * (1 / 4 + x * (1 / 5 + x * high)))))


@njit(inline="always")
def _log1m_of_little(x: float) -> float:
    """The same for x below 0.01, which needs seven terms."""
    return -x * (1.0 + x * (1 / 2 + x * (1 / 3 + x * (1 / 4 + x * (1 / 5 + x * (1 / 6 + x * (1 / 7)))))))


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
