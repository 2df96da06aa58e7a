"""Resampled scores beside the score of all targets, worked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stateshift.challenge.local.resampled import resampled
from stateshift.evaluation.seasons.anchors_2026 import MEMBERS
from stateshift.evaluation.seasons.score_2026 import Score2026


def test_targets_drawn_once_each_have_the_score_itself_and_a_draw_without_effect_the_worst_error():
    table = pd.DataFrame({name: [0.4, 0.6] for name in MEMBERS}, index=["A", "B"])
    table["error"], table["effect"] = [0.2, 0.1], [1.0, -0.25]
    members = pd.DataFrame({"baseline": 0.0, "replicate": 1.0}, index=list(MEMBERS))
    members.loc[["mse", "lfc_nmae"]] = [[1.0, 0.0], [1.0, 0.0]]
    score = Score2026(table, members, float("nan"))
    found = resampled({"K562": score}, ["A", "B"], np.array([[1, 1], [0, 2]]))
    assert found[0] == pytest.approx((4 * 0.5 + (1 - 0.3 / 0.75) + 0.5) / 6)
    assert found[1] == pytest.approx((4 * 0.6 + 0 + 0.4) / 6)
