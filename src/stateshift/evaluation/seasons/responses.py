"""The members of the 2026 score that are about responding genes: fold changes, directions and the sets themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stateshift.evaluation.significance import Significance

FDR = 0.05
FEWEST_GENES = 10
PURITY = 0.9


def response_members(
    predicted: Significance, true: Significance, own_gene: np.ndarray, genes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Members by name, one value (P,) a perturbation, NaN where one is not defined; the target's own gene left out.

    ``lfc_nmae``
        Mean |predicted − true log2 fold change| over the mean |true| of the truly responding genes, of which there
        must be 10. A gene that the prediction's test leaves out counts as unchanged.
    ``direction_fidelity``
        Predicted responders of the true sign, over the larger number of predicted and true responders.
    ``direction_reach``
        True responders in the order of the prediction's FDR, p-value and |fold change|: how far one comes with 90 % of
        the signs right, as a share of all.
    ``jaccard``
        Shared over all responders of either side; 1 where neither has any.

    Parameters
    ----------
    own_gene
        For each perturbation the column of its target gene (P,), −1 where it isn't measured.
    genes
        The G names, by which genes that tie in all else come.
    """
    P, G = true.fdr.shape
    counted = np.ones((P, G), bool)
    known = np.flatnonzero(own_gene >= 0)
    counted[known, own_gene[known]] = False
    real, found = (_below(side.fdr) & counted for side in (true, predicted))
    shared = predicted.tested & true.tested
    has_sign = counted & shared & (true.fold_changes != 0)
    right = has_sign & (np.sign(predicted.fold_changes) == np.sign(true.fold_changes))
    n_real, n_found = real.sum(axis=1), (found & has_sign).sum(axis=1)
    either = (real | found).sum(axis=1)
    return {
        "lfc_nmae": fold_change_error(
            np.where(predicted.tested, predicted.fold_changes, 0.0), true.fold_changes, true.fold_changes, real
        ),
        "direction_fidelity": _over((found & right).sum(axis=1), np.maximum(n_real, n_found)),
        "direction_reach": _over(
            _reach(predicted, real & shared, has_sign, right, np.argsort(np.argsort(genes))), n_real
        ),
        "jaccard": np.where(either == 0, 1.0, (real & found).sum(axis=1) / np.maximum(either, 1)),
    }


def fold_change_error(a: np.ndarray, b: np.ndarray, size: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Mean |a − b| over mean |size| of some genes, (P,) of arrays (P, G); NaN with fewer than 10 genes."""
    n = genes.sum(axis=1)
    over = np.where(genes, np.abs(size), 0.0).sum(axis=1)
    gap = np.where(genes, np.abs(np.where(np.isfinite(a), a, 0.0) - b), 0.0).sum(axis=1)
    return np.where(n >= FEWEST_GENES, _over(gap, over), np.nan)


def responding(side: Significance, own_gene: np.ndarray) -> np.ndarray:
    """Genes whose FDR is below 0.05 (P, G), the target's own left out."""
    found = _below(side.fdr)
    known = np.flatnonzero(own_gene >= 0)
    found[known, own_gene[known]] = False
    return found


def _below(fdr: np.ndarray) -> np.ndarray:
    # NaN, of a gene that wasn't tested, is below nothing
    return fdr < FDR


def _over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def _reach(
    predicted: Significance, genes: np.ndarray, has_sign: np.ndarray, right: np.ndarray, place: np.ndarray
) -> np.ndarray:
    """For each perturbation the most genes with a sign, in the prediction's order, of which 90 % are right."""
    farthest = np.zeros(len(genes))
    for i, chosen in enumerate(genes):
        at = np.flatnonzero(chosen)
        size, p, fdr = np.abs(predicted.fold_changes[i, at]), predicted.p_values[i, at], predicted.fdr[i, at]
        order = np.lexsort((place[at], -size, p, fdr))
        signed, correct = np.cumsum(has_sign[i, at[order]]), np.cumsum(right[i, at[order]])
        pure = (signed > 0) & (correct / np.maximum(signed, 1) >= PURITY)
        farthest[i] = signed[pure].max(initial=0)
    return farthest
