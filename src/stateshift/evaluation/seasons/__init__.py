"""The challenge's scores, natively: each season's measures and what they are normalised by."""

from stateshift.evaluation.seasons.score_2025 import Score2025, score_2025

__all__ = ["Score2025", "score_2025"]
