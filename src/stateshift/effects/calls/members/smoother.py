"""Kernel smoothing over perturbations and response genes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.calls.rows import Rows, times
from stateshift.feature_table import FeatureTable

SAME_GENE = 10.0
"""What a measurement of the response gene itself counts for, beside one of a gene just like it."""
ANY_GENE = 0.005
"""What a measurement of any gene counts for: through it a perturbation's overall strength enters."""
PROGRAMS, SHARPNESS = 8, 8
"""Programs that response genes are compared by, and the power of their cosine."""
PENALTY, PENALTY_ALONE, PENALTY_STRENGTH = 10.0, 0.3, 10.0
"""Weight of the mean in a smoothed value, with response genes, for the gene alone, and for the main effect."""


@dataclass
class Smoother:
    """Nadaraya–Watson means of residuals, weighted by kernels of the row and of the response gene.

    For a query q and a gene g, with residuals r of the measured (i, h),

        s(q, g) = Σ K(q, i) L(g, h) r(i, h) / (Σ K(q, i) L(g, h) + λ)

    so that a query without neighbours stays at the mean.

    Parameters
    ----------
    rows
        The training rows.
    response
        Context → the kernel L (G, G), one for all contexts under "" where rows of others count; None for the
        gene alone.
    strength_only
        L of ones: the main effect of the perturbation, the same for every gene.
    across
        Whether rows of other contexts count.
    penalty
        λ.
    """

    rows: Rows
    response: dict[str, np.ndarray] | None
    strength_only: bool
    across: bool
    penalty: float

    def scores(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Deviations from the gene means (Q, G) float32."""
        weights = self.rows.weights(perturbations, contexts, self.across)
        value, weight = times(weights, self.rows.residuals), times(weights, self.rows.measured)
        if self.strength_only:
            mean = value.sum(axis=1) / (weight.sum(axis=1) + self.penalty)
            return np.repeat(mean[:, None], value.shape[1], axis=1)
        if self.response is not None:
            of_row = np.array([c if c in self.response else "" for c in contexts])
            for context in np.unique(of_row):
                here, response = of_row == context, self._response(context)
                value[here], weight[here] = value[here] @ response, weight[here] @ response
        return value / (weight + self.penalty)

    def _response(self, context: str) -> np.ndarray:
        """L of a context; of one never seen, the mean over the others."""
        return self.response[context] if context in self.response else sum(self.response.values()) / len(self.response)


def fit_smoother(
    train: EffectTable, features: FeatureTable, response_features: FeatureTable | None, across: bool = False
) -> Smoother:
    """Smoothing with a kernel of response genes, where these have features: alike features, and alike programs.

    Without response features only measurements of the gene itself count: nearest neighbours, each weighted by its
    similarity.
    """
    rows = Rows.of(train, features, response_features)
    if rows.responses is None:
        return Smoother(rows, None, False, across, PENALTY_ALONE)
    alike = np.maximum(rows.responses @ rows.responses.T, 0) ** 2
    alike[np.diag_indices_from(alike)] = 1.0
    alike += ANY_GENE
    alike[np.diag_indices_from(alike)] += SAME_GENE
    response = {}
    for context in [""] if across else rows.contexts:
        of = np.array([across or c == context for c in train.contexts])
        loadings = response_programs(rows, of, alike)
        response[context] = alike + np.maximum(loadings @ loadings.T, 0) ** SHARPNESS
    return Smoother(rows, response, False, across, PENALTY)


def fit_strength(
    train: EffectTable, features: FeatureTable, response_features: FeatureTable | None, across: bool = False
) -> Smoother:
    """How strong perturbations like this one are on all genes together."""
    return Smoother(Rows.of(train, features, None), None, True, across, PENALTY_STRENGTH)


def response_programs(rows: Rows, of: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Response genes (G, `PROGRAMS`) by the programs of some training rows (R,) mask, rows of length one.

    The programs are the leading right singular vectors of the residuals smoothed over perturbations (K) and response
    genes (L), √-degree normalised: A K R L B. They come from a few products with thin matrices (Halko, Martinsson &
    Tropp, SIAM Rev. 53, 217, 2011), none of them of the size of R × G × G.
    """
    train = rows.train.rows(of)
    between = rows.weights(train.perturbations, train.contexts, across=True)[:, of]
    residuals, measured = rows.residuals[of], rows.measured[of]
    a = (1 / np.sqrt(between.sum(axis=1) + 1))[:, None].astype(np.float32)
    counts = np.asarray(measured.sum(axis=0), dtype=np.float32).ravel()
    b = (1 / np.sqrt(response @ counts + 1))[:, None].astype(np.float32)

    def forth(x: np.ndarray) -> np.ndarray:
        return a * (between @ (residuals @ (response @ (b * x))))

    def back(x: np.ndarray) -> np.ndarray:
        return b * (response @ (residuals.T @ (between @ (a * x))))

    n = min(PROGRAMS, *residuals.shape)
    basis = np.random.default_rng(0).standard_normal((len(train.genes), n + 10)).astype(np.float32)
    for _ in range(5):
        basis, _ = np.linalg.qr(back(np.linalg.qr(forth(basis))[0]))
    _, singular, right = np.linalg.svd(forth(basis), full_matrices=False)
    loadings = (basis @ right.T)[:, :n] * singular[:n]
    length = np.linalg.norm(loadings, axis=1, keepdims=True)
    return np.divide(loadings, length, out=np.zeros_like(loadings), where=length > 1e-12)
