"""Weights of a stack's members, from sums of products over held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEGLIGIBLE = 1e-10
"""Share of the products' trace that is added to its diagonal: two members that are one share the weight."""
ROUNDING = 1e-6
"""An input this much smaller than the largest is the rounding of float32."""
MOST = 4.0
"""The largest weight: what a member shrank to next to nothing is not blown up again."""
WORTH = 1e-2
"""The share of what the stack explains that a member has to add to stay."""


@dataclass
class Products:
    """Sums over the held-out rows and genes of one fold.

    Parameters
    ----------
    of_inputs
        Array (M, M): products of inputs with each other.
    with_truth
        Array (M,): with the truth.
    """

    of_inputs: np.ndarray
    with_truth: np.ndarray

    @classmethod
    def of(cls, inputs: Sequence[np.ndarray], truth: np.ndarray) -> Products:
        """Of M inputs (N, G) and the truth (N, G); what is NaN in one of them is left out of all."""
        known = ~np.isnan(truth)
        for x in inputs:
            known &= ~np.isnan(x)
        truth = np.where(known, truth, 0).astype(np.float64).ravel()
        flat = np.stack([np.where(known, x, 0).astype(np.float64).ravel() for x in inputs])
        return cls(flat @ flat.T, flat @ truth)

    def __add__(self, other: Products) -> Products:
        return Products(self.of_inputs + other.of_inputs, self.with_truth + other.with_truth)

    def explained(self, weights: np.ndarray) -> float:
        """By how much the squared error of nothing is larger than that of these weights (M,)."""
        return float(2 * weights @ self.with_truth - weights @ self.of_inputs @ weights)


def member_weights(folds: Sequence[Products]) -> np.ndarray:
    """Weights (M,) ≥ 0 of least squared error, of the members that help on rows that did not weigh them.

    The first input, the main effect, always stays. Of the others the one whose absence costs least, as weights of
    the other folds explain each fold, leaves, until every one left adds more than `WORTH`: so sources that tell
    nothing don't fit noise.

    Examples
    --------
    >>> inputs = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.zeros((1, 2))]
    >>> folds = [Products.of(inputs, np.array([[2.0, y]])) for y in (1.0, 1.5)]
    >>> member_weights(folds).round(6)
    array([2.  , 1.25, 0.  ])
    """
    kept = list(range(len(folds[0].with_truth)))
    if len(folds) > 1:
        explained = _explained_elsewhere(folds, kept)
        while len(kept) > 1:
            without = [_explained_elsewhere(folds, [m for m in kept if m != leaving]) for leaving in kept[1:]]
            best = int(np.argmax(without))
            if without[best] < explained - WORTH * abs(explained):
                break
            explained = max(explained, without[best])
            kept.pop(1 + best)
    return bounded(sum(folds[1:], folds[0]), kept)


def _explained_elsewhere(folds: Sequence[Products], kept: Sequence[int]) -> float:
    """What weights of the other folds explain of each."""
    total = sum(folds[1:], folds[0])
    explained = 0.0
    for fold in folds:
        others = Products(total.of_inputs - fold.of_inputs, total.with_truth - fold.with_truth)
        explained += fold.explained(bounded(others, kept))
    return explained


def bounded(products: Products, kept: Sequence[int]) -> np.ndarray:
    """Weights (M,) from 0 to `MOST` of least squared error, of the inputs that are kept; else zero.

    By bounded least squares (Stark & Parker, Comput. Stat. 10, 129, 1995).
    """
    from scipy.optimize import lsq_linear

    size = np.sqrt(np.maximum(np.diag(products.of_inputs), 0))
    used = [m for m in kept if size[m] > ROUNDING * size.max()]
    weights = np.zeros(len(size))
    if used:
        scale = size[used]
        gram = products.of_inputs[np.ix_(used, used)] / np.outer(scale, scale)
        root = np.linalg.cholesky(gram + NEGLIGIBLE * len(used) * np.eye(len(used)))
        truth = np.linalg.solve(root, products.with_truth[used] / scale)
        weights[used] = lsq_linear(root.T, truth, (0, MOST * scale), "bvls").x / scale
    return weights
