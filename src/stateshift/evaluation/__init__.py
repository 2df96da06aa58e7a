"""Predictions scored against measured cells, beside their baselines, and told in one page."""

from stateshift.evaluation.ablation import Ablation, ablate_features, ablation_table
from stateshift.evaluation.comparison import ExperimentComparison, SweepComparison, compare, comparison_table
from stateshift.evaluation.coverage import coverage_table, interval_coverage, interval_sentences
from stateshift.evaluation.evaluator import Evaluation, evaluate
from stateshift.evaluation.report import write_report
from stateshift.evaluation.tables import official_table, responses_table, sentences, summary_table

__all__ = [
    "Ablation",
    "Evaluation",
    "ExperimentComparison",
    "SweepComparison",
    "ablate_features",
    "ablation_table",
    "compare",
    "comparison_table",
    "coverage_table",
    "evaluate",
    "interval_coverage",
    "interval_sentences",
    "official_table",
    "responses_table",
    "sentences",
    "summary_table",
    "write_report",
]
