"""Predictions that are scaled, pasted, shuffled or copied, flagged by name."""

from stateshift.evaluation.flags.find import find_flags
from stateshift.evaluation.flags.named import COLUMNS, FLAGS, Flag, Meaning, flag_sentences, flags_frame

__all__ = ["COLUMNS", "FLAGS", "Flag", "Meaning", "find_flags", "flag_sentences", "flags_frame"]
