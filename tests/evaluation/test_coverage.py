import json

import numpy as np
import pandas as pd
import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.evaluation import (
    Evaluation,
    coverage_table,
    evaluate,
    interval_coverage,
    interval_sentences,
    write_report,
)
from stateshift.evaluation.report.figures.scores import best_baseline


def with_intervals(world, half=0.3, of_mean=0.6):
    """A prediction of the world with the same half-width everywhere, RPE1 in a new context."""
    predicted = world.predicted()
    pairs, G = list(world.effects), len(world.genes)
    predicted.uns["stateshift"]["intervals"] = {
        "level": 0.9,
        "context": np.array([c for c, _ in pairs]),
        "target_gene": np.array([p for _, p in pairs]),
        "regime": np.array(["T" if c == "K562" else "J" for c, _ in pairs]),
        "genes": np.array(world.genes),
        "effects": np.stack([world.effects[pair] for pair in pairs]).astype(np.float32),
        "half_widths": np.full((len(pairs), G), half, np.float32),
        "of_mean": np.full((len(pairs), G), of_mean, np.float32),
    }
    return predicted


def true_effects(world):
    X, obs = world.truth.X.toarray(), world.truth.obs
    means = {key: X[rows].mean(axis=0) for key, rows in obs.groupby(["cell_line", "gene"]).indices.items()}
    return np.stack([means[pair] - means[pair[0], "ctrl"] for pair in world.effects])


def test_the_share_inside_is_what_is_counted_by_hand(world):
    found = evaluate(with_intervals(world, half=0.08), world.truth)
    centres, true = np.stack(list(world.effects.values())), true_effects(world)
    inside = np.abs(centres - true) <= 0.08
    table = interval_coverage(found.scores, found.model).set_index("regime")
    assert 0.2 < inside.mean() < 0.95
    assert table.loc["all", "covered"] == pytest.approx(inside.mean(), abs=1e-3)
    in_k562 = np.array([c == "K562" for c, _ in world.effects])
    assert table.loc["T", "covered"] == pytest.approx(inside[in_k562].mean(), abs=1e-3)
    assert table.loc["J", "covered"] == pytest.approx(inside[~in_k562].mean(), abs=1e-3)
    assert table.loc["T", "pairs"] == table.loc["J", "pairs"] == 6


def test_a_second_prediction_that_is_called_as_a_baseline_is_none(world):
    second = world.predicted(fraction=0.9, noise=0.0)
    second.uns["stateshift"]["model"] = "mean"
    alone, beside = (evaluate(with_intervals(world), world.truth, against=other) for other in (None, second))
    pd.testing.assert_frame_equal(*(interval_coverage(e.scores, e.model) for e in (alone, beside)))
    assert beside.ceilings["floor_name"].unique() == ["mean (baseline)"]
    assert np.allclose(alone.ceilings["floor"], beside.ceilings["floor"])
    assert best_baseline(beside) == "mean (baseline)"


def test_the_mean_baseline_is_covered_by_its_own_intervals(world):
    found = evaluate(with_intervals(world), world.truth)
    mean = np.mean(list(world.effects.values()), axis=0)
    row = interval_coverage(found.scores, found.model).iloc[0]
    assert row["mean_covered"] == pytest.approx((np.abs(mean - true_effects(world)) <= 0.6).mean(), abs=1e-3)
    assert (row["half_width"], row["mean_half_width"]) == (pytest.approx(0.3), pytest.approx(0.6))
    said = interval_sentences(found)[0]
    assert "is 50% narrower than the mean baseline's own" in said
    assert "T neural" in said


def test_wider_intervals_hold_more(world):
    shares = [
        interval_coverage(found.scores, found.model)["covered"][0]
        for found in (evaluate(with_intervals(world, half=h), world.truth) for h in (0.02, 0.1, 0.5))
    ]
    assert shares[0] < shares[1] < shares[2] == 1


def test_pairs_without_an_interval_are_left_out_of_the_count(world):
    predicted = with_intervals(world)
    predicted.uns["stateshift"]["intervals"]["half_widths"][:3] = np.nan
    found = evaluate(predicted, world.truth)
    assert interval_coverage(found.scores, found.model)["pairs"][0] == 9


def test_a_prediction_without_intervals_says_nothing_of_them(world):
    found = evaluate(world.predicted(), world.truth)
    assert "intervals" not in found.about
    assert interval_sentences(found) == []
    assert interval_coverage(found.scores, found.model).empty


def test_coverage_is_written_read_again_and_told_in_the_report(world, tmp_path):
    found = evaluate(with_intervals(world), world.truth, output=tmp_path / "scores")
    told = json.loads((tmp_path / "scores" / "evaluation.json").read_text())["intervals"]
    assert told["level"] == 0.9
    assert [(row["regime"], row["pairs"]) for row in told["by"]] == [("all", 12), ("T", 6), ("J", 6)]
    again = Evaluation.load(tmp_path / "scores")
    pd.testing.assert_frame_equal(
        interval_coverage(again.scores, again.model), interval_coverage(found.scores, found.model)
    )
    assert coverage_table(again).row_count == 3
    page = write_report(tmp_path, tmp_path / "report.html").read_text()
    assert "90% intervals" in page
    assert "Coverage and half-widths of the 90% intervals" in page


def test_an_evaluation_of_an_earlier_version_is_read_without_intervals(world, tmp_path):
    found = evaluate(world.predicted(), world.truth, output=tmp_path / "scores")
    older = pd.read_csv(tmp_path / "scores" / "scores.csv").drop(columns=["regime", "covered", "half_width"])
    older.to_csv(tmp_path / "scores" / "scores.csv", index=False)
    assert Evaluation.load(tmp_path / "scores").scores["pearson_delta"].tolist() == pytest.approx(
        found.scores["pearson_delta"].tolist()
    )


def test_intervals_that_do_not_fit_are_refused(world):
    predicted = with_intervals(world)
    predicted.uns["stateshift"]["intervals"]["half_widths"] = np.ones((3, 20))
    with pytest.raises(StateshiftError, match="does not fit its pairs"):
        evaluate(predicted, world.truth)


def test_doubles_of_the_truth_with_another_separator_are_refused_with_the_right_form(world):
    truth = world.truth.copy()
    truth.obs["gene"] = truth.obs["gene"].replace({"G05": "G00_G01"})
    with pytest.raises(InputProblems, match=r"`G00_G01` names known genes: a double is written `G00\+G01`"):
        evaluate(world.predicted(), truth)


def test_intervals_of_doubles_follow_the_truths_order(world):
    predicted, truth = with_intervals(world), world.truth.copy()
    names = {"G05": "G00+G01"}
    predicted.obs["target_gene"] = predicted.obs["target_gene"].replace(names)
    about = predicted.uns["stateshift"]
    for part in (about["baselines"], about["intervals"]):
        part["target_gene"] = np.array([names.get(p, p) for p in part["target_gene"]])
    truth.obs["gene"] = truth.obs["gene"].replace({"G05": "G01+G00"})
    found = evaluate(predicted, truth)
    assert interval_coverage(found.scores, found.model)["pairs"][0] == 12
    assert any("whatever the order" in note for note in found.notes)
