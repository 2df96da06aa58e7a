"""Two-way main effects: what a context and what a target contribute to a shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.errors import StateshiftError


@dataclass
class MainEffects:
    """An overall effect, a deviation a context and a deviation a target, log1p scale.

    Parameters
    ----------
    overall
        Array (G,): the fitted effect averaged over the training targets, each counted once,
        and over the training contexts, each counted once.
    contexts
        Context → deviation (G,); they sum to zero.
    targets
        Perturbation → deviation (G,); they sum to zero.
    """

    overall: np.ndarray
    contexts: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]

    def of_contexts(self, contexts: Sequence[str]) -> np.ndarray:
        """Overall effect plus the contexts' deviations, (R, G); an unseen context adds nothing."""
        zero = np.zeros_like(self.overall)
        return np.stack([self.overall + self.contexts.get(c, zero) for c in contexts])

    def of_targets(self, perturbations: Sequence[str]) -> np.ndarray:
        """The targets' deviations, (R, G); zero for an unseen target."""
        zero = np.zeros_like(self.overall)
        return np.stack([self.targets.get(p, zero) for p in perturbations])


def fit_main_effects(train: EffectTable) -> MainEffects:
    """Least squares of effect = overall + context + target over the training rows.

    Rows are not weighted by their number of cells: with real interactions between target and context,
    the error of a row is mostly not its sampling noise, and large screens would drown small ones.
    Targets are eliminated from the normal equations, which leaves one equation a context; their
    pseudo-inverse gives contexts that share no target, however indirectly, no deviation from each other.

    Raises
    ------
    StateshiftError
        The table has no row.
    """
    if not len(train):
        raise StateshiftError("There are no training effects to fit on: the split leaves no perturbed cells.")
    contexts, targets = sorted(set(train.contexts)), sorted(set(train.perturbations))
    c = np.array([contexts.index(name) for name in train.contexts])
    place = {name: i for i, name in enumerate(targets)}
    t = np.array([place[name] for name in train.perturbations])
    effects = train.effects.astype(np.float64)

    present = np.zeros((len(targets), len(contexts)))
    np.add.at(present, (t, c), 1.0)
    rows_of_target = present.sum(axis=1)
    target_mean = np.zeros((len(targets), effects.shape[1]))
    np.add.at(target_mean, t, effects)
    target_mean /= rows_of_target[:, None]

    left = np.diag(present.sum(axis=0)) - present.T @ (present / rows_of_target[:, None])
    right = np.zeros((len(contexts), effects.shape[1]))
    np.add.at(right, c, effects - target_mean[t])
    by_context = np.linalg.pinv(left, hermitian=True) @ right
    by_context -= by_context.mean(axis=0)
    by_target = target_mean - (present / rows_of_target[:, None]) @ by_context
    overall = by_target.mean(axis=0)
    by_target -= overall
    return MainEffects(overall, dict(zip(contexts, by_context)), dict(zip(targets, by_target)))
