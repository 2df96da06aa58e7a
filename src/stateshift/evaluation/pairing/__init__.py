"""A prediction and the truth on one gene axis, and the pairs of both that can be scored."""

from stateshift.evaluation.pairing.inputs import Prediction, outline, read_prediction, read_truth
from stateshift.evaluation.pairing.names import match_doubles, named_as, refuse_spellings
from stateshift.evaluation.pairing.pairs import ORACLE, Controls, Pairing, own_targets, pair_up

__all__ = [
    "ORACLE",
    "Controls",
    "Pairing",
    "Prediction",
    "match_doubles",
    "named_as",
    "outline",
    "own_targets",
    "pair_up",
    "read_prediction",
    "read_truth",
    "refuse_spellings",
]
