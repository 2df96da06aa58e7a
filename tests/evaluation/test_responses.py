"""Responding genes through `evaluate(responses=True)`, beside cell-eval through `evaluate(official=True)`."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from stateshift.cli.main import app
from stateshift.errors import StateshiftError
from stateshift.evaluation import Evaluation, evaluate
from stateshift.evaluation.responses import SHOWN


def test_responding_genes_are_scored_context_by_context_and_kept(world, tmp_path):
    found = evaluate(world.predicted(0.6, 0.4), world.truth, responses=True, output=tmp_path / "scores")
    assert found.responses.groupby("context").size().to_dict() == {"K562": 6, "RPE1": 6}
    for context, rows in found.responses.groupby("context"):
        means = found.about["responses"][context]
        assert [means[name] for name in SHOWN] == pytest.approx(rows[list(SHOWN)].mean().tolist(), nan_ok=True)
    assert found.responses["des"].between(0, 1).all()
    assert (found.responses["des"] > 0).any()
    again = Evaluation.load(tmp_path / "scores")
    assert again.responses["des"].tolist() == pytest.approx(found.responses["des"].tolist())
    assert again.about["responses"] == found.about["responses"]
    ours = found.scores[found.scores["model"] == "state_tiny"]
    assert found.responses["pds_l1"].tolist() == pytest.approx(ours["pds_l1"].tolist(), abs=1e-6)
    assert found.responses["pearson_delta"].tolist() == pytest.approx(ours["pearson_delta"].tolist(), abs=1e-5)


def test_they_are_what_cell_eval_finds(world):
    pytest.importorskip("cell_eval", reason="the official extra is not installed")
    found = evaluate(world.predicted(0.6, 0.4), world.truth, official=True, responses=True)
    official = found.official[found.official["model"] == "prediction"].set_index("context")
    for context, means in found.about["responses"].items():
        expected = official.loc[context, ["des", "pds", "mae", "score"]].to_numpy(float)
        assert [means[n] for n in ("des", "pds_l1", "mae", "score")] == pytest.approx(expected, abs=1e-6)


def test_a_context_of_one_perturbation_is_left_out_with_a_sentence(world):
    obs = world.truth.obs
    others = (obs["cell_line"] == "RPE1") & ~obs["gene"].isin(["ctrl", "G00"])
    found = evaluate(world.predicted(), world.truth[~others].copy(), responses=True)
    assert found.responses["context"].unique().tolist() == ["K562"]
    assert any("RPE1: the score of responding genes needs two perturbations" in note for note in found.notes)
    with pytest.raises(StateshiftError, match="two or more perturbations"):
        evaluate(world.predicted(), world.truth[obs["gene"].isin(["ctrl", "G00"])].copy(), responses=True)


def test_evaluating_again_without_them_leaves_no_stale_file(world, tmp_path):
    evaluate(world.predicted(), world.truth, responses=True, output=tmp_path / "scores")
    evaluate(world.predicted(), world.truth, output=tmp_path / "scores", overwrite=True)
    assert Evaluation.load(tmp_path / "scores").responses is None


def test_the_command_prints_a_row_a_context(world, tmp_path):
    world.predicted().write_h5ad(tmp_path / "p.h5ad")
    world.truth.write_h5ad(tmp_path / "t.h5ad")
    run = CliRunner().invoke(
        app,
        ["evaluate", str(tmp_path / "p.h5ad"), "--truth", str(tmp_path / "t.h5ad"), "--responses"],
        env={"COLUMNS": "160"},
    )
    assert run.exit_code == 0, run.output
    assert "responding genes: state_tiny" in run.output
    assert np.sum([line.count("K562") for line in run.output.splitlines()]) >= 1
