"""Fit, predict and score tables of calls as a user does."""

from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pytest

from stateshift.effects.calls import fit_effects, load_effects, predict_effects, score_effects
from stateshift.errors import InputProblems, StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.files import sha256


@pytest.fixture(scope="module")
def fitted(made, tmp_path_factory):
    """The stack fitted on the made table, and its scores of every target."""
    folder = tmp_path_factory.mktemp("fitted")
    fit_effects(made.calls, made.features, folder / "model", response_features=made.responses)
    (folder / "genes.txt").write_text("\n".join(f"T{i}" for i in range(60)) + "\n")
    predict_effects(folder / "model", folder / "genes.txt", folder / "scores.csv")
    return folder


def test_unseen_targets_are_told_apart_in_every_context(fitted, made):
    table = score_effects(fitted / "scores.csv", made.calls)
    assert table["context"].tolist() == ["x", "y"]
    assert (table["score"] > 0.63).all()
    assert (table["low"] > 0.5).all()
    assert (table["low"] < table["score"]).all()
    assert (table["score"] < table["high"]).all()


def test_scores_of_labels_are_probabilities_that_hold_on_average(fitted, made):
    scores = pd.read_csv(fitted / "scores.csv")
    calls = pd.read_csv(made.calls).rename(columns={"pert": "perturbation"})
    both = calls[calls["split"] == "test"].merge(scores, on=["perturbation", "context", "gene"])
    assert scores["score"].between(0, 1).all()
    assert both["score"].mean() == pytest.approx(both["label"].mean(), abs=0.05)
    likely = both[both["score"] > 0.7]
    assert likely["label"].mean() > 0.65


def test_permuted_features_tell_nothing(made, tmp_path):
    features = FeatureTable.load(made.features)
    rng = np.random.default_rng(3)
    FeatureTable(features.genes, rng.permutation(features.vectors), {}).save(tmp_path / "f.pt")
    fit_effects(made.calls, tmp_path / "f.pt", tmp_path / "m", response_features=made.responses)
    (tmp_path / "g.txt").write_text("\n".join(features.genes))
    predict_effects(tmp_path / "m", tmp_path / "g.txt", tmp_path / "s.csv")
    assert score_effects(tmp_path / "s.csv", made.calls)["score"].mean() < 0.6


def test_which_genes_are_asked_about_changes_no_prediction(fitted, made, tmp_path):
    rows = made.calls.read_text().splitlines()
    fewer = [row for row in rows if not row.endswith("test") or row.split(",")[1] == "G0"]
    (tmp_path / "calls.csv").write_text("\n".join(fewer) + "\n")
    fit_effects(tmp_path / "calls.csv", made.features, tmp_path / "m", response_features=made.responses)
    (tmp_path / "g.txt").write_text("T0\nT1\n")
    again = predict_effects(tmp_path / "m", tmp_path / "g.txt", tmp_path / "s.csv")
    before = pd.read_csv(fitted / "scores.csv")
    both = before.merge(again, on=["perturbation", "context", "gene"])
    assert len(both) == len(again) == 2 * 2 * 40
    np.testing.assert_allclose(both["score_x"], both["score_y"], atol=1e-4)


def test_a_kept_model_predicts_as_it_did_and_its_folder_can_move(fitted, tmp_path):
    (fitted / "model").rename(tmp_path / "elsewhere")
    try:
        (tmp_path / "g.txt").write_text("T3\nT0+T1\n")
        frame = predict_effects(tmp_path / "elsewhere", tmp_path / "g.txt", tmp_path / "s.csv", context="x")
    finally:
        (tmp_path / "elsewhere").rename(fitted / "model")
    before = pd.read_csv(fitted / "scores.csv").query("perturbation == 'T3' and context == 'x'")
    np.testing.assert_allclose(frame["score"][:40], before["score"], atol=1e-5)
    assert frame["perturbation"].unique().tolist() == ["T3", "T0+T1"]
    assert {p.suffix for p in (fitted / "model").iterdir()} == {".json", ".npz", ".pt"}


