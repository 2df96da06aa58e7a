"""Predictions scored against measured cells, beside their baselines, and told in one page."""

from stateshift.evaluation.ablation import Ablation, ablate_features, ablation_table
from stateshift.evaluation.ceilings import ceiling_sentences, ceilings_table, tiers_table
from stateshift.evaluation.comparison import ExperimentComparison, SweepComparison, compare, comparison_table
from stateshift.evaluation.coverage import coverage_table, interval_coverage, interval_sentences
from stateshift.evaluation.evaluator import evaluate
from stateshift.evaluation.flags import flag_sentences
from stateshift.evaluation.report import write_figure, write_report
from stateshift.evaluation.result import Evaluation
from stateshift.evaluation.tables import columns_sentence, official_table, responses_table, sentences, summary_table

__all__ = [
    "Ablation",
    "Evaluation",
    "ExperimentComparison",
    "SweepComparison",
    "ablate_features",
    "ablation_table",
    "ceiling_sentences",
    "ceilings_table",
    "columns_sentence",
    "compare",
    "comparison_table",
    "coverage_table",
    "evaluate",
    "flag_sentences",
    "interval_coverage",
    "interval_sentences",
    "official_table",
    "responses_table",
    "sentences",
    "summary_table",
    "tiers_table",
    "write_figure",
    "write_report",
]
