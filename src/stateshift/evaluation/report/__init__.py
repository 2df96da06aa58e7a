"""The report: one self-contained HTML page of runs and evaluations, and its figures a file each."""

from stateshift.evaluation.report.figures import FIGURES, write_figure
from stateshift.evaluation.report.writer import write_report

__all__ = ["FIGURES", "write_figure", "write_report"]
