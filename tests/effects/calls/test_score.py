"""Scores of predicted calls and values, against scikit-learn's, scipy's and what resampling should give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

from stateshift.effects.calls.score import Pairs, difference, resampled, score_effects
from stateshift.errors import InputProblems, StateshiftError


@pytest.fixture
def write(tmp_path):
    """Write a truth and its scores, given as frames; returns the paths in the order of `score_effects`."""

    def of(truth: pd.DataFrame, scores: pd.DataFrame):
        truth.to_csv(tmp_path / "truth.csv", index=False)
        scores.to_csv(tmp_path / "scores.csv", index=False)
        return tmp_path / "scores.csv", tmp_path / "truth.csv"

    return of


def made(labels: bool, targets: int = 40, genes: int = 15, size: float = 1.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Truth and scores that partly agree, of every target on most genes."""
    rng = np.random.default_rng(0)
    truth = pd.DataFrame([(f"T{i:02d}", f"G{j}") for i in range(targets) for j in range(genes)])
    truth = truth.set_axis(["perturbation", "gene"], axis=1)
    hidden = rng.normal(size=len(truth))
    scores = truth.assign(context="x", score=size * (hidden + rng.normal(size=len(truth))))
    truth = truth.assign(label=(hidden > 0).astype(int)) if labels else truth.assign(value=size * hidden)
    return truth.assign(split="test")[rng.random(len(truth)) < 0.8], scores


def test_labels_score_by_the_mean_of_scikit_learns_auc_of_each_gene(write):
    truth, scores = made(labels=True)
    found = score_effects(*write(truth, scores)).iloc[0]
    both = truth.merge(scores)
    expected = [roc_auc_score(of["label"], of["score"]) for _, of in both.groupby("gene")]
    assert found["score"] == pytest.approx(np.mean(expected))
    assert (found["averaged"], found["pairs"], found["metric"]) == (15, len(truth), "AUC per gene")
    assert 0.6 < found["low"] < found["score"] < found["high"] < 0.95


@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_values_score_by_the_mean_of_scipys_correlation_of_each_perturbation(write, size):
    truth, scores = made(labels=False, size=size)
    scores.loc[scores["perturbation"] == "T03", "score"] = 0.25  # the same for every gene: no correlation
    found = score_effects(*write(truth, scores)).iloc[0]
    both = truth.merge(scores)
    each = [pearsonr(of["value"], of["score"])[0] for name, of in both.groupby("perturbation") if name != "T03"]
    assert found["score"] == pytest.approx(np.mean(each), rel=1e-4)
    assert (found["averaged"], found["pairs"]) == (39, len(truth))
    # the interval of a mean, by the central limit theorem
    error = np.std(each, ddof=1) / np.sqrt(len(each))
    assert [found["low"], found["high"]] == pytest.approx(
        np.mean(each) + 1.96 * error * np.array([-1, 1]), abs=error / 4
    )


def test_targets_that_are_drawn_as_one_are_drawn_together():
    # twenty perturbations of four pairs each, then every one of them twice under the same code of a target
    rng = np.random.default_rng(1)
    p, g = np.repeat(np.arange(20), 4), np.tile(np.arange(4), 20)
    one = Pairs(rng.normal(size=80), rng.normal(size=80), p, g, False)
    twice = Pairs(np.tile(one.predicted, 2), np.tile(one.truth, 2), np.r_[p, p + 20], np.r_[g, g], False)
    alone, _ = resampled(one, one)
    together, _ = resampled(twice, twice, target=np.tile(np.arange(20), 2))
    assert together == pytest.approx(alone)  # as often as the one
    apart, _ = resampled(twice, twice)
    assert apart.std() == pytest.approx(alone.std() / np.sqrt(2), rel=0.1)
    assert len(resampled(one, one, draws=7)[0]) == 7


def test_a_perturbation_that_is_drawn_twice_counts_twice():
    p, g = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    rng = np.random.default_rng(0)
    values = Pairs(rng.normal(size=12), rng.normal(size=12), p, g, False)
    a, _, c = values.each()
    assert values.mean(np.array([2, 0, 1])) == pytest.approx((2 * a + c) / 3)
    labels = Pairs(np.array([0.1, 0.4, 0.3]), np.array([0, 1, 1]), np.array([0, 1, 2]), np.zeros(3, int), True)
    assert labels.mean() == 1
    turned = replace(labels, predicted=np.array([0.35, 0.4, 0.3]))
    assert turned.mean(np.array([1, 2, 1])) == pytest.approx(2 / 3)  # of the ones two are above the zero, one below
    assert np.isnan(turned.mean(np.array([3, 0, 0])))


