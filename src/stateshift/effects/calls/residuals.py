"""What is left of effects once each gene's mean in each context is taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells.pseudobulk import EffectTable

PRIOR = 5.0
"""Rows that the mean over all genes of a context counts for in a gene's mean."""


@dataclass
class GeneMeans:
    """Means of each gene in each context, drawn to the context's mean over all genes where few rows measure it.

    Parameters
    ----------
    contexts
        The training contexts.
    means
        Array (C, G).
    """

    contexts: list[str]
    means: np.ndarray

    @classmethod
    def of(cls, train: EffectTable) -> GeneMeans:
        """Mean (Σ y + 5 m) / (n + 5) of n rows, m the mean over all genes of the context."""
        contexts = sorted(set(train.contexts))
        of_row = np.array(train.contexts, dtype=str)
        means = np.empty((len(contexts), len(train.genes)), dtype=np.float32)
        for i, context in enumerate(contexts):
            rows = train.effects[of_row == context]
            n = (~np.isnan(rows)).sum(axis=0)
            overall = np.nanmean(rows) if n.any() else 0.0
            means[i] = (np.nansum(rows, axis=0) + PRIOR * overall) / (n + PRIOR)
        return cls(contexts, means)

    def __call__(self, contexts: Sequence[str]) -> np.ndarray:
        """Means (R, G) of rows by context; of a context never seen, the mean over the others."""
        place = {context: i for i, context in enumerate(self.contexts)}
        rows = np.array([place.get(c, len(self.contexts)) for c in contexts], dtype=int)
        return np.concatenate([self.means, self.means.mean(axis=0, keepdims=True)])[rows]


def residuals_of(train: EffectTable, means: GeneMeans) -> np.ndarray:
    """Deviations (R, G) float32 of the training effects from their means; NaN where unmeasured."""
    return (train.effects - means(train.contexts)).astype(np.float32)
