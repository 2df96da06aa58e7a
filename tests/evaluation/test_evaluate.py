"""The whole way of an evaluation: files in, scores beside baselines out, and what is refused."""

from __future__ import annotations

import json
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.errors import StateshiftError
from stateshift.evaluation import Evaluation, columns_sentence, evaluate


def value(evaluation, context, perturbation, model, metric):
    scores = evaluation.scores
    here = (scores["context"] == context) & (scores["perturbation"] == perturbation) & (scores["model"] == model)
    return scores.loc[here, metric].item()


def test_effects_are_scored_against_the_truths_own_controls_worked_by_hand():
    """Controls (1, 2, 4); A is truly (2, 2, 4), B (1, 4, 4); A is predicted as (2, 3, 4), B as (1, 4, 6)."""

    def cells(rows, columns):
        obs = pd.DataFrame([label for label, _ in rows], columns=columns, index=[str(i) for i in range(len(rows))])
        X = csr_matrix(np.array([x for _, x in rows], dtype=np.float32) * 0.5)
        var, uns = pd.DataFrame(index=["g1", "g2", "g3"]), {"log1p": {"base": None}}
        return ad.AnnData(X=X, obs=obs, var=var, uns=uns)

    controls = [(("control", "T"), (1, 2, 5)), (("control", "T"), (1, 2, 3))]
    truth = cells([*controls, (("A", "T"), (2, 2, 4)), (("B", "T"), (1, 4, 4))], ["gene", "cell_type"])
    predicted = cells([(("A", "T"), (2, 3, 4)), (("B", "T"), (1, 4, 6))], ["gene", "cell_type"])
    found = evaluate(predicted, truth)
    assert found.model == "the prediction"
    assert found.baselines == ["control", "mean of the truth (oracle)"]
    # halves of: A predicted (1, 1, 0) true (1, 0, 0); B predicted (0, 2, 2) true (0, 2, 0)
    assert value(found, "T", "A", found.model, "mae") == pytest.approx(0.5 / 3)
    assert value(found, "T", "B", found.model, "mse") == pytest.approx(1 / 3)
    assert value(found, "T", "A", found.model, "pearson_delta") == pytest.approx(0.5)
    assert value(found, "T", "B", found.model, "pearson_delta") == pytest.approx(0.5)
    assert value(found, "T", "A", "control", "mae") == pytest.approx(0.5 / 3)
    assert value(found, "T", "A", "control", "pearson_delta") == 0
    # L1 from A's prediction: to A 1, to B |1| + |-1| = 2; from B's: to A 1 + 2 + 2, to B 2
    assert value(found, "T", "A", found.model, "pds_l1") == value(found, "T", "B", found.model, "pds_l1") == 1
    # the oracle predicts (.5, 1, 0) for both: to A (−.5, 1, 0), to B (.5, −1, 0): a tie
    assert value(found, "T", "A", "mean of the truth (oracle)", "pds_l1") == pytest.approx(0.75)


def test_a_good_prediction_is_better_than_its_baselines_and_no_change_scores_nothing(world):
    found = evaluate(world.predicted(), world.truth)
    assert list(found.scores["model"].unique()) == ["state_tiny", "control", "mean"]
    assert len(found.scores) == 3 * 12
    assert found.about["simulated"] is True
    means = found.summary[found.summary["context"] == "all contexts"].set_index(["model", "metric"])
    assert means.loc[("state_tiny", "pearson_delta"), "mean"] > 0.95
    assert means.loc[("control", "pearson_delta"), "mean"] == 0
    beside = means.loc[("mean", "pearson_delta")]
    assert beside["low"] > 0
    assert beside["difference"] == pytest.approx(
        means.loc[("state_tiny", "pearson_delta"), "mean"] - beside["mean"], abs=1e-12
    )
    assert (beside["pairs"], beside["perturbations"]) == (12, 6)
    assert means.loc[("mean", "mae"), "high"] < 0