def test_routes_tell_what_a_prediction_rests_on(fitted, tmp_path, caplog):
    (tmp_path / "g.txt").write_text("T4\nT0\nUNKNOWN\n")
    with caplog.at_level(logging.WARNING):
        frame = predict_effects(fitted / "model", tmp_path / "g.txt", tmp_path / "s.csv", context="x")
    routes = dict(zip(frame["perturbation"], frame["route"]))
    assert routes == {"T4": "transfer", "T0": "features", "UNKNOWN": "fallback"}
    assert "1 of 3 perturbations have no features" in caplog.text


def test_a_tested_target_leaves_training_in_every_context_under_any_name(tmp_path, made):
    rows = ["pert,gene,label,context,split"]
    rows += [f"{t},G{j},{(i + j) % 2},x,train" for i, t in enumerate(["T1", "T2", "T5", "T6"]) for j in range(6)]
    rows += [f"T9,G{j},{j % 2},y,test" for j in range(6)] + [f"OLD9,G{j},{j % 2},x,train" for j in range(6)]
    rows += [f"T9,G{j},{j % 2},x,train" for j in range(6)]
    (tmp_path / "c.csv").write_text("\n".join(rows) + "\n")
    columns = ["symbol", "alias_symbol", "prev_symbol", "ensembl_gene_id"]
    (tmp_path / "hgnc.txt").write_text("\t".join(columns) + "\nT9\t\tOLD9\tENSG00000000009\n")
    model = fit_effects(tmp_path / "c.csv", made.features, tmp_path / "m", aliases=tmp_path / "hgnc.txt")
    assert model.about["left_out_of_training"] == ["OLD9", "T9"]
    assert set(model.train.perturbations) == {"T1", "T2", "T5", "T6"}
    seen = fit_effects(tmp_path / "c.csv", made.features, tmp_path / "c", regime="C")
    assert {"T9", "OLD9"} <= set(seen.train.perturbations)


def test_values_are_predicted_on_their_own_scale(tmp_path, made):
    features = FeatureTable.load(made.features)
    rng = np.random.default_rng(0)
    effect = features.vectors @ rng.standard_normal((4, 25)) + rng.standard_normal(25)
    values = pd.DataFrame(effect, index=features.genes, columns=[f"G{j}" for j in range(25)])
    long = values.rename_axis("perturbation").reset_index().melt("perturbation", var_name="gene", value_name="value")
    long["split"] = np.where(long["perturbation"].isin(features.genes[:10]), "test", "train")
    long.to_csv(tmp_path / "v.csv", index=False)
    model = fit_effects(tmp_path / "v.csv", made.features, tmp_path / "m")
    assert model.about["members"] == ["knn", "ridge", "strength"]
    (tmp_path / "g.txt").write_text("\n".join(features.genes[:10]))
    frame = predict_effects(tmp_path / "m", tmp_path / "g.txt", tmp_path / "s.csv")
    predicted = frame.pivot(index="perturbation", columns="gene", values="score").loc[
        features.genes[:10], values.columns
    ]
    errors = predicted.to_numpy() - effect[:10]
    assert (errors**2).mean() < 0.1 * effect[:10].var()
    assert score_effects(tmp_path / "s.csv", tmp_path / "v.csv")["score"][0] > 0.9


def test_features_made_of_the_table_itself_are_refused(made, tmp_path):
    told = {"source": "screen", "measured_effects": True, "lookup_sha256": sha256(made.calls)}
    table = FeatureTable.load(made.features)
    FeatureTable(table.genes, table.vectors, told).save(tmp_path / "s.pt")
    FeatureTable(table.genes, table.vectors, {"source": "fusion", "parts": [{"provenance": told}]}).save(
        tmp_path / "f.pt"
    )
    for name in ("s.pt", "f.pt"):
        with pytest.raises(StateshiftError, match="holds the effects that are to be predicted"):
            fit_effects(made.calls, tmp_path / name, tmp_path / "m")


