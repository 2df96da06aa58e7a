"""Which genes respond: the rank-sum test of all perturbations against controls that are sorted once."""

from stateshift.evaluation.significance.agreement import CELL_EVAL_NAMES, agreement, count_correlation
from stateshift.evaluation.significance.ordered import Controls, sorted_controls
from stateshift.evaluation.significance.rank_sum import (
    Significance,
    adjusted,
    against_controls,
    false_discovery_rates,
    rank_sum_test,
)

__all__ = [
    "CELL_EVAL_NAMES",
    "Controls",
    "Significance",
    "adjusted",
    "against_controls",
    "agreement",
    "count_correlation",
    "false_discovery_rates",
    "rank_sum_test",
    "sorted_controls",
]
