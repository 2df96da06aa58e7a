"""Figures of evaluations, runs and predictions: inline in the report, or a file each for a paper."""

from stateshift.evaluation.report.figures.named import FIGURES, write_figure

__all__ = ["FIGURES", "write_figure"]