def test_a_misspelt_model_or_regime_and_an_existing_output_are_refused(made, tmp_path):
    with pytest.raises(StateshiftError, match="did you mean `smoother`"):
        fit_effects(made.calls, made.features, tmp_path / "m", model="smother")
    with pytest.raises(StateshiftError, match="--regime J"):
        fit_effects(made.calls, made.features, tmp_path / "m", regime="J")
    assert not (tmp_path / "m").exists()
    (tmp_path / "m").mkdir()
    with pytest.raises(StateshiftError, match="exists already"):
        fit_effects(made.calls, made.features, tmp_path / "m")


def test_targets_without_any_features_are_refused(made, tmp_path):
    FeatureTable(["Z1", "Z2"], [[1.0, 0], [0, 1]]).save(tmp_path / "z.pt")
    with pytest.raises(StateshiftError, match="None of the 44 trained targets has features"):
        fit_effects(made.calls, tmp_path / "z.pt", tmp_path / "m")


def test_a_gene_that_no_target_with_features_measures_keeps_its_mean(tmp_path):
    targets = [f"T{i}" for i in range(12)]
    FeatureTable(targets, [[i % 2, 1 - i % 2] for i in range(12)]).save(tmp_path / "f.pt")
    rows = [(t, g, float(i % 2)) for i, t in enumerate(targets) for g in ("G1", "G2")] + [("unknown", "G3", 9.0)]
    pd.DataFrame(rows, columns=["perturbation", "gene", "value"]).to_csv(tmp_path / "v.csv", index=False)
    (tmp_path / "g.txt").write_text("T0\n")
    overall = (12 + 9) / 25
    for model in ("knn", "ridge"):
        fit_effects(tmp_path / "v.csv", tmp_path / "f.pt", tmp_path / model, model=model)
        found = predict_effects(tmp_path / model, tmp_path / "g.txt", tmp_path / f"{model}.csv")
        scores = found.set_index("gene")["score"]
        assert scores["G3"] == pytest.approx((9 + 5 * overall) / 6, rel=1e-5)
        assert scores["G1"] < (6 + 5 * overall) / 17 - 0.3


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(f"T{i}", "G1", 0, "train") for i in range(4)] + [("T4", "G1", 1, "test")], "are all labelled 0"),
        ([(f"T{i}", f"G{i}", i % 2, "train") for i in range(4)], "are none"),
    ],
)
def test_training_pairs_that_weigh_nothing_are_refused(tmp_path, made, rows, told):
    columns = ["perturbation", "gene", "label", "split"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(StateshiftError, match=told):
        fit_effects(tmp_path / "c.csv", made.features, tmp_path / "m", model="neighbours")


def test_a_damaged_model_is_told(fitted, tmp_path):
    (tmp_path / "g.txt").write_text("T3\n")
    with pytest.raises(StateshiftError, match="holds no effect model"):
        predict_effects(tmp_path, tmp_path / "g.txt", tmp_path / "s.csv")
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(StateshiftError, match=r"model\.json is damaged"):
        load_effects(tmp_path)
    about = json.loads((fitted / "model" / "model.json").read_text())
    assert about["regime"] == "T"
    for changes in ({"scales": 0}, {"weights": [1e308]}, {"intercept": "x"}, {"of_mean": None}):
        weighing = {"": about["weighing"][""] | changes}
        (tmp_path / "model.json").write_text(json.dumps(about | {"weighing": weighing}))
        with pytest.raises(StateshiftError, match=r"model\.json is damaged: .* Fit anew\."):
            load_effects(tmp_path)


def test_pairs_that_were_not_predicted_are_counted(fitted, made, tmp_path):
    scores = pd.read_csv(fitted / "scores.csv")
    scores[scores["gene"] != "G3"].to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(InputProblems, match=r"pairs are not predicted, as T\d+ on G3"):
        score_effects(tmp_path / "s.csv", made.calls)
    for text, said in (
        ("T1,c,g,x\n", "`score` is no number in 1 lines"),
        ("T1,c,g,1,2,3\n" * 2, "more fields than its header"),
    ):
        (tmp_path / "s.csv").write_text("perturbation,context,gene,score\n" + text)
        with pytest.raises(StateshiftError, match=said):
            score_effects(tmp_path / "s.csv", made.calls)
