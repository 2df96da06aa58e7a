"""A network beside the best effect backbone: what it starts from, and where it is kept."""

from stateshift.training.anchored.keeping import KeepRule, Verdict, log_verdicts, read_verdicts, too_few_to_judge
from stateshift.training.anchored.starts import Starts, fit_starts

__all__ = ["KeepRule", "Starts", "Verdict", "fit_starts", "log_verdicts", "read_verdicts", "too_few_to_judge"]
