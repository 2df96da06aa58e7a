"""Predictions scored against measured cells, beside their baselines, and told in one page."""

from stateshift.evaluation.compare import Comparison, compare, comparison_table
from stateshift.evaluation.evaluator import Evaluation, evaluate
from stateshift.evaluation.report import write_report
from stateshift.evaluation.tables import official_table, sentences, summary_table

__all__ = [
    "Comparison",
    "Evaluation",
    "compare",
    "comparison_table",
    "evaluate",
    "official_table",
    "sentences",
    "summary_table",
    "write_report",
]
