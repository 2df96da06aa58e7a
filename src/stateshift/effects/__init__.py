"""Effect models on pseudobulk: the baselines that stand beside every prediction."""

from stateshift.effects.from_features.ridge import ridge_map, ridge_map_beyond
from stateshift.effects.models import (
    BASELINES,
    EFFECT_MODELS,
    NEED_FEATURES,
    EffectModel,
    effect_model,
    effect_model_names,
    fit_effect_models,
)
from stateshift.effects.stack import HeldOut, Stack, fit_stack

__all__ = [
    "BASELINES",
    "EFFECT_MODELS",
    "NEED_FEATURES",
    "EffectModel",
    "HeldOut",
    "Stack",
    "effect_model",
    "effect_model_names",
    "fit_effect_models",
    "fit_stack",
    "ridge_map",
    "ridge_map_beyond",
]
