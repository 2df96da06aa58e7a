"""Two-way main effects: what a context and what a target contribute to a shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from stateshift.cells.pseudobulk import EffectTable
from stateshift.errors import StateshiftError, some


@dataclass
class MainEffects:
    """An overall effect, a deviation a context and a deviation a target, log1p scale.

    Parameters
    ----------
    overall
        Array (G,): the fitted effect averaged over the training targets, each counted once,
        and over the training contexts, each counted once.
    contexts
        Context → deviation (G,); they sum to zero. NaN for genes that none of its rows measures.
    targets
        Perturbation → deviation (G,); they sum to zero. NaN as above.
    """

    overall: np.ndarray
    contexts: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]

    def of_contexts(self, contexts: Sequence[str]) -> np.ndarray:
        """Overall effect plus the contexts' deviations, (R, G).

        A context never seen adds nothing, nor does one on a gene that it was not measured on.
        """
        return self.overall + self._deviations(self.contexts, contexts)

    def of_targets(self, perturbations: Sequence[str]) -> np.ndarray:
        """The targets' deviations, (R, G); zero for an unseen target, or a gene that it was not measured on."""
        return self._deviations(self.targets, perturbations)

    def _deviations(self, of: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
        zero = np.zeros_like(self.overall)
        return np.stack([np.nan_to_num(of.get(name, zero), nan=0.0) for name in names])


def fit_main_effects(train: EffectTable) -> MainEffects:
    """Least squares of effect = overall + context + target over the training rows.

    Rows are not weighted by their number of cells: with real interactions between target and context,
    the error of a row is mostly not its sampling noise, and large screens would drown small ones.
    Targets are eliminated from the normal equations, which leaves one equation a context; their
    pseudo-inverse gives contexts that share no target, however indirectly, no deviation from each other.

    A gene is fitted on the rows that measure it.

    Raises
    ------
    StateshiftError
        The table has no row, or genes that no row measures.
    """
    refuse_nothing_to_fit(train)
    contexts, c = np.unique(np.array(train.contexts, dtype=str), return_inverse=True)
    targets, t = np.unique(np.array(train.perturbations, dtype=str), return_inverse=True)
    effects, G = train.effects.astype(np.float64), len(train.genes)
    overall = np.empty(G)
    by_context, by_target = np.full((len(contexts), G), np.nan), np.full((len(targets), G), np.nan)
    for rows, genes in genes_by_rows(train.measured):
        seen_c, inner_c = np.unique(c[rows], return_inverse=True)
        seen_t, inner_t = np.unique(t[rows], return_inverse=True)
        overall[genes], of_context, of_target = _least_squares(effects[np.ix_(rows, genes)], inner_c, inner_t)
        by_context[np.ix_(seen_c, genes)], by_target[np.ix_(seen_t, genes)] = of_context, of_target
    return MainEffects(overall, dict(zip(contexts.tolist(), by_context)), dict(zip(targets.tolist(), by_target)))


def refuse_nothing_to_fit(train: EffectTable) -> None:
    """A StateshiftError where there is no training row, or a gene that none of them measures."""
    if not len(train):
        raise StateshiftError("There are no training effects to fit on: the split leaves no perturbed cells.")
    never = [g for g, seen in zip(train.genes, train.measured.any(axis=0)) if not seen]
    if never:
        raise StateshiftError(
            f"{len(never):,} genes are measured in no training row: {some(never)}. Leave them out: "
            "table.columns(table.measured.any(axis=0))."
        )


def genes_by_rows(measured: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and the genes (indices both) that exactly these rows measure, of a mask (R, G)."""
    if measured.all():
        return [(np.arange(measured.shape[0]), np.arange(measured.shape[1]))]
    _, first, pattern = np.unique(np.packbits(measured, axis=0), axis=1, return_index=True, return_inverse=True)
    order = np.argsort(pattern, kind="stable")
    genes = np.split(order, np.cumsum(np.bincount(pattern))[:-1])
    return [(np.flatnonzero(measured[:, f]), g) for f, g in zip(first, genes)]


def _least_squares(effects: np.ndarray, c: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overall (G,), contexts' (C, G) and targets' (T, G) parts of effects (R, G), each code in use."""
    ones, rows = np.ones(len(effects)), np.arange(len(effects))
    of_target, of_context = csr_matrix((ones, (t, rows))), csr_matrix((ones, (c, rows)))
    present = (of_target @ of_context.T).toarray()
    rows_of_target = present.sum(axis=1)
    target_mean = (of_target @ effects) / rows_of_target[:, None]

    left = np.diag(present.sum(axis=0)) - present.T @ (present / rows_of_target[:, None])
    right = of_context @ effects - present.T @ target_mean
    by_context = np.linalg.pinv(left, hermitian=True) @ right
    by_context -= by_context.mean(axis=0)
    by_target = target_mean - (present / rows_of_target[:, None]) @ by_context
    overall = by_target.mean(axis=0)
    return overall, by_context, by_target - overall