def test_the_paired_difference_of_a_prediction_and_itself_is_nothing():
    rng = np.random.default_rng(0)
    pairs = Pairs(
        rng.random(200), rng.integers(0, 2, 200), np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20), True
    )
    assert difference(pairs, pairs.predicted) == (0.0, 0.0, 0.0)
    gain, low, high = difference(pairs, -pairs.predicted)
    assert low <= gain <= high
    assert gain == pytest.approx(2 * pairs.mean() - 1)
    of_one, of_other = resampled(pairs, replace(pairs, predicted=-pairs.predicted))
    differences = of_one - of_other
    assert np.nanmean(differences < low) == pytest.approx(0.025, abs=0.002)
    assert np.nanmean(differences > high) == pytest.approx(0.025, abs=0.002)


def test_a_truth_without_contexts_is_of_the_one_that_was_predicted(write):
    table = pd.DataFrame({"perturbation": ["A", "B", "C"], "gene": "g", "label": [0, 1, 1], "split": "test"})
    scores = table.assign(context="K562", score=[0.1, 0.9, 0.4])
    scored = score_effects(*write(table, scores))
    assert scored[["context", "score", "pairs"]].to_numpy().tolist() == [["K562", 1.0, 3]]
    with pytest.raises(InputProblems, match="3 of 3 pairs are not predicted, as A on g"):
        score_effects(*write(table, pd.concat([scores, scores.assign(context="RPE1")])))


def test_each_context_is_scored_by_its_own_pairs(write):
    truth = pd.DataFrame({"perturbation": list("ABAB"), "gene": "g", "label": [0, 1, 0, 1], "context": list("xxyy")})
    truth["split"] = "test"
    scored = score_effects(*write(truth, truth.assign(score=[0.1, 0.9, 0.9, 0.1])))
    assert dict(zip(scored["context"], scored["score"])) == {"x": 1.0, "y": 0.0}


def test_what_can_not_be_scored_is_told(write, tmp_path):
    truth = pd.DataFrame({"perturbation": list("ABC"), "gene": ["g", "h", "g"], "label": [1, 0, 1], "split": "test"})
    with pytest.raises(StateshiftError, match="nothing can be scored in x: no gene is called both 0 and 1"):
        score_effects(*write(truth, truth.assign(context="x", score=0.5)))
    values = truth.rename(columns={"label": "value"})
    with pytest.raises(StateshiftError, match="of no perturbation both values and scores vary over its genes"):
        score_effects(*write(values, values.assign(context="x", score=0.5)))
    with pytest.raises(StateshiftError, match="No row is in the split `val`"):
        score_effects(*write(truth, truth.assign(context="x", score=0.5)), split="val")
    with pytest.raises(StateshiftError, match="there is no such file of scores"):
        score_effects(tmp_path / "none.csv", tmp_path / "truth.csv")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["perturbation,context,gene,scores", "A,x,g,1"], "there is no column `score` \\(did you mean `scores`"),
        (["perturbation,context,gene,score", "A,x,g,1", "B,x,g,high"], r"in 1 lines \(first: line 3\)"),
        (["perturbation,context,gene,score", "A,x,g,inf", "B,x,g,1"], r"in 1 lines \(first: line 2\)"),
        (["perturbation,context,gene,score", "A,x,g,1", "B,x,g,1", "A,x,g,2"], "are predicted twice: A on g in x"),
        (["perturbation,context,gene,score"], "2 of 2 pairs are not predicted, as A on g, B on g"),
    ],
)
def test_what_is_wrong_with_a_file_of_scores_is_told(tmp_path, lines, told):
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "t.csv").write_text("perturbation,gene,label,context,split\nA,g,1,x,test\nB,g,0,x,test\n")
    with pytest.raises(StateshiftError, match=told):
        score_effects(tmp_path / "s.csv", tmp_path / "t.csv")
