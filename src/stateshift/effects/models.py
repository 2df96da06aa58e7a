"""Effect models by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.from_features.bilinear import fit_bilinear
from stateshift.effects.from_features.forest import fit_forest
from stateshift.effects.from_features.knn import fit_knn
from stateshift.effects.from_features.ridge import fit_ridge
from stateshift.effects.simple import fit_additive, fit_context_mean, fit_control, fit_mean
from stateshift.effects.stack import fit_stack
from stateshift.effects.transfer import fit_transfer
from stateshift.errors import StateshiftError, suggestion
from stateshift.feature_table import FeatureTable


class EffectModel(Protocol):
    """What a fitted effect model can do."""

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G) float32, log1p scale, of R (perturbation, context) pairs."""
        ...

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """How each pair was reached: ``measured``, ``transfer``, ``features`` or ``fallback``."""
        ...


EFFECT_MODELS: dict[str, Callable[[EffectTable, FeatureTable | None, int], EffectModel]] = {
    "control": fit_control,
    "mean": fit_mean,
    "context_mean": fit_context_mean,
    "additive": fit_additive,
    "ridge": fit_ridge,
    "knn": fit_knn,
    "transfer": fit_transfer,
    "bilinear": fit_bilinear,
    "forest": fit_forest,
    "stack": fit_stack,
}
"""Name → how it is fitted on training effects, with features where it needs them, and a seed."""

BASELINES = ("control", "mean", "context_mean", "additive", "ridge", "knn", "transfer")
"""Those that are quick to fit, and stand beside every prediction."""

NEED_FEATURES = ("ridge", "knn", "bilinear", "forest")
"""Those that refuse a perturbation without a vector."""


def fit_effect_models(
    train: EffectTable,
    features: FeatureTable | None,
    names: Sequence[str] = BASELINES,
    seed: int = 0,
) -> dict[str, EffectModel]:
    """Fit effect models on training effects.

    Parameters
    ----------
    train
        Effects of the training rows only.
    features
        Vectors of the training perturbations' genes; those of `NEED_FEATURES` need them.
    names
        Names in `EFFECT_MODELS`.
    seed
        Draws the inner folds.

    Returns
    -------
    dict
        Name → model, in the order of `names`.

    Raises
    ------
    StateshiftError
        A name is unknown, the table has no row, or features are needed and missing.

    Examples
    --------
    >>> effects = np.array([[1.0, 0.0], [3.0, 0.0]], dtype="float32")
    >>> train = EffectTable(["g", "h"], ["A", "B"], ["c", "c"], effects, np.array([5, 5]), {})
    >>> models = fit_effect_models(train, None, names=["mean", "additive"])
    >>> models["mean"].predict(["Z"], ["c"]), models["additive"].predict(["A"], ["c"])
    (array([[2., 0.]], dtype=float32), array([[1., 0.]], dtype=float32))
    """
    unknown = [name for name in names if name not in EFFECT_MODELS]
    if unknown:
        raise StateshiftError(f"`{unknown[0]}` is no effect model{suggestion(unknown[0], EFFECT_MODELS)}.")
    return {name: EFFECT_MODELS[name](train, features, seed) for name in names}
