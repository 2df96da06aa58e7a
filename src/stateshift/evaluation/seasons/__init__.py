"""The challenge's scores, natively: each season's measures and what they are normalised by."""

from stateshift.evaluation.seasons.score_2025 import Score2025, score_2025
from stateshift.evaluation.seasons.score_2026 import CELL_EVAL2_NAMES, Score2026, anchors_2026, score_2026
from stateshift.evaluation.seasons.score_season import SeasonScore, score_season
from stateshift.evaluation.seasons.tables import season_sentences, season_table

__all__ = [
    "CELL_EVAL2_NAMES",
    "Score2025",
    "Score2026",
    "SeasonScore",
    "anchors_2026",
    "score_2025",
    "score_2026",
    "score_season",
    "season_sentences",
    "season_table",
]
