"""The backbone of a run whose network stands beside one: what its cells start from, and where the network moves them on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells import EffectTable
from stateshift.effects import HeldOut, fit_stack
from stateshift.effects.stack import Stack
from stateshift.feature_table import FeatureTable
from stateshift.prediction.effect_models import known_effects, known_routes
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
    kept_in
        Regimes in which the network predicts.
    """

    stack: Stack
    effects: np.ndarray
    kept: list[bool]
    routes: list[str]
    kept_in: set[str]

    def of_validation(self, held: HeldOut) -> np.ndarray:
        """Validation pairs' effects (N, G) as the run predicts them: the network's where it is kept, else the stack's."""
        names = held.perturbations, held.contexts
        left = np.flatnonzero([regime not in self.kept_in for regime in self.stack.regimes(*names)])
        effects = held.predicted.copy()
        effects[left] = self.stack.predict(*([of[i] for i in left] for of in names))
        return effects


def find_backbone(
    run: RunDirectory,
    table: FeatureTable,
    pairs: Sequence[tuple[str, str]],
    fallback: set[str],
    mean: np.ndarray,
    lowest: np.ndarray | float,
) -> Backbone:
    """Fit the backbone anew, as the run's training did: on its training effects, with its features and seed.

    So it isn't told of contexts that the prediction's cells bring: the verdicts are on the backbone that wasn't.

    Parameters
    ----------
    run, table
        The run, and the vectors of what is predicted.
    pairs
        (context, perturbation) of R pairs.
    fallback, mean
        Perturbations without a vector, and the mean training effects (R, genes of the prediction) that they get.
    lowest
        The least that an effect can be, (R, genes of the prediction).

    Raises
    ------
    StateshiftError
        The run's record of where its network is kept is missing or damaged.
    """
    verdicts = read_verdicts(run)
    stack = fit_stack(EffectTable.load(run.effects_file), table, run.config()["seed"])
    kept_in = {regime for regime, verdict in verdicts.items() if verdict.kept}
    contexts, perturbations = [c for c, _ in pairs], [p for _, p in pairs]
    kept = [regime in kept_in for regime in stack.regimes(perturbations, contexts)]
    routes = known_routes(stack, pairs, fallback)
    return Backbone(stack, np.maximum(known_effects(stack, pairs, fallback, mean), lowest), kept, routes, kept_in)
