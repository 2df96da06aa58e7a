"""Effect models of a run on the pairs that are asked for, as its cells can show what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stateshift.cells import Cells, EffectTable
from stateshift.effects import EffectModel

BLIND = ("control", "mean", "context_mean")
"""Effect models that look at no perturbation, and so predict those without a vector like any other."""


def known_effects(
    model: EffectModel, pairs: Sequence[tuple[str, str]], fallback: set[str], mean: np.ndarray
) -> np.ndarray:
    """A model's effects (R, G) of (context, perturbation) pairs; of perturbations in `fallback` those of `mean` (R, G)."""
    effects, known = mean.copy(), [i for i, (_, p) in enumerate(pairs) if p not in fallback]
    if known:
        effects[known] = model.predict([pairs[i][1] for i in known], [pairs[i][0] for i in known])
    return effects


def known_routes(model: EffectModel, pairs: Sequence[tuple[str, str]], fallback: set[str]) -> list[str]:
    """A model's route of each (context, perturbation); ``fallback`` for perturbations that are."""
    known = [(c, p) for c, p in pairs if p not in fallback]
    routes = iter(model.routes([p for _, p in known], [c for c, _ in known]))
    return ["fallback" if p in fallback else next(routes) for _, p in pairs]


def baseline_effects(
    models: dict[str, EffectModel], pairs: list[tuple[str, str]], fallback: set[str], cells: Cells
) -> dict[str, np.ndarray]:
    """Every effect model's effects (R, G) for the pairs, as a population can show them: never below no expression.

    Where a gene has no vector, models that look at the perturbation give the mean effect.
    """
    mean = models["mean"].predict([p for _, p in pairs], [c for c, _ in pairs])
    least = lowest_effects(pairs, cells)
    of_none: set[str] = set()
    return {
        name: np.maximum(known_effects(model, pairs, of_none if name in BLIND else fallback, mean), least)
        for name, model in models.items()
    }


def told_of_contexts(train: EffectTable, cells: Cells, pairs: list[tuple[str, str]]) -> EffectTable:
    """The training effects with the control means of the contexts that only the cells bring.

    So effect models know, as of a context of the training files that no row is of, which contexts it is like, and
    that whole contexts are what they have to hold out.
    """
    new = dict.fromkeys(c for c, _ in pairs if c not in train.control_means)
    return replace(train, control_means=train.control_means | {c: _control_mean(cells, c) for c in new})


def lowest_effects(pairs: list[tuple[str, str]], cells: Cells) -> np.ndarray | float:
    """The least that the effects (R, G) of pairs can be: no expression is left; no bound of an embedding."""
    if cells.scale == "embedding":
        return -np.inf
    means = {c: _control_mean(cells, c) for c in dict.fromkeys(c for c, _ in pairs)}
    return -np.stack([means[c] for c, _ in pairs])


def _control_mean(cells: Cells, context: str) -> np.ndarray:
    """Mean of a context's control cells, (G,)."""
    rows = np.flatnonzero(cells.is_control & (cells.obs["context"] == context).to_numpy())
    return cells.X.mean(rows).astype(np.float32)
