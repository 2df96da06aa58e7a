"""The report: one self-contained HTML page of runs and evaluations."""

from stateshift.evaluation.report.writer import write_report

__all__ = ["write_report"]
