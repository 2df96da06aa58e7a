"""Non-negative least squares from sums of products, so that no fold has to be kept for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NEGLIGIBLE = 1e-10
"""Share of the products' trace that is added to its diagonal: two members that are one share the weight."""
ROUNDING = 1e-6
"""An input this much smaller than the largest is the rounding of float32."""


class Products:
    """Sums over rows and genes of the products of M inputs with each other (M, M) and with the truth (M,)."""

    def __init__(self) -> None:
        self.of_inputs, self.with_truth = np.zeros((0, 0)), np.zeros(0)

    def add(self, inputs: Sequence[np.ndarray], truth: np.ndarray) -> None:
        """Add rows: M arrays (N, G) and the truth (N, G), NaN where it isn't known."""
        known = ~np.isnan(truth)
        truth = np.where(known, truth, 0).astype(np.float64).ravel()
        flat = np.stack([(x if known.all() else np.where(known, x, 0)).astype(np.float64).ravel() for x in inputs])
        if not len(self.with_truth):
            self.of_inputs, self.with_truth = np.zeros((len(flat), len(flat))), np.zeros(len(flat))
        self.of_inputs += flat @ flat.T
        self.with_truth += flat @ truth


def non_negative(products: Products) -> np.ndarray:
    """Weights (M,) ≥ 0 of least squared error (Lawson & Hanson 1974, ch. 23); zero for an input that is all zero.

    Examples
    --------
    >>> products = Products()
    >>> products.add([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.zeros((1, 2))], np.array([[2.0, -1.0]]))
    >>> non_negative(products).round(6)
    array([2., 0., 0.])
    """
    from scipy.optimize import nnls

    size = np.sqrt(np.diag(products.of_inputs))
    used = np.flatnonzero(size > ROUNDING * max(size.max(initial=0.0), 1e-300))
    weights = np.zeros(len(size))
    if len(used):
        scale = size[used]
        gram = products.of_inputs[np.ix_(used, used)] / np.outer(scale, scale)
        root = np.linalg.cholesky(gram + NEGLIGIBLE * len(used) * np.eye(len(used)))
        weights[used] = nnls(root.T, np.linalg.solve(root, products.with_truth[used] / scale))[0] / scale
    return weights
