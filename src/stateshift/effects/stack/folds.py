"""Training rows held out in the manner of each regime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.cells.regimes import regimes_of
from stateshift.effects.from_features.feature_space import INNER_FOLDS, gene_folds

Fold = tuple[np.ndarray, np.ndarray]


def regime_folds(train: EffectTable, seed: int = 0, new_context: bool = False) -> dict[str, list[Fold]]:
    """Regime → folds: rows to fit on, and rows that are of this regime to a model fitted on those.

    ``T`` holds genes out in every context, ``J`` genes in contexts that are out wholly. ``C`` holds contexts out
    wholly where a new context is asked for, or the table's control means name one without a row, which is then what
    is to be predicted; else the pairs that are held out leave their target and their context in other rows. A regime
    that the rows can't imitate is absent: one context gives neither C nor J, one gene neither T nor J. No row is held
    out twice in a regime.
    """
    by_gene = gene_folds(train.perturbations, seed)
    by_context = _context_folds(train.contexts, seed)
    new_context = new_context or not set(train.contexts).issuperset(train.control_means)
    folds = {
        "C": by_context if new_context else _pair_folds(train, seed),
        "T": by_gene,
        "J": [
            (np.intersect1d(fit_genes, fit_contexts), np.intersect1d(held_genes, held_contexts))
            for fit_genes, held_genes in by_gene
            for fit_contexts, held_contexts in by_context
        ],
    }
    kept = {regime: [(fit, _of_regime(train, fit, held, regime)) for fit, held in of] for regime, of in folds.items()}
    kept = {regime: _once([(fit, held) for fit, held in of if len(fit)]) for regime, of in kept.items()}
    return {regime: of for regime, of in kept.items() if of}


def _once(folds: list[Fold]) -> list[Fold]:
    """Folds without rows that an earlier one holds: both genes' folds hold a double."""
    taken, kept = np.array([], dtype=int), []
    for fit, held in folds:
        held = np.setdiff1d(held, taken)
        taken = np.concatenate([taken, held])
        if len(held):
            kept.append((fit, held))
    return kept


def _of_regime(train: EffectTable, fit: np.ndarray, held: np.ndarray, regime: str) -> np.ndarray:
    fitted = [(train.perturbations[i], train.contexts[i]) for i in fit]
    found = regimes_of([train.perturbations[i] for i in held], [train.contexts[i] for i in held], fitted)
    return held[[r == regime for r in found]] if len(held) else held


def _context_folds(contexts: Sequence[str], seed: int) -> list[Fold]:
    names, code = np.unique(np.array(contexts, dtype=str), return_inverse=True)
    if len(names) < 2:
        return []
    parts = np.array_split(np.random.default_rng(seed).permutation(len(names)), min(INNER_FOLDS, len(names)))
    return [(np.flatnonzero(~np.isin(code, part)), np.flatnonzero(np.isin(code, part))) for part in parts]


def _pair_folds(train: EffectTable, seed: int) -> list[Fold]:
    """A target's rows in different contexts go to different folds, as far as there are folds."""
    contexts, c = np.unique(np.array(train.contexts, dtype=str), return_inverse=True)
    if len(contexts) < 2:
        return []
    targets, t = np.unique(np.array(train.perturbations, dtype=str), return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(targets))[t] + c) % INNER_FOLDS
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(INNER_FOLDS)]
