"""A season's score before a file is spent: a run on its own held-out targets, beside baselines."""

from stateshift.challenge.local.context import HeldOutContext, held_out_context
from stateshift.challenge.local.score_run import OTHERS, RunScore, run_score_table, score_run

__all__ = ["OTHERS", "HeldOutContext", "RunScore", "held_out_context", "run_score_table", "score_run"]
