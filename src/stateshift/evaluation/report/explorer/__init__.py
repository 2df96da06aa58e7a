"""The report's interactive part: a table of pairs, plots of a chosen one, maps; data and script lie in the page."""

from stateshift.evaluation.report.explorer.section import explorer_section

__all__ = ["explorer_section"]
