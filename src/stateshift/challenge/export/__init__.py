"""A season's `.vcc` file, written in blocks: the same bytes for the same prediction, whole or not at all."""

from stateshift.challenge.export.from_run import export_run
from stateshift.challenge.export.submission import Submission, export_submission

__all__ = ["Submission", "export_run", "export_submission"]
