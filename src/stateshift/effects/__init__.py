"""Effect models on pseudobulk: the baselines that stand beside every prediction."""

from stateshift.effects.models import EFFECT_MODELS, EffectModel, fit_effect_models
from stateshift.effects.ridge import ridge_map, ridge_map_beyond

__all__ = ["EFFECT_MODELS", "EffectModel", "fit_effect_models", "ridge_map", "ridge_map_beyond"]
