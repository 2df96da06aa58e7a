"""The perturbed gene's own column: knocked down or activated, whatever the features say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.feature_table import genes_of

LEAST_EXPRESSED = 0.05
"""Control mean under which a share of it can't be measured."""
WELL_EXPRESSED = 0.25
"""Mean of a gene's control means from which on its own share is told apart from noise."""


@dataclass
class OwnTarget:
    """What perturbing a gene does to that gene.

    Parameters
    ----------
    column
        Gene → its column.
    control_means
        Context → mean of its control cells (G,), and their mean under the empty name; empty where unknown.
    share
        Whether the numbers are shares of the control mean that are left (a knock-down), or effects (an activation).
    of_gene
        Median effect over the training rows of that gene; or the share left of the sum of its control means, of a gene
        expressed well enough (`WELL_EXPRESSED`): one row of a gene next to silent is mostly noise, which a context that
        expresses it would multiply.
    of_context, overall
        Medians over the training rows of that context, of all; None where no row shows its own target.
    """

    column: dict[str, int]
    control_means: dict[str, np.ndarray]
    share: bool
    of_gene: dict[str, float]
    of_context: dict[str, float]
    overall: float | None

    def put(self, effects: np.ndarray, perturbations: Sequence[str], contexts: Sequence[str]) -> None:
        """Overwrite each row's own columns of effects (Q, G), in place."""
        if self.overall is None:
            return
        for i, (perturbation, context) in enumerate(zip(perturbations, contexts, strict=True)):
            for gene in genes_of(perturbation):
                if gene in self.column:
                    effects[i, self.column[gene]] = self._effect(gene, context)

    def _effect(self, gene: str, context: str) -> float:
        number = self.of_gene.get(gene, self.of_context.get(context, self.overall))
        if not self.share:
            return number
        mean = self.control_means.get(context, self.control_means[""])[self.column[gene]]
        return (number - 1) * float(mean)


def fit_own_target(train: EffectTable) -> OwnTarget:
    """What the training rows tell of their own targets, by the share that is left or the effect: what fits them better."""
    column = {gene: j for j, gene in enumerate(train.genes)}
    means = dict(train.control_means)
    if means:
        means[""] = np.mean(list(means.values()), axis=0)
    rows, columns = own_entries(train)
    effects = train.effects[rows, columns].astype(np.float64)
    contexts = np.array([train.contexts[i] for i in rows], dtype=str)
    genes = np.array([train.genes[j] for j in columns], dtype=str)
    controls = np.array(
        [means[train.contexts[i]][j] if train.contexts[i] in means else 0.0 for i, j in zip(rows, columns)]
    )
    measured = ~np.isnan(effects)
    expressed = measured & (controls >= LEAST_EXPRESSED)
    share = False
    if expressed.any():
        e, m = effects[expressed], controls[expressed]
        left = 1 + e / m
        share = bool(np.abs((np.median(left) - 1) * m - e).sum() <= np.abs(np.median(e) - e).sum())
    if share:
        kept, values = expressed, 1 + np.divide(effects, controls, out=np.zeros_like(effects), where=expressed)
    else:
        kept, values = measured, effects
    values, contexts, genes = values[kept], contexts[kept], genes[kept]
    of_gene = {}
    for gene in np.unique(genes):
        here = genes == gene
        if not share:
            of_gene[str(gene)] = float(np.median(values[here]))
        elif controls[kept][here].mean() >= WELL_EXPRESSED:
            of_gene[str(gene)] = 1 + float(effects[kept][here].sum() / controls[kept][here].sum())
    return OwnTarget(
        column,
        means,
        share,
        of_gene,
        {str(c): float(np.median(values[contexts == c])) for c in np.unique(contexts)},
        float(np.median(values)) if len(values) else None,
    )


def set_apart(train: EffectTable) -> EffectTable:
    """The table with each row's own columns at what the gene does in the context's other rows.

    So no model fits them. Where every row perturbs the gene it is taken as unmoved. What was not measured stays so.
    """
    rows, columns = own_entries(train)
    if not len(rows):
        return train
    used, place = np.unique(columns, return_inverse=True)
    others = train.measured[:, used]
    others[rows, place] = False
    values = np.where(others, train.effects[:, used], 0)
    context = np.unique(np.array(train.contexts, dtype=str), return_inverse=True)[1]
    members = [context == c for c in range(context.max() + 1)]
    total = np.stack([values[of].sum(axis=0, dtype=np.float64) for of in members])
    n = np.stack([others[of].sum(axis=0) for of in members])
    alone = n[context[rows], place] == 0
    sums, counts = (np.where(alone, of.sum(axis=0)[place], of[context[rows], place]) for of in (total, n))
    effects = train.effects.copy()
    mean = np.divide(sums, counts, out=np.zeros(len(rows)), where=counts > 0)
    effects[rows, columns] = np.where(np.isnan(effects[rows, columns]), np.nan, mean)
    return dataclasses.replace(train, effects=effects)


def own_entries(train: EffectTable) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the entries in which a perturbation meets its own gene; a double has two.

    Examples
    --------
    >>> table = EffectTable(["A", "g"], ["A", "B", "A+B"], ["c"] * 3, np.zeros((3, 2), dtype="float32"), None, {})
    >>> own_entries(table)
    (array([0, 2]), array([0, 0]))
    """
    column = {gene: j for j, gene in enumerate(train.genes)}
    found = [(i, column[g]) for i, p in enumerate(train.perturbations) for g in genes_of(p) if g in column]
    return np.array([i for i, _ in found], dtype=int), np.array([j for _, j in found], dtype=int)
