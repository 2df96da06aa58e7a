"""Kernel ridge regression with a kernel of perturbations times one of response genes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.calls.rows import Rows, times
from stateshift.feature_table import FeatureTable

RANK = 200
"""Columns that the kernel of response genes is kept in."""
SAME_GENE, ANY_GENE = 3.0, 0.02
"""Of the kernel of response genes: what a gene shares with itself alone, and with every gene."""
PENALTY = 3.0
STEPS, TOLERANCE = 100, 1e-2


@dataclass
class Bilinear:
    """s(q, g) = Σ K(q, i) L(g, h) c(i, h), with (K ⊗ L + λ) c = r over the measured (i, h).

    Parameters
    ----------
    rows
        The training rows.
    loadings
        Array (G, k): L is its product with itself plus `SAME_GENE` on the diagonal.
    coefficients
        c (R, G), dense or CSR, zero where unmeasured.
    across
        Whether rows of other contexts count.
    """

    rows: Rows
    loadings: np.ndarray
    coefficients: Any
    across: bool

    def scores(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Deviations from the gene means (Q, G) float32."""
        weights = self.rows.weights(perturbations, contexts, self.across)
        shared = weights @ (self.coefficients @ self.loadings) @ self.loadings.T
        return shared + SAME_GENE * times(weights, self.coefficients)


def fit_bilinear(
    train: EffectTable, features: FeatureTable, response_features: FeatureTable | None, across: bool = False
) -> Bilinear:
    """Kernel ridge, in closed form where every row measures every gene, else exactly by conjugate gradients.

    Without response features L holds what a gene shares with itself and with every gene.
    """
    rows = Rows.of(train, features, response_features)
    loadings = np.full((len(train.genes), 1), np.sqrt(ANY_GENE), dtype=np.float32)
    if rows.responses is not None:
        loadings = np.concatenate([_leading(rows.responses), loadings], axis=1)
    between = rows.weights(train.perturbations, train.contexts, across)
    solve = solve_whole if train.measured.all() else solve_partly
    return Bilinear(rows, loadings, solve(between, loadings, rows.residuals, rows.measured, PENALTY), across)


def solve_whole(between: np.ndarray, loadings: np.ndarray, residuals: np.ndarray, _: object, penalty: float) -> Any:
    """Coefficients (R, G) where all of R × G is measured: both kernels are diagonalised (a Kronecker product's eigenvalues)."""
    values, vectors = np.linalg.eigh(between.astype(np.float64))
    values = np.maximum(values, 0)[:, None]
    axes, singular, _ = np.linalg.svd(loadings.astype(np.float64), full_matrices=False)
    turned = vectors.T @ residuals
    inside = turned @ axes
    held = inside / (values * (singular**2 + SAME_GENE) + penalty)
    rest = (turned - inside @ axes.T) / (values * SAME_GENE + penalty)
    return (vectors @ (held @ axes.T + rest)).astype(np.float32)


def solve_partly(between: np.ndarray, loadings: np.ndarray, residuals: Any, measured: Any, penalty: float) -> Any:
    """Coefficients (R, G), CSR, where some is measured: conjugate gradients over the measured pairs alone."""
    from scipy.sparse import csr_matrix

    known = csr_matrix(measured)
    row, gene = known.nonzero()
    values = np.asarray(csr_matrix(residuals)[row, gene]).ravel()

    def spread(x: np.ndarray) -> csr_matrix:
        return csr_matrix((x, (row, gene)), shape=known.shape)

    def product(x: np.ndarray) -> np.ndarray:
        c = spread(x)
        shared = between @ (c @ loadings)
        answer = np.einsum("nk,nk->n", shared[row], loadings[gene])
        return answer + SAME_GENE * times(between, c)[row, gene] + penalty * x

    return spread(conjugate_gradients(product, values))


def conjugate_gradients(product: Callable[[np.ndarray], np.ndarray], right: np.ndarray) -> np.ndarray:
    """Solve product(x) = right, of a positive definite operator (Hestenes & Stiefel 1952), to `TOLERANCE` of right."""
    x, rest = np.zeros_like(right), right.copy()
    step, squared = rest.copy(), float(rest @ rest)
    enough = TOLERANCE**2 * squared
    for _ in range(STEPS):
        if squared <= enough:
            break
        image = product(step)
        size = squared / float(step @ image)
        x += size * step
        rest -= size * image
        before, squared = squared, float(rest @ rest)
        step = rest + (squared / before) * step
    return x


def _leading(responses: np.ndarray) -> np.ndarray:
    """Response genes (G, F') in their leading `RANK` directions, products kept."""
    from sklearn.utils.extmath import randomized_svd

    if responses.shape[1] <= RANK:
        return responses
    left, singular, _ = randomized_svd(responses, min(RANK, *responses.shape), random_state=0)
    return (left * singular).astype(np.float32)
