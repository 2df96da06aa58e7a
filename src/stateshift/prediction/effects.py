"""Predicted effects alone: what a population's mean expression becomes, without keeping a cell."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stateshift.prediction.prepared import Asked, effects_beside, prepare, refuse_contradictions


@dataclass(frozen=True)
class PredictedEffects:
    """Effects of R pairs.

    Parameters
    ----------
    pairs
        (context, perturbation).
    genes
        The G genes.
    values
        (R, G) float32: the mean of the predicted cells less that of the control cells that they start from.
    routes, regimes
        Of each pair.
    scale
        ``log1p_1e4`` or ``log1p``.
    beside
        Effect model → its effects (R, G), of those that were asked for.
    """

    pairs: list[tuple[str, str]]
    genes: list[str]
    values: np.ndarray
    routes: list[str]
    regimes: list[str]
    scale: str
    beside: dict[str, np.ndarray] = field(default_factory=dict)


def predict_effects(
    run: str | Path | Sequence[str | Path], asked: Asked, beside: Sequence[str] = ()
) -> PredictedEffects:
    """The effects that `predict` would write as cells: an effect model's own, or the mean of what a network makes.

    Parameters
    ----------
    run
        A run directory, or several that are an ensemble.
    asked
        As `predict`'s parameters. With ``n_cells`` the effects come from so many control cells a context.
    beside
        Names in `stateshift.effects.EFFECT_MODELS`: what they say of the same pairs, fitted on the run's effects.

    Raises
    ------
    StateshiftError
        As `predict`.
    """
    from stateshift.transition.arc.run import opened_run

    refuse_contradictions(asked)
    runs = [run] if isinstance(run, str | Path) else list(run)
    with contextlib.ExitStack() as opened:
        members = [opened.enter_context(opened_run(one)) for one in runs]
        ready = prepare(members, asked)
        output = ready.output
        others = effects_beside(ready, members[0].config()["seed"], beside) if beside else {}
        if asked.model != "transition":
            values = ready.effects[asked.model].astype(np.float32)
        else:
            means = {r.context: output.X.mean(r.controls).astype(np.float32) for r in ready.requests}
            values = np.empty((len(ready.requests), len(output.genes)), np.float32)
            for i, (request, made) in enumerate(zip(ready.requests, ready.predicted)):
                values[i] = made.genes.mean(axis=0) - means[request.context]
    regimes = ready.support.regimes
    return PredictedEffects(ready.pairs, output.genes, values, ready.routes, regimes, output.scale, others)
