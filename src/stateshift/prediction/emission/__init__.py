"""Predicted effects as cells with whole counts, on the control cells that they start from."""

from stateshift.prediction.emission.emitter import Emitter
from stateshift.prediction.emission.significance import SignificanceMatch, match_significance, match_training

__all__ = ["Emitter", "SignificanceMatch", "match_significance", "match_training"]
