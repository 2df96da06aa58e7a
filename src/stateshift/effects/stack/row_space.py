"""Effects of R rows in at most R coordinates, and back to genes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.transfer import row_noise

SMALLEST = 1e-10
"""Eigenvalues below this share of the largest are rounding."""


@dataclass
class RowSpace:
    """A rotation of genes: whatever is a weighted sum of the rows' effects is the same in its coordinates.

    Main effects, neighbours, ridge, programs and transfer all are; so 2,000 targets are fitted on 2,000 coordinates
    in place of 18,080 genes, and only what is predicted goes back to genes.

    Parameters
    ----------
    table
        The effects in coordinates, named by their numbers; the rows' names are kept.
    basis
        Array (r, G) float32 from coordinates to genes; None where the coordinates are the genes.
    """

    table: EffectTable
    basis: np.ndarray | None

    @classmethod
    def of(cls, train: EffectTable) -> RowSpace:
        """The row space of the effects; the genes themselves where they are fewer, or partly measured."""
        R, G = train.effects.shape
        if R >= G or np.isnan(train.effects).any():
            return cls(_bare(train, train.effects), None)
        effects = train.effects.astype(np.float64)
        values, vectors = np.linalg.eigh(effects @ effects.T)
        kept = values > SMALLEST * max(values[-1], 1e-300)
        vectors, lengths = vectors[:, kept], np.sqrt(values[kept])
        basis = (vectors / lengths).T.astype(np.float32) @ train.effects
        return cls(_bare(train, vectors * lengths), basis)

    def genes(self, coordinates: np.ndarray) -> np.ndarray:
        """Rows (Q, r) as effects on genes (Q, G) float32."""
        rows = coordinates.astype(np.float32)
        return rows if self.basis is None else rows @ self.basis


def _bare(train: EffectTable, effects: np.ndarray) -> EffectTable:
    """Names of the rows with other effects, whose standard errors are such that they add up to the same."""
    noise = row_noise(train) * train.effects.shape[1] / effects.shape[1]
    return dataclasses.replace(
        train,
        genes=train.genes if effects is train.effects else [str(i) for i in range(effects.shape[1])],
        effects=effects,
        control_means={},
        log2_fold_change=None,
        standard_error=np.broadcast_to(np.sqrt(noise)[:, None], effects.shape),
        shrunk=None,
    )
