"""Perturbations as points in feature space, and the inner folds that leave genes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.effects.main_effects import MainEffects
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable, genes_of

INNER_FOLDS = 5


@dataclass
class FeatureSpace:
    """Standardised feature vectors: every column centred and scaled over the training perturbations.

    Mean-pooled protein embeddings have a few columns of large variance that say little of the
    protein, and share a mean that makes all cosines nearly one; so both feature models standardise.

    Parameters
    ----------
    table
        Gene → vector.
    centre, scale
        Arrays (F,), of the training perturbations; a column that is constant has scale 1.
    """

    table: FeatureTable
    centre: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, table: FeatureTable | None, perturbations: Sequence[str], model: str) -> FeatureSpace:
        """The space of these training perturbations, each counted once.

        Raises
        ------
        StateshiftError
            There is no table, or genes have no vector in it; they are named.
        """
        if table is None:
            raise StateshiftError(f"The effect model `{model}` needs perturbation features: none were given.")
        vectors = table.matrix(perturbations).astype(np.float64)
        scale = vectors.std(axis=0)
        return cls(table, vectors.mean(axis=0), np.where(scale > 1e-6 * abs(vectors).max(axis=0), scale, 1.0))

    def __call__(self, perturbations: Sequence[str]) -> np.ndarray:
        """Vectors (P, F) divided by √F, so that their squared length is about 1 at any width."""
        vectors = self.table.matrix(perturbations).astype(np.float64)
        return (vectors - self.centre) / self.scale / np.sqrt(self.table.width)


def target_deviations(main: MainEffects) -> tuple[list[str], np.ndarray]:
    """The training perturbations and their deviations from the context main effect, (P, G)."""
    names = list(main.targets)
    return names, np.stack([main.targets[name] for name in names])


def in_row_space(deviations: np.ndarray) -> np.ndarray:
    """Rows (P, G) in the P coordinates of their row space: distances between them stay the same."""
    if deviations.shape[1] <= len(deviations):
        return deviations
    # products of rows say all of their distances, and take a tenth of a decomposition's time
    values, vectors = np.linalg.eigh(deviations @ deviations.T)
    return vectors * np.sqrt(np.maximum(values, 0))


def gene_folds(perturbations: Sequence[str], seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inner folds that hold genes out: rows to fit on, rows to predict.

    A held-out gene's perturbations, doubles included, are all held out, as for a gene never perturbed.
    A fold that would leave nothing to fit on is left out; one gene alone gives no fold.

    Examples
    --------
    >>> [(fit.tolist(), held.tolist()) for fit, held in gene_folds(["A", "B", "A+C"], seed=0)]
    [([0, 1], [2]), ([1], [0, 2]), ([0, 2], [1])]
    """
    genes = sorted({gene for p in perturbations for gene in genes_of(p)})
    order = np.random.default_rng(seed).permutation(len(genes))
    folds = []
    for part in np.array_split(order, min(INNER_FOLDS, len(genes))):
        held_genes = {genes[i] for i in part}
        held = np.array([not held_genes.isdisjoint(genes_of(p)) for p in perturbations])
        if held.any() and not held.all():
            folds.append((np.flatnonzero(~held), np.flatnonzero(held)))
    return folds


def first_least(errors: np.ndarray) -> int:
    """The first of the smallest errors, rounding set aside.

    Examples
    --------
    >>> first_least(np.array([2.0, 1.0 + 1e-14, 1.0]))
    1
    """
    return int(np.flatnonzero(errors <= errors.min() * (1 + 1e-9) + 1e-12)[0])


def to_exact_sums(answers: np.ndarray) -> np.ndarray:
    """Answers (P, K) to a millionth of the largest, on a grid of powers of two, on which sums of them don't round.

    Trees that choose between two splits of the same rows then choose alike, whatever the order of genes, the number of
    threads or the machine; of unrounded answers the last digit of a sum would decide.

    Examples
    --------
    >>> to_exact_sums(np.array([[1.0, 1 / 3]])).tolist()
    [[1.0, 0.33333301544189453]]
    """
    if not answers.size or not answers.any():
        return answers
    unit = 2.0 ** (np.floor(np.log2(np.abs(answers).max())) - 20)
    return np.rint(answers / unit) * unit
