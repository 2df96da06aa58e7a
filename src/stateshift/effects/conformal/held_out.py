"""Training rows as predicted by an effect model that had not seen them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.models import EFFECT_MODELS, EffectModel
from stateshift.effects.stack import HeldOut
from stateshift.effects.stack.folds import regime_folds
from stateshift.feature_table import FeatureTable
from stateshift.progress import track

CHOSEN = ("alpha", "k")
"""What a model chose by its own inner folds and keeps in ours: choosing anew in each costs the most, and moves little."""


def hold_out(
    name: str, model: EffectModel, train: EffectTable, features: FeatureTable | None, regime: str, seed: int = 0
) -> HeldOut | None:
    """Predict training rows by models fitted on the others, in the manner of a regime.

    Parameters
    ----------
    name
        In `stateshift.effects.EFFECT_MODELS`.
    model
        That model, fitted on all rows; a stack brings its own held-out rows.
    train, features, seed
        What it was fitted on.
    regime
        ``C``, ``T`` or ``J`` (`stateshift.cells.REGIMES`).

    Returns
    -------
    HeldOut or None
        None where the training rows can't imitate the regime, as ``C`` with one context.
    """
    if hasattr(model, "held_out"):
        return model.held_out.get(regime)
    folds = regime_folds(train, seed).get(regime)
    if not folds:
        return None
    settled: dict[str, Any] = {key: getattr(model, key) for key in CHOSEN if hasattr(model, key)}
    fit = partial(EFFECT_MODELS[name], **settled)
    rows = np.concatenate([held for _, held in folds])
    predicted = np.full((len(rows), len(train.genes)), np.nan, dtype=np.float32)
    start = 0
    for kept, held in track(folds, f"{name} on rows held out ({regime})"):
        mask = np.zeros(len(train), dtype=bool)
        mask[kept] = True
        part = train.rows(mask)
        measured = np.flatnonzero(part.measured.any(axis=0))
        fitted = fit(part.columns(part.measured.any(axis=0)), features, seed)
        made = fitted.predict([train.perturbations[i] for i in held], [train.contexts[i] for i in held])
        predicted[start : start + len(held), measured] = made
        start += len(held)
    names = [train.perturbations[i] for i in rows], [train.contexts[i] for i in rows]
    return HeldOut(*names, train.effects[rows], predicted)
