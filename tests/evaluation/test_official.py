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


def test_the_tools_baseline_is_the_mean_of_the_truths_own_groups(world, cell_eval):
    found = evaluate(world.predicted(), world.truth, official=True).official.set_index(["context", "model"])
    obs = world.truth.obs
    for context in ("K562", "RPE1"):
        here = (obs["cell_line"] == context).to_numpy()
        means = {
            g: world.truth.X[here & (obs["gene"] == g).to_numpy()].toarray().mean(axis=0) for g in set(obs["gene"])
        }
        oracle = np.mean(list(means.values()), axis=0)
        by_hand = np.mean([np.abs(oracle - mean).mean() for g, mean in means.items() if g != "ctrl"])
        base = found.loc[(context, "cell-eval's baseline (mean of the truth)"), "mae"]
        assert base == pytest.approx(by_hand, abs=1e-5)


def test_a_double_in_the_other_order_reaches_cell_eval_under_one_name(world, cell_eval):
    predicted, truth = world.predicted(), world.truth.copy()
    truth.obs["gene"] = truth.obs["gene"].astype(str).replace({"G03": "G03+G19"})
    predicted.obs["target_gene"] = predicted.obs["target_gene"].astype(str).replace({"G03": "G19+G03"})
    stored = predicted.uns["stateshift"]["baselines"]
    stored["target_gene"] = np.array(["G19+G03" if t == "G03" else t for t in stored["target_gene"]])
    turned = evaluate(predicted, truth, official=True)
    assert set(turned.scores["perturbation"]) == {"G00", "G01", "G02", "G19+G03", "G04", "G05"}
    ours = turned.scores[turned.scores["model"] == "state_tiny"].groupby("context")["mae"].mean()
    official = turned.official[turned.official["model"] == "prediction"].set_index("context")["mae"]
    assert official.to_numpy() == pytest.approx(ours.to_numpy(), abs=1e-6)


def test_a_missing_extra_is_named_with_its_install_command_before_anything_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "cell_eval", None)
    with pytest.raises(StateshiftError, match=r"pip install 'stateshift\[official\]'"):
        evaluate("unread.h5ad", "neither.h5ad", official=True)
