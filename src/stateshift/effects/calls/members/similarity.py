"""How alike two perturbations, two response genes or two contexts are, as kernels between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.feature_table import FeatureTable

FEWEST_SHARED = 30
"""Pairs that two contexts have to share before one tells anything of the other."""


@dataclass
class Points:
    """Names as rows whose products are similarities.

    Parameters
    ----------
    table
        Gene → vector.
    centre, scale
        Arrays (F,) that standardise the vectors; None where the table's own products are similarities.
    factors
        Array (F,) that weighs the columns; None weighs them as they are.
    """

    table: FeatureTable
    centre: np.ndarray | None
    scale: np.ndarray | None
    factors: np.ndarray | None = None

    @classmethod
    def of(cls, table: FeatureTable, names: Sequence[str]) -> Points:
        """Standardised over these names, unless the table says that its rows can be compared as they are."""
        if table.provenance.get("comparable_rows"):
            return cls(table, None, None)
        vectors = table.matrix([name for name in names if not table.missing([name])])
        if not len(vectors):
            return cls(table, None, None)
        scale = vectors.std(axis=0)
        return cls(table, vectors.mean(axis=0), np.where(scale > 1e-6 * abs(vectors).max(axis=0), scale, np.inf))

    def __call__(self, names: Sequence[str]) -> np.ndarray:
        """Rows (P, F) float32 of length at most one; zeros for a name that the table doesn't hold."""
        rows = np.zeros((len(names), self.table.width), dtype=np.float32)
        known = [i for i, name in enumerate(names) if not self.table.missing([name])]
        if known:
            vectors = self.table.matrix([names[i] for i in known])
            rows[known] = vectors if self.centre is None else (vectors - self.centre) / self.scale
        if self.factors is not None:
            rows *= self.factors
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        # a shorter row of a fusion lacks sources, and resembles others the less
        least = 1.0 if self.centre is None else 1e-12
        return rows / np.maximum(length, least)


def similarities(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of rows (P, F) and (Q, F), those below zero set to zero: (P, Q)."""
    return np.maximum(a @ b.T, 0)


def context_similarity(table: EffectTable, residuals: np.ndarray) -> tuple[list[str], np.ndarray]:
    """How well each context's residuals tell another's: the contexts' names and an array (C, C).

    It is the correlation over the (perturbation, gene) pairs that both measure, which their noise lowers: so an
    unreliable context weighs little. Negative correlations, and those of fewer than `FEWEST_SHARED` pairs, are zero.

    Parameters
    ----------
    table
        Training effects.
    residuals
        Array (R, G): their deviations from the means of each gene in each context; NaN where unmeasured.
    """
    names = sorted(set(table.contexts))
    kernel = np.eye(len(names), dtype=np.float32)
    rows = [{p: i for i, (p, c) in enumerate(zip(table.perturbations, table.contexts)) if c == name} for name in names]
    for i in range(len(names)):
        for j in range(i):
            both = sorted(rows[i].keys() & rows[j].keys())
            a, b = residuals[[rows[i][p] for p in both]], residuals[[rows[j][p] for p in both]]
            measured = ~(np.isnan(a) | np.isnan(b))
            a, b = a[measured], b[measured]
            if len(a) >= FEWEST_SHARED and a.std() > 0 and b.std() > 0:
                kernel[i, j] = kernel[j, i] = max(np.corrcoef(a, b)[0, 1], 0.0)
    return names, kernel
