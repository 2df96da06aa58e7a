"""Effect models on tables: published calls or values, partly measured, in one or several contexts."""

from stateshift.effects.calls.model import TableModel, fit_effects, load_effects, predict_effects
from stateshift.effects.calls.read import Calls, read_calls
from stateshift.effects.calls.score import score_effects
from stateshift.effects.calls.stack import MEMBERS

__all__ = [
    "MEMBERS",
    "Calls",
    "TableModel",
    "fit_effects",
    "load_effects",
    "predict_effects",
    "read_calls",
    "score_effects",
]
