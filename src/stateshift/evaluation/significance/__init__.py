"""Which genes respond: the rank-sum test of all perturbations against controls that are sorted once."""

from stateshift.evaluation.significance.agreement import CELL_EVAL_NAMES, agreement, count_correlation
from stateshift.evaluation.significance.ordered import (
    Controls,
    Ordered,
    controls_of,
    ordered,
    sorted_controls,
    unsigned,
)
from stateshift.evaluation.significance.rank_sum import (
    Significance,
    adjusted,
    against_controls,
    compared,
    false_discovery_rates,
    rank_sum_test,
)

__all__ = [
    "CELL_EVAL_NAMES",
    "Controls",
    "Ordered",
    "Significance",
    "adjusted",
    "against_controls",
    "agreement",
    "compared",
    "controls_of",
    "count_correlation",
    "false_discovery_rates",
    "ordered",
    "rank_sum_test",
    "sorted_controls",
    "unsigned",
]
