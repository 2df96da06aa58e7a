"""cell-eval's scores through `evaluate(official=True)`, and ours against them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.evaluation import Evaluation, evaluate


@pytest.fixture
def cell_eval():
    return pytest.importorskip("cell_eval", reason="the official extra is not installed")


def test_our_scores_equal_cell_evals_context_by_context(world, cell_eval, tmp_path):
    predicted = world.predicted(fraction=0.6, noise=0.4)
    before = predicted.X.toarray()
    found = evaluate(predicted, world.truth, official=True, output=tmp_path / "scores")
    assert np.array_equal(predicted.X.toarray(), before)
    ours = found.scores[found.scores["model"] == "state_tiny"].groupby("context")[["pds_l1", "mae"]].mean()
    official = found.official[found.official["model"] == "prediction"].set_index("context")
    assert official.index.tolist() == ["K562", "RPE1"]
    assert official["pds"].to_numpy() == pytest.approx(ours["pds_l1"].to_numpy(), abs=1e-6)
    assert official["mae"].to_numpy() == pytest.approx(ours["mae"].to_numpy(), abs=1e-6)
    assert official["des"].between(0, 1).all()
    assert (official["des"] > 0).any()
    again = Evaluation.load(tmp_path / "scores").official
    assert again["score"].to_numpy() == pytest.approx(found.official["score"].to_numpy())


def test_the_score_is_normalised_by_the_tools_own_baseline_worked_by_hand(world, cell_eval):
    found = evaluate(world.predicted(fraction=0.6, noise=0.4), world.truth, official=True)
    for _, rows in found.official.groupby("context"):
        user, base = rows.iloc[0], rows.iloc[1]
        assert base["model"].startswith("cell-eval's baseline")
        parts = [(user[m] - base[m]) / (1 - base[m]) for m in ("des", "pds")] + [1 - user["mae"] / base["mae"]]
        assert user["score"] == pytest.approx(np.mean(np.clip(parts, 0, None)))
        assert base["score"] == 0


def test_a_context_of_one_perturbation_is_left_out_of_the_official_scores(world, cell_eval):
    one = world.truth[
        ~(
            (world.truth.obs["cell_line"] == "RPE1")
            & (world.truth.obs["gene"].astype(str) > "G00")
            & (world.truth.obs["gene"] != "ctrl")
        )
    ]
    found = evaluate(world.predicted(), one.copy(), official=True)
    assert found.official["context"].unique().tolist() == ["K562"]
    assert any("cell-eval's scores need two perturbations" in note for note in found.notes)


def test_a_missing_extra_is_named_with_its_install_command(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "cell_eval", None)
    with pytest.raises(StateshiftError, match=r"pip install 'stateshift\[official\]'"):
        evaluate(world.predicted(), world.truth, official=True)
