"""Training rows as kernel methods see them: residuals, what is measured, and how alike rows are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.calls.members.similarity import Points, context_similarity, similarities
from stateshift.effects.calls.residuals import GeneMeans, residuals_of
from stateshift.effects.calls.sources import source_scales
from stateshift.feature_table import FeatureTable

NEARNESS = 1.5
"""Power of two perturbations' similarity: what is hardly alike, by chance for one, counts for less."""
SPARSE_BELOW = 0.2
"""Share measured below which matrices of the training rows are kept sparse."""


@dataclass
class Rows:
    """R training rows (a perturbation in a context) on G response genes.

    Parameters
    ----------
    train
        Their effects.
    residuals, measured
        (R, G) float32, dense or CSR: deviations from the gene means, zero where unmeasured; ones where measured.
    points
        Perturbations as rows whose products are similarities.
    targets
        Array (R, F): those of the training rows.
    responses
        Array (G, F'): response genes as such rows; None without response features.
    contexts, alike
        Names, and how much a row of one tells of another (C, C).
    """

    train: EffectTable
    residuals: Any
    measured: Any
    points: Points
    targets: np.ndarray
    responses: np.ndarray | None
    contexts: list[str]
    alike: np.ndarray

    @classmethod
    def of(cls, train: EffectTable, features: FeatureTable, response_features: FeatureTable | None) -> Rows:
        """Set up from training effects; the sources of fused features count as far as they explain these."""
        from scipy.sparse import csr_matrix

        values = residuals_of(train, GeneMeans.of(train))
        contexts, alike = context_similarity(train, values)
        known = ~np.isnan(values)
        residuals, measured = np.nan_to_num(values), known.astype(np.float32)
        if known.mean() < SPARSE_BELOW:
            places = known.nonzero()
            measured = csr_matrix(measured)
            residuals = csr_matrix((residuals[places], places), shape=known.shape)
        points = Points.of(features, sorted(set(train.perturbations)))
        responses = None if response_features is None else Points.of(response_features, train.genes)(train.genes)
        targets = points(train.perturbations)
        sources = [tuple(part["columns"]) for part in features.provenance.get("parts", []) if part.get("columns")]
        if len(sources) > 1:
            points.factors = source_scales(targets, sources, train, residuals, measured)
            targets = points(train.perturbations)
        return cls(train, residuals, measured, points, targets, responses, contexts, alike)

    def weights(self, perturbations: Sequence[str], contexts: Sequence[str], across: bool) -> np.ndarray:
        """Kernel (Q, R) of queries and training rows: alike perturbations × alike contexts.

        Parameters
        ----------
        perturbations, contexts
            Q names each. A context never seen is as near to every other.
        across
            Whether rows of other contexts count, by their reliability, or the own context's alone.
        """
        alike = self.alike if across else np.eye(len(self.contexts), dtype=np.float32)
        alike = np.concatenate([alike, np.ones((1, len(self.contexts)), dtype=np.float32)])
        place = {context: i for i, context in enumerate(self.contexts)}
        asked = np.array([place.get(c, len(place)) for c in contexts], dtype=int)
        own = np.array([place[c] for c in self.train.contexts], dtype=int)
        return similarities(self.points(perturbations), self.targets) ** NEARNESS * alike[np.ix_(asked, own)]


def times(left: np.ndarray, right: Any) -> np.ndarray:
    """A dense matrix times a dense or sparse one."""
    return np.asarray((right.T @ left.T).T)
