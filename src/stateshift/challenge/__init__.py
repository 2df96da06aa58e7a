"""The Virtual Cell Challenge: a season's rules, all checks at once, and the `.vcc` file."""

from stateshift.challenge.export import Submission, export_run, export_submission
from stateshift.challenge.local import RunScore, run_score_table, score_run
from stateshift.challenge.seasons import Season, known_seasons, read_season
from stateshift.challenge.validation import Check, Validation, validate, validation_table

__all__ = [
    "Check",
    "RunScore",
    "Season",
    "Submission",
    "Validation",
    "export_run",
    "export_submission",
    "known_seasons",
    "read_season",
    "run_score_table",
    "score_run",
    "validate",
    "validation_table",
]