def test_over_all_contexts_a_perturbation_is_drawn_with_all_its_contexts(world):
    from stateshift.metrics import paired_bootstrap

    found = evaluate(world.predicted(fraction=0.7, noise=0.5), world.truth)
    wide = found.scores.pivot(index=["context", "perturbation"], columns="model", values="mae")
    rows = found.summary.set_index(["context", "model", "metric"])
    together = rows.loc[("all contexts", "mean", "mae")]
    names = wide.index.get_level_values("perturbation")
    expected = paired_bootstrap(wide["state_tiny"], wide["mean"], names)
    assert (together["low"], together["high"]) == pytest.approx((expected.low, expected.high))
    apart = paired_bootstrap(wide["state_tiny"], wide["mean"])
    assert abs(together["low"] - apart.low) > 1e-4
    within = rows.loc[("K562", "mean", "mae")]
    expected = paired_bootstrap(wide.loc["K562", "state_tiny"], wide.loc["K562", "mean"])
    assert (within["low"], within["high"]) == pytest.approx((expected.low, expected.high))


def test_four_perturbations_in_two_contexts_have_no_interval(world):
    few = world.truth[~world.truth.obs["gene"].isin(["G04", "G05"])].copy()
    summary = evaluate(world.predicted(), few).summary
    compared = summary[summary["difference"].notna()]
    assert compared["pairs"].max() == 8
    assert compared["perturbations"].unique().tolist() == [4]
    assert compared[["low", "high"]].isna().all(axis=None)


def test_stored_baseline_effects_stand_on_the_controls_that_the_prediction_carries(world):
    predicted = world.predicted()
    same = evaluate(predicted, world.truth)
    shifted = predicted.copy()
    shifted.X = shifted.X.toarray() + 0.25
    moved = evaluate(shifted, world.truth)
    assert not any("not the truth's" in note for note in same.notes)
    assert any("K562 (means differ by 0.25), RPE1 (means differ by 0.25)" in note for note in moved.notes)
    assert value(moved, "K562", "G00", "control", "mae") != value(same, "K562", "G00", "control", "mae")
    zero = moved.scores[moved.scores["model"] == "control"]["mae"].to_numpy()
    truth = world.truth.X.toarray()
    labels = world.truth.obs
    here = (labels["cell_line"] == "K562").to_numpy()
    control = truth[here & (labels["gene"] == "ctrl").to_numpy()].mean(axis=0)
    true = truth[here & (labels["gene"] == "G00").to_numpy()].mean(axis=0) - control
    assert zero[0] == pytest.approx(np.abs(true - 0.25).mean(), abs=1e-5)


def test_scores_written_and_read_again_are_the_same(world, tmp_path):
    predicted, truth = tmp_path / "predicted.h5ad", tmp_path / "real.h5ad"
    world.predicted().write_h5ad(predicted)
    world.truth.write_h5ad(truth)
    found = evaluate(predicted, truth, output=tmp_path / "scores")
    again = Evaluation.load(tmp_path / "scores")
    pd.testing.assert_frame_equal(again.scores, found.scores.astype(again.scores.dtypes))
    pd.testing.assert_frame_equal(again.summary, found.summary.astype(again.summary.dtypes))
    assert (again.about, again.notes) == (found.about, found.notes)
    assert again.about["predicted"] == "predicted.h5ad"
    with pytest.raises(StateshiftError, match="exists already"):
        evaluate(predicted, truth, output=tmp_path / "scores")
    evaluate(predicted, truth, output=tmp_path / "scores", overwrite=True)
    written = ["ceilings.csv", "evaluation.json", "flags.csv", "scores.csv", "summary.csv", "tiers.csv"]
    assert sorted(p.name for p in (tmp_path / "scores").iterdir()) == written
    pd.testing.assert_frame_equal(again.ceilings, found.ceilings)
    pd.testing.assert_frame_equal(again.flags, found.flags, check_dtype=False)


