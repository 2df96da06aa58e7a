"""Models beside each other: the runs of a sweep, or whatever an experiment is to be predicted with."""

from stateshift.evaluation.comparison.compare import compare, comparison_table
from stateshift.evaluation.comparison.experiment.experiment import ExperimentComparison
from stateshift.evaluation.comparison.sweep import SweepComparison

__all__ = ["ExperimentComparison", "SweepComparison", "compare", "comparison_table"]
