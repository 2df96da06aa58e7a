"""The backbone of a run whose network stands beside one: what its cells start from, and where the network moves them on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells import EffectTable
from stateshift.effects import fit_stack
from stateshift.effects.stack import Stack
from stateshift.feature_table import FeatureTable
from stateshift.run import RunDirectory
from stateshift.training.anchored import read_verdicts


@dataclass
class Backbone:
    """A run's backbone on the pairs of a prediction.

    Parameters
    ----------
    stack
        The fitted model.
    effects
        Its effects (R, genes of the prediction), as the cells can show them.
    kept
        Whether the network predicts each pair; else the backbone alone does.
    routes
        The backbone's.
    """

    stack: Stack
    effects: np.ndarray
    kept: list[bool]
    routes: list[str]


def find_backbone(
    run: RunDirectory, table: FeatureTable, pairs: Sequence[tuple[str, str]], lowest: np.ndarray | float
) -> Backbone:
    """Fit the backbone anew, as the run's training did: on its training effects, with its features and seed.

    Parameters
    ----------
    run, table
        The run, and the vectors of what is predicted.
    pairs
        (context, perturbation) of R pairs.
    lowest
        The least that an effect can be, (R, genes of the prediction).

    Raises
    ------
    StateshiftError
        The run's record of where its network is kept is missing or damaged.
    """
    verdicts = read_verdicts(run)
    stack = fit_stack(EffectTable.load(run.effects_file), table, run.config()["seed"])
    asked = [p for _, p in pairs], [c for c, _ in pairs]
    kept = [regime in verdicts and verdicts[regime].kept for regime in stack.regimes(*asked)]
    return Backbone(stack, np.maximum(stack.predict(*asked), lowest), kept, stack.routes(*asked))
