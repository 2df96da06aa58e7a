"""Predicted effects alone: what a population's mean expression becomes, without keeping a cell."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stateshift.prediction.prepared import Asked, prepare, refuse_contradictions


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
    """

    pairs: list[tuple[str, str]]
    genes: list[str]
    values: np.ndarray
    routes: list[str]
    regimes: list[str]
    scale: str


def predict_effects(run: str | Path | Sequence[str | Path], asked: Asked) -> PredictedEffects:
    """The effects that `predict` would write as cells: an effect model's own, or the mean of what a network makes.

    Parameters
    ----------
    run
        A run directory, or several that are an ensemble.
    asked
        As `predict`'s parameters. With ``n_cells`` the effects come from so many control cells a context.

    Raises
    ------
    StateshiftError
        As `predict`.
    """
    from stateshift.transition.arc.run import opened_run

    refuse_contradictions(asked)
    runs = [run] if isinstance(run, str | Path) else list(run)
    with contextlib.ExitStack() as opened:
        ready = prepare([opened.enter_context(opened_run(one)) for one in runs], asked)
        output = ready.output
        if asked.model != "transition":
            values = ready.effects[asked.model].astype(np.float32)
            return PredictedEffects(
                ready.pairs, output.genes, values, ready.routes, ready.support.regimes, output.scale
            )
        means = {r.context: output.X.mean(r.controls).astype(np.float32) for r in ready.requests}
        values = np.empty((len(ready.requests), len(output.genes)), np.float32)
        for i, (request, made) in enumerate(zip(ready.requests, ready.predicted)):
            values[i] = made.genes.mean(axis=0) - means[request.context]
    return PredictedEffects(ready.pairs, output.genes, values, ready.routes, ready.support.regimes, output.scale)
