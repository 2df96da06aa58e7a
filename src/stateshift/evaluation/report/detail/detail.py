"""Effects, significance and intervals of every pair of a prediction.

Shapes: R pairs (context, perturbation), G genes. Effects are differences of mean log1p expression, which is the natural
logarithm of a fold change with a pseudo-count of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from stateshift.errors import StateshiftError, suggestion
from stateshift.feature_table import genes_of

FDR = 0.05
"""False discovery rate below which a gene is said to respond."""
RESPONSES = ("no response", "responds, direction predicted", "responds, direction missed")
"""What is said of a gene in a pair, by the number that `Detail.responses` gives it."""


@dataclass(frozen=True)
class Detail:
    """A prediction beside its truth, or alone.

    Parameters
    ----------
    model
        The model's name.
    genes
        G symbols.
    rows
        R rows: ``context``, ``perturbation``, ``route``, ``regime``, ``n_predicted``, ``n_true`` (0 without a truth), where the
        prediction says them ``n_sources``, ``nearest``, ``nearest_gene``, and where it was scored ``pearson_delta``,
        ``mae``, ``pds_cosine``, ``reliability``, ``tier``, ``flags``.
    predicted
        (R, G) effects.
    measured
        (R, G) effects; None without a truth.
    fdr
        (R, G): false discovery rates of the measured response, rank-sum test over all genes; None without a truth.
    centres, half_widths
        (R, G): the intervals, NaN where there is none; None where the prediction gives none.
    level
        The share of effects that the intervals are to hold.
    simulated
        Whether the prediction says that its cells are.
    n_genes
        How many genes were predicted, of which `genes` are those that are kept.
    """

    model: str
    genes: list[str]
    rows: pd.DataFrame
    predicted: np.ndarray
    measured: np.ndarray | None = None
    fdr: np.ndarray | None = None
    centres: np.ndarray | None = None
    half_widths: np.ndarray | None = None
    level: float = float("nan")
    simulated: bool = False
    n_genes: int = field(default=0)

    def with_strongest_genes(self, most: int) -> Detail:
        """The same on the genes with the largest effect in any pair, and the targets themselves, in their old order."""
        if len(self.genes) <= most:
            return self
        strength = np.abs(self.predicted).max(axis=0)
        if self.measured is not None:
            strength = np.maximum(strength, np.abs(self.measured).max(axis=0))
        targets = {gene for name in self.rows["perturbation"] for gene in genes_of(name)}
        own = np.isin(self.genes, list(targets))
        kept = np.sort(np.lexsort((-strength, ~own))[:most])
        cut = {
            name: None if values is None else values[:, kept]
            for name in ("predicted", "measured", "fdr", "centres", "half_widths")
            for values in [getattr(self, name)]
        }
        return replace(self, genes=[self.genes[i] for i in kept], **cut)

    def responses(self) -> np.ndarray:
        """(R, G) int8: of each gene in each pair its place in `RESPONSES`, from effects as they are, before any rounding."""
        same = np.sign(self.measured) == np.sign(self.predicted)
        return np.where(self.fdr < FDR, np.where(same, 1, 2), 0).astype(np.int8)

    def row_of(self, perturbation: str | None, context: str | None) -> int:
        """The row of a pair; without a name the one of median Pearson delta, which flatters nobody, or the first.

        Raises
        ------
        StateshiftError
            No such perturbation or context, or several contexts to choose from.
        """
        rows = self.rows
        if perturbation is None:
            rows = rows if context is None else rows[rows["context"] == context]
            if rows.empty:
                raise StateshiftError(
                    f"Nothing is predicted in `{context}`{suggestion(str(context), self.rows['context'])}."
                )
            known = rows["pearson_delta"].dropna().sort_values() if "pearson_delta" in rows else rows["n_predicted"][:0]
            return int(known.index[len(known) // 2]) if len(known) else int(rows.index[0])
        named = rows[rows["perturbation"] == perturbation]
        if named.empty:
            raise StateshiftError(
                f"`{perturbation}` is not among the perturbations here{suggestion(perturbation, rows['perturbation'])}."
            )
        if context is None and len(named) > 1:
            raise StateshiftError(
                f"`{perturbation}` is predicted in {', '.join(named['context'])}: name one with --context."
            )
        chosen = named if context is None else named[named["context"] == context]
        if chosen.empty:
            raise StateshiftError(
                f"`{perturbation}` is not predicted in `{context}`{suggestion(str(context), named['context'])}."
            )
        return int(chosen.index[0])