def test_the_same_evaluation_twice_gives_the_same_numbers(world):
    first, second = (evaluate(world.predicted(), world.truth).summary for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_columns_that_go_by_no_convention_are_named_by_the_user(world):
    truth = world.truth.copy()
    truth.obs = truth.obs.rename(columns={"gene": "group_id", "cell_line": "cluster_id"})
    with pytest.raises(StateshiftError, match=r"no obs column for the perturbation[\s\S]*--pert-col"):
        evaluate(world.predicted(), truth)
    found = evaluate(world.predicted(), truth, perturbation="group_id", context="cluster_id", control="ctrl")
    pd.testing.assert_frame_equal(found.scores, evaluate(world.predicted(), world.truth).scores)


@pytest.fixture
def made_with(world):
    """A prediction that says from which columns it was made."""

    def predicted(perturbation, cell_type):
        made = world.predicted()
        made.uns["stateshift"]["columns"] = {"perturbation": perturbation, "cell_type": cell_type}
        return made

    return predicted


def test_columns_are_those_that_the_prediction_was_made_with_where_the_user_names_none(world, made_with):
    truth = world.truth.copy()
    truth.obs = truth.obs.rename(columns={"gene": "guide", "cell_line": "line"}).astype(str)
    # by convention, and something else
    truth.obs["gene"], truth.obs["copy"] = (
        truth.obs["guide"].replace("ctrl", "NTC")[::-1].to_numpy(),
        truth.obs["guide"],
    )
    found = evaluate(made_with("guide", "line"), truth)
    pd.testing.assert_frame_equal(found.scores, evaluate(world.predicted(), world.truth).scores)
    assert found.about["columns"] == {"perturbation": "guide", "cell_type": "line", "control": "ctrl"}
    assert columns_sentence(found) == "The truth's columns: perturbation `guide`, cell type `line`, control `ctrl`."
    assert evaluate(made_with("guide", "line"), truth, perturbation="copy").about["columns"]["perturbation"] == "copy"
    with pytest.raises(
        StateshiftError, match=r"no column `gui`[\s\S]*made with perturbation `guide`, cell type `line`, c"
    ):
        evaluate(made_with("guide", "line"), truth, perturbation="gui")


def test_predictions_made_with_other_columns_ask_which_holds_where_the_truth_has_both(world, made_with):
    truth = world.truth.copy()
    truth.obs["guide"] = truth.obs["gene"]
    pair = made_with("guide", "cell_line"), made_with("gene", "line")
    with pytest.raises(StateshiftError, match="the perturbation under `guide` and `gene`: say by --pert-col which"):
        evaluate(pair[0], truth, against=pair[1])
    found = evaluate(pair[0], truth, against=pair[1], perturbation="guide")
    assert found.about["columns"] == {"perturbation": "guide", "cell_type": "cell_line", "control": "ctrl"}


def test_a_truth_of_one_context_needs_no_column_for_it(world):
    keep = (world.truth.obs["cell_line"] == "K562").to_numpy()
    truth = world.truth[keep].copy()
    del truth.obs["cell_line"]
    predicted = world.predicted()
    predicted = predicted[(predicted.obs["context"] == "K562").to_numpy()].copy()
    assert evaluate(predicted, truth).scores["context"].unique().tolist() == ["K562"]


def test_any_tools_cells_are_scored_and_its_missing_baselines_are_said(world):
    predicted = world.predicted()
    plain = ad.AnnData(X=predicted.X, obs=predicted.obs[["target_gene", "context"]], var=predicted.var)
    plain.obs["target_gene"] = plain.obs["target_gene"].astype(str)
    plain.uns["stateshift"] = "somebody else's mark"
    with pytest.raises(StateshiftError, match="the prediction: its scale can't be told"):
        evaluate(plain, world.truth)
    found = evaluate(plain, world.truth, scale="log1p")
    assert found.baselines == ["control", "mean of the truth (oracle)"]
    assert any("no baselines of its training" in note for note in found.notes)
    assert any("--against RUN_PREDICTED.h5ad, a run's prediction of the same pairs" in note for note in found.notes)
    assert set(found.scores["perturbation"]) == {"G00", "G01", "G02", "G03", "G04", "G05"}


def test_what_is_on_one_side_alone_is_reported_and_not_scored(world):
    predicted, truth = world.predicted(), world.truth
    predicted = predicted[~((predicted.obs["context"] == "RPE1") & (predicted.obs["target_gene"] == "G01"))].copy()
    truth = truth[~((truth.obs["cell_line"] == "RPE1") & truth.obs["gene"].isin(["G02", "G03", "G04", "G05"]))].copy()
    found = evaluate(predicted, truth)
    assert "RPE1: predicted and not in the truth, so not scored: G02, G03, G04, G05." in found.notes
    assert "In the truth and not predicted: 1 in RPE1 (G01)." in found.notes
    assert "PDS needs two perturbations to tell apart: with one it is left empty in RPE1." in found.notes
    rpe1 = found.scores[found.scores["context"] == "RPE1"]
    assert rpe1["perturbation"].unique().tolist() == ["G00"]
    assert rpe1["pds_l1"].isna().all()
    assert found.scores.loc[found.scores["context"] == "K562", "pds_l1"].notna().all()


def test_more_genes_in_the_truth_are_left_out_and_counted_and_fewer_are_refused(world):
    predicted = world.predicted()
    effects = {k: v[:, 5:] for k, v in predicted.uns["stateshift"]["baselines"]["effects"].items()}
    fewer = predicted[:, 5:].copy()
    fewer.uns["stateshift"]["baselines"]["effects"] = effects
    found = evaluate(fewer, world.truth)
    assert any(note.startswith("5 genes of the truth are not predicted") for note in found.notes)
    assert found.about["genes"] == 15
    with pytest.raises(StateshiftError, match=r"lacks 5 of the 20 that are needed: G00, G01, G02, G03, G04"):
        evaluate(predicted, world.truth[:, 5:].copy())


def test_counts_of_more_genes_are_cut_first_so_that_the_same_cells_get_the_same_values(world):
    counts = world.truth.copy()
    counts.X = csr_matrix(np.random.default_rng(5).poisson(np.expm1(counts.X.toarray()) * 3).astype(np.float32) + 1)
    # of a cell's counts the first three genes hold a share that differs from cell to cell
    counts.X[::2, :3] = counts.X[::2, :3] * 50
    same = counts[:, 3:].copy()
    same.obs = same.obs.rename(columns={"gene": "target_gene", "cell_line": "context"})
    same.uns["stateshift"] = {"scale": "counts", "control": "ctrl", "model": "the same cells"}
    found = evaluate(same, counts)
    assert found.scores.loc[found.scores["model"] == "the same cells", "mae"].max() < 1e-6
    assert not any("control cells are not the truth's" in note for note in found.notes)
    assert "3 genes of the truth are not predicted and were left out before its counts were brought to 1e4 a cell." in (
        found.notes
    )


def test_a_truth_of_log1p_1e4_keeps_its_scale_when_genes_are_left_out(world):
    truth = world.truth.copy()
    X = np.expm1(truth.X.toarray())
    truth.X = csr_matrix(np.log1p(X / X.sum(axis=1, keepdims=True) * 1e4).astype(np.float32))
    part = truth[:, 3:].copy()
    part.obs = part.obs.rename(columns={"gene": "target_gene", "cell_line": "context"})
    part.uns["stateshift"] = {"scale": "log1p_1e4", "control": "ctrl", "model": "the same cells"}
    found = evaluate(part, truth)
    assert found.about["scale"] == "log1p_1e4"
    assert found.scores.loc[found.scores["model"] == "the same cells", "mae"].max() < 1e-6
    assert "3 genes of the truth are not predicted and were left out." in found.notes


def test_genes_in_another_order_are_matched_by_symbol(world):
    turned = world.truth[:, ::-1].copy()
    pd.testing.assert_frame_equal(
        evaluate(world.predicted(), turned).scores, evaluate(world.predicted(), world.truth).scores
    )


def test_two_values_of_one_place_are_their_sum_and_cells_may_stay_on_disk(world, tmp_path):
    counts = world.truth.copy()
    counts.X = csr_matrix(np.random.default_rng(3).poisson(40, counts.shape).astype(np.float32) + 2)
    del counts.uns["log1p"]
    predicted = world.predicted()
    predicted.uns["stateshift"]["scale"] = "log1p_1e4"
    expected = evaluate(predicted, counts).scores
    twice = counts.copy()
    values = np.stack([counts.X.data - 1, np.ones_like(counts.X.data)], axis=1).ravel()
    twice.X = csr_matrix((values, np.repeat(counts.X.indices, 2), counts.X.indptr * 2), counts.shape)
    pd.testing.assert_frame_equal(evaluate(predicted, twice).scores, expected)
    assert twice.X.nnz == 2 * counts.X.nnz
    counts.write_h5ad(tmp_path / "truth.h5ad")
    pd.testing.assert_frame_equal(evaluate(predicted, ad.read_h5ad(tmp_path / "truth.h5ad", "r")).scores, expected)


def test_counts_are_brought_to_log1p_and_two_scales_are_refused(world):
    rng = np.random.default_rng(5)
    counts = world.truth.copy()
    counts.X = csr_matrix(rng.poisson(np.expm1(counts.X.toarray()) * 3).astype(np.float32) + 1)
    with pytest.raises(StateshiftError, match=r"scale log1p and .* on log1p_1e4"):
        evaluate(world.predicted(), counts)
    as_counts = counts.copy()
    as_counts.obs = as_counts.obs.rename(columns={"gene": "target_gene", "cell_line": "context"})
    as_counts.uns["stateshift"] = {"scale": "counts", "control": "ctrl", "model": "oracle"}
    found = evaluate(as_counts, counts)
    assert found.about["scale"] == "log1p_1e4"
    oracle = found.scores[found.scores["model"] == "oracle"]
    assert oracle["mae"].max() < 1e-6
    assert oracle["pds_l1"].min() == 1


def test_nan_is_refused_on_either_side(world):
    broken = world.predicted()
    broken.X.data[3] = np.nan
    with pytest.raises(StateshiftError, match="the prediction holds 1 NaN"):
        evaluate(broken, world.truth)
    truth = world.truth.copy()
    truth.X.data[7] = np.nan
    with pytest.raises(StateshiftError, match="the truth holds 1 NaN"):
        evaluate(world.predicted(), truth)


def test_a_context_or_a_gene_that_nothing_matches_is_refused_with_a_suggestion(world):
    other = world.truth.copy()
    other.obs["cell_line"] = other.obs["cell_line"].astype(str).str.lower() + "_b"
    with pytest.raises(StateshiftError, match=r"`K562` is not there \(did you mean `k562_b`\?\)"):
        evaluate(world.predicted(), other)
    renamed = world.truth.copy()
    renamed.obs["gene"] = [g if g == "ctrl" else f"{g}x" for g in renamed.obs["gene"].astype(str)]
    with pytest.raises(StateshiftError, match=r"`G00` is not there \(did you mean `G00x`\?\)"):
        evaluate(world.predicted(), renamed)


def test_one_name_in_two_spellings_is_refused_on_either_side(world):
    predicted, truth = world.predicted(), world.truth.copy()
    predicted.obs["target_gene"] = predicted.obs["target_gene"].astype(str).replace({"G01": "g01"})
    lines = truth.obs["cell_line"].astype(str).to_numpy()
    lines[:3] = "k-562"
    truth.obs["cell_line"] = lines
    with pytest.raises(StateshiftError) as refused:
        evaluate(predicted, truth)
    assert "2 problems" in str(refused.value)
    assert "one perturbation is spelt `G01` in the truth and `g01` in the prediction: write it alike." in str(
        refused.value
    )
    assert "one context is spelt `K562` in the prediction and the truth and `k-562` in the truth" in str(refused.value)


def test_infinite_values_are_refused_on_either_side(world):
    broken = world.predicted()
    broken.X.data[:2] = [np.inf, np.nan]
    with pytest.raises(StateshiftError, match="the prediction holds 2 NaN or infinite values in 1 cells"):
        evaluate(broken, world.truth)


def test_a_prediction_of_zeros_is_refused(world):
    zero = world.predicted()
    zero.X = zero.X * 0
    with pytest.raises(StateshiftError, match="the prediction is all zeros"):
        evaluate(zero, world.truth)


def test_a_context_without_true_controls_is_refused_by_name(world):
    truth = world.truth[~((world.truth.obs["cell_line"] == "RPE1") & (world.truth.obs["gene"] == "ctrl"))].copy()
    with pytest.raises(StateshiftError, match="context `RPE1` has no control cells"):
        evaluate(world.predicted(), truth)


def test_a_truncated_file_is_refused_in_a_sentence_and_nothing_is_written(world, tmp_path):
    whole, cut = tmp_path / "whole.h5ad", tmp_path / "cut.h5ad"
    world.truth.write_h5ad(whole)
    cut.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(StateshiftError, match=r"cut\.h5ad can't be read"):
        evaluate(world.predicted(), cut, output=tmp_path / "scores")
    assert not (tmp_path / "scores").exists()


def test_doubles_are_scored_without_the_columns_of_both_their_genes(world):
    predicted, truth = world.predicted(), world.truth.copy()
    swap = {"G03": "G00+G01"}
    predicted.obs["target_gene"] = predicted.obs["target_gene"].astype(str).replace(swap)
    truth.obs["gene"] = truth.obs["gene"].astype(str).replace(swap)
    stored = predicted.uns["stateshift"]["baselines"]
    stored["target_gene"] = np.array([swap.get(t, t) for t in stored["target_gene"]])
    found = evaluate(predicted, truth)
    assert value(found, "K562", "G00+G01", "state_tiny", "pds_l1") == 1
    loud = predicted.copy()
    X = loud.X.toarray()
    X[:, :2] += 5 * (loud.obs["target_gene"] == "G00+G01").to_numpy()[:, None]
    loud.X = X
    again = evaluate(loud, truth)
    assert value(again, "K562", "G00+G01", "state_tiny", "mae") > value(found, "K562", "G00+G01", "state_tiny", "mae")
    assert value(again, "K562", "G00+G01", "state_tiny", "pds_l1") == 1


def test_a_double_is_one_perturbation_in_either_order_of_its_genes(world):
    def named(**names):
        predicted, truth = world.predicted(), world.truth.copy()
        predicted.obs["target_gene"] = predicted.obs["target_gene"].astype(str).replace({"G03": names["predicted"]})
        stored = predicted.uns["stateshift"]["baselines"]
        stored["target_gene"] = np.array([names["predicted"] if t == "G03" else t for t in stored["target_gene"]])
        truth.obs["gene"] = truth.obs["gene"].astype(str)
        here = (truth.obs["gene"] == "G03") & (truth.obs["cell_line"] == "K562")
        truth.obs.loc[here, "gene"] = names["K562"]
        truth.obs["gene"] = truth.obs["gene"].replace({"G03": names["RPE1"]})
        return evaluate(predicted, truth)

    same = named(predicted="G19+G03", K562="G19+G03", RPE1="G19+G03")
    turned = named(predicted="G19+G03", K562="G03+G19", RPE1="G19+G03")
    pd.testing.assert_frame_equal(turned.scores, same.scores)
    pd.testing.assert_frame_equal(turned.summary, same.summary)
    assert "Doubles are matched whatever the order of their genes: `G03+G19` is `G19+G03`." in turned.notes
    assert not any("Doubles" in note or "not scored" in note for note in same.notes)


def test_both_orders_of_a_double_on_one_side_are_pooled(world):
    predicted, truth = world.predicted(), world.truth.copy()
    truth.obs["gene"] = truth.obs["gene"].astype(str).replace({"G03": "G03+G19", "G04": "G19+G03"})
    predicted = predicted[predicted.obs["target_gene"] != "G04"].copy()
    predicted.obs["target_gene"] = predicted.obs["target_gene"].astype(str).replace({"G03": "G19+G03"})
    stored = predicted.uns["stateshift"]["baselines"]
    stored["target_gene"] = np.array(["G19+G03" if t == "G03" else t for t in stored["target_gene"]])
    scores = evaluate(predicted, truth).scores
    double = scores[scores["perturbation"] == "G19+G03"]
    assert double["n_true"].unique().tolist() == [24]
    assert "G03+G19" not in set(scores["perturbation"])
    cells = truth.X.toarray()
    k562 = (truth.obs["cell_line"] == "K562").to_numpy()
    both = k562 & truth.obs["gene"].isin(["G03+G19", "G19+G03"]).to_numpy()
    true = cells[both].mean(axis=0) - cells[k562 & (truth.obs["gene"] == "ctrl").to_numpy()].mean(axis=0)
    assert double[(double["context"] == "K562") & (double["model"] == "control")]["mae"].item() == pytest.approx(
        np.abs(true).mean(), abs=1e-5
    )


def test_a_reordered_prediction_is_scored_against_baselines_of_the_same_genes(world):
    predicted = world.predicted()
    predicted.uns["stateshift"]["baselines"]["genes"] = np.array(predicted.var_names, dtype=object)
    straight = evaluate(predicted, world.truth).scores.set_index(["context", "perturbation", "model"])
    turned = evaluate(predicted[:, ::-1].copy(), world.truth).scores.set_index(["context", "perturbation", "model"])
    pd.testing.assert_frame_equal(turned.drop(columns="route"), straight.drop(columns="route"), rtol=1e-9)


@pytest.mark.parametrize("name", ["evaluation.json", "scores.csv", "summary.csv"])
def test_a_damaged_evaluation_is_one_sentence(world, tmp_path, name):
    evaluate(world.predicted(), world.truth, output=tmp_path / "e")
    (tmp_path / "e" / name).write_text("{ damaged")
    with pytest.raises(StateshiftError, match="is damaged|holds a damaged or older evaluation"):
        Evaluation.load(tmp_path / "e")


def test_scores_that_are_no_numbers_and_facts_of_another_kind_are_a_sentence(world, tmp_path):
    evaluate(world.predicted(), world.truth, output=tmp_path / "e")
    about = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    half = {"level": 0.9, "by": [{"regime": "all", "pairs": 3}]}
    for key, value in {
        "notes": 1,
        "columns": {"control": "c"},
        "intervals": half,
        "genes": "20",
        "predicted": [],
    }.items():
        (tmp_path / "e" / "evaluation.json").write_text(json.dumps(about | {key: value}))
        with pytest.raises(StateshiftError, match=f"`{key}` of evaluation.json is of another kind"):
            Evaluation.load(tmp_path / "e")
    (tmp_path / "e" / "evaluation.json").write_text(json.dumps(about))
    summary = (tmp_path / "e" / "summary.csv").read_text()
    for other in (summary.replace("all contexts", "all", 1), re.sub(r",0\.(\d+),", r",0.5\1,", summary, count=1)):
        (tmp_path / "e" / "summary.csv").write_text(other)
        with pytest.raises(StateshiftError, match=r"summary.csv does not hold the means of scores.csv"):
            Evaluation.load(tmp_path / "e")
    (tmp_path / "e" / "summary.csv").write_text(summary)
    scores = pd.read_csv(tmp_path / "e" / "scores.csv", dtype={"mae": object})
    scores.loc[0, "mae"] = "=cmd()"
    scores.to_csv(tmp_path / "e" / "scores.csv", index=False)
    with pytest.raises(StateshiftError, match="`mae` of scores.csv holds no numbers"):
        Evaluation.load(tmp_path / "e")


def test_singles_beside_a_control_of_another_name_than_the_truths_are_matched(world):
    plain = world.predicted()
    plain = plain[plain.obs["target_gene"] != "ctrl"].copy()
    del plain.uns["stateshift"]["baselines"], plain.uns["stateshift"]["control"]
    told = plain.copy()
    told.obs["target_gene"] = [f"{gene}+NTC" for gene in told.obs["target_gene"]]
    scores = [evaluate(predicted, world.truth).scores for predicted in (plain, told)]
    pd.testing.assert_frame_equal(*scores)
