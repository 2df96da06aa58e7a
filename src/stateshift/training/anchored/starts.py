"""The backbone's effects that the cells of a training start from."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.cells import EffectTable
from stateshift.effects.stack import HeldOut, fit_stack
from stateshift.errors import StateshiftError, some

if TYPE_CHECKING:
    from stateshift.training.data import TrainingData

logger = logging.getLogger(__name__)


@dataclass
class Starts:
    """Effects to start from, on the genes that the network gives.

    Parameters
    ----------
    training
        Of training pairs, by models that had not seen them: so the network learns what the backbone gets wrong on pairs
        that are new to it.
    validation
        Of validation pairs, by the backbone fitted on all training rows, as in a prediction.
    regimes
        Of each validation pair.
    """

    training: EffectTable
    validation: EffectTable
    regimes: list[str]

    def regimes_of(self, pairs: EffectTable) -> list[str]:
        """The regimes of validation pairs in another order."""
        known = dict(zip(zip(self.validation.perturbations, self.validation.contexts), self.regimes))
        return [known[pair] for pair in zip(pairs.perturbations, pairs.contexts)]

    def effects_of(self, pairs: EffectTable) -> np.ndarray:
        """The backbone's effects (R, G) on validation pairs in another order, as cells can show them."""
        row = {pair: r for r, pair in enumerate(zip(self.validation.perturbations, self.validation.contexts))}
        effects = self.validation.effects[[row[pair] for pair in zip(pairs.perturbations, pairs.contexts)]]
        if pairs.scale == "embedding":
            return effects
        return np.maximum(effects, -np.stack([pairs.control_means[c] for c in pairs.contexts]))


def fit_starts(data: TrainingData, genes: Sequence[str], seed: int) -> Starts:
    """Fit the backbone on training effects, and predict the training and the validation pairs.

    The training pairs are predicted as held out in the regime that most validation pairs are of, since those decide
    where the network is kept. Where that regime can't imitate a pair, another regime's prediction is taken; pairs that none
    imitates are not trained on.

    Parameters
    ----------
    data
        The training; its predicted effects are what the backbone is fitted on.
    genes
        Those that the network gives, among the effects'.
    seed
        Draws the backbone's inner folds.

    Raises
    ------
    StateshiftError
        No training pair can be held out.
    """
    train = data.predicted
    stack = fit_stack(train, data.features, seed)
    columns = pd.Index(train.genes).get_indexer(genes)
    of = data.cells.obs[(data.split == "val") & ~data.cells.is_control]
    validation = _columns(sorted(set(zip(of["perturbation"], of["context"]))))
    regimes = stack.regimes(*validation)
    held_out = _held_out(stack.held_out, [regime for regime, _ in Counter(regimes).most_common()], train)
    return Starts(
        _table(genes, *held_out, columns), _table(genes, *validation, stack.predict(*validation), columns), regimes
    )


def _held_out(
    held_out: dict[str, HeldOut], order: list[str], train: EffectTable
) -> tuple[list[str], list[str], np.ndarray]:
    """Perturbations, contexts and predictions (N, G) of the training pairs, each by the first regime that has it."""
    order = list(dict.fromkeys([*order, "T", "J", "C"]))
    found: dict[tuple[str, str], np.ndarray] = {}
    for regime in filter(held_out.get, order):
        of = held_out[regime]
        taken = {pair: row for pair, row in zip(zip(of.perturbations, of.contexts), of.predicted) if pair not in found}
        if taken:
            logger.info("%d training pairs start from the backbone as held out in regime %s", len(taken), regime)
        found |= taken
    if not found:
        raise StateshiftError(
            "model.start=backbone learns from training pairs that the backbone had not seen, and none can be held out of "
            f"{len(train)}: train on more perturbations, or with model.start=effect."
        )
    left = [f"{p} / {c}" for p, c in zip(train.perturbations, train.contexts) if (p, c) not in found]
    if left:
        logger.warning("can't be held out of the backbone, and are not trained on: %s", some(left))
    # of a gene that no row of a fold measures nothing is foretold, and the network starts from no effect
    return *_columns(list(found)), np.nan_to_num(np.stack(list(found.values())))


def _columns(pairs: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [p for p, _ in pairs], [c for _, c in pairs]


def _table(
    genes: Sequence[str], perturbations: list[str], contexts: list[str], effects: np.ndarray, columns: np.ndarray
) -> EffectTable:
    whole = len(columns) == effects.shape[1] and (columns == np.arange(len(columns))).all()
    effects = np.ascontiguousarray(effects if whole else effects[:, columns], dtype=np.float32)
    return EffectTable(list(genes), perturbations, contexts, effects, None, {})
