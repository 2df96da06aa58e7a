"""Floor, ceiling, tiers, harm, a second prediction, own controls: worked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from stateshift.cells import EffectTable, write_effects
from stateshift.cli.main import app
from stateshift.errors import StateshiftError
from stateshift.evaluation import ceiling_sentences, evaluate, sentences
from stateshift.evaluation.ceilings import add_reliability, ceilings_and_floors, replicate_scores, tiers
from stateshift.evaluation.pairing import Pairing
from stateshift.metrics import paired_bootstrap


def pairing_of(halves, n_true=20, n_controls=20, perturbations="AB"):
    halves = np.array(halves, dtype=np.float32)
    rows = pd.DataFrame({"context": "T", "perturbation": list(perturbations), "n_true": n_true})
    genes = [f"g{i}" for i in range(halves.shape[2])]
    true = halves.mean(axis=0)
    return Pairing(genes, rows, true, {}, halves={"true": halves}, n_controls=np.full(len(rows), n_controls))


def test_one_half_of_the_truth_is_scored_against_the_other():
    """A's halves are (1, 0, −1) and (1, 1, −2), B's (2, 0, 0) and (0, 0, 0), which correlates with nothing."""
    found = replicate_scores(pairing_of([[[1, 0, -1], [2, 0, 0]], [[1, 1, -2], [0, 0, 0]]])).set_index("perturbation")
    assert found.loc["A", "pearson_delta"] == pytest.approx(3 / np.sqrt(2 * 6))
    assert np.isnan(found.loc["B", "pearson_delta"])
    assert found.loc["A", "mae"] == pytest.approx((0 + 1 + 1) / 3 / np.sqrt(2))
    assert found.loc["A", "mse"] == pytest.approx((0 + 1 + 1) / 3 / 2)
    # from A's first half (1, 0, −1): to A's second 2, to B's 2, a tie; from B's (2, 0, 0): to A's 4, to its own 2
    assert found["pds_l1"].tolist() == [0.75, 1.0]


def test_errors_of_a_second_experiment_are_those_of_whole_experiments():
    rng = np.random.default_rng(0)
    G, n = 20000, 50
    first, second = (rng.normal(0, 1 / np.sqrt(n), (1, G)) for _ in range(2))
    halves = rng.normal(0, 1 / np.sqrt(n / 2), (2, 1, G))
    found = replicate_scores(pairing_of(halves, perturbations="A"))
    assert found["mse"].item() == pytest.approx(np.mean((first - second) ** 2), rel=0.05)
    assert found["mae"].item() == pytest.approx(np.mean(np.abs(first - second)), rel=0.05)


def test_gap_harm_floor_and_ceiling_worked_by_hand():
    def rows(model, values, errors):
        return pd.DataFrame(
            {"context": "T", "perturbation": list("ABCD"), "model": model, "pearson_delta": values, "mae": errors}
        ).assign(mse=np.nan, pds_l1=np.nan, pds_cosine=np.nan)

    scores = pd.concat(
        [
            rows("ours", [0.5, 0.7, 0.1, 0.3], [1, 1, 1, 3]),
            rows("mean", [0.9] * 4, [0] * 4),
            rows("context_mean", [0.2] * 4, [2] * 4),
        ]
    )
    replicate = rows("", [1 / 3, 1 / 3, np.nan, 1 / 3], [0.5, 0.5, 0.5, 0.5]).drop(columns="model")
    found = ceilings_and_floors(scores, replicate).set_index("metric")
    assert found["floor_name"].unique().tolist() == ["context_mean"]
    pearson, mae = found.loc["pearson_delta"], found.loc["mae"]
    assert (pearson["score"], pearson["floor"]) == pytest.approx((0.4, 0.2))
    # halves of 1/3 are 2/3 / (4/3) of whole experiments
    assert pearson["ceiling"] == pytest.approx(0.5)
    assert pearson["gap_closed"] == pytest.approx((0.4 - 0.2) / (0.5 - 0.2))
    assert (pearson["harm"], pearson["pairs"]) == (0.25, 4)
    assert (mae["score"], mae["gap_closed"], mae["harm"]) == pytest.approx((1.5, 0.5 / 1.5, 0.25))
    assert np.isnan(found.loc["mse", "gap_closed"])


def test_there_is_no_share_of_a_gap_where_the_floor_is_as_good_as_a_second_experiment():
    scores = pd.DataFrame({"context": "T", "perturbation": ["A", "A"], "model": ["ours", "control"]})
    scores = scores.assign(pearson_delta=[0.6, 0.5], mae=[1.0, 1.0], mse=1.0, pds_l1=0.5, pds_cosine=0.5)
    halves = pd.DataFrame({"context": "T", "perturbation": ["A"], "pearson_delta": [1 / 3]})
    found = ceilings_and_floors(scores, halves.assign(mae=1.2, mse=1.0, pds_l1=0.9, pds_cosine=0.5)).set_index("metric")
    assert found.loc["pearson_delta", "ceiling"] == pytest.approx(0.5)
    assert found["gap_closed"].isna().tolist() == [True, True, True, False, True]


def test_pairs_are_tiered_by_how_well_they_repeat():
    """Whole effects repeat by 2r / (1 + r) of their halves' r: 2/3 gives 0.8, 1/3 gives 0.5."""
    base, other = np.array([1.0, -1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, -1.0])
    second = [r * base + np.sqrt(1 - r * r) * other for r in (0.67, 0.65, 0.34, 0.32, -0.5)]
    pairing = pairing_of([[base] * 5, second], perturbations="ABCDE")
    scores = pd.DataFrame({"context": "T", "perturbation": list("ABCDE"), "model": "ours", "pearson_delta": range(5)})
    scores = add_reliability(scores.assign(mae=1.0, mse=1.0, pds_l1=1.0, pds_cosine=1.0), pairing)
    assert scores["tier"].tolist() == ["strong", "medium", "medium", "weak", "weak"]
    assert scores["reliability"].tolist() == pytest.approx([0.67, 0.65, 0.34, 0.32, -0.5], abs=1e-6)
    found = tiers(scores)
    assert found[["tier", "pairs", "pearson_delta"]].to_numpy().tolist() == [
        ["strong", 1, 0.0], ["medium", 2, 1.5], ["weak", 2, 3.5],
    ]  # fmt: skip
    few = add_reliability(
        scores.drop(columns=["reliability", "tier"]), pairing_of([[base] * 5, second], 20, 9, "ABCDE")
    )
    assert few["tier"].tolist() == [""] * 5


def test_a_replicate_closes_the_gap_and_half_of_an_effect_a_part_of_it(world):
    near = evaluate(world.predicted(noise=0.0), world.truth)
    row = near.ceilings.set_index(["context", "metric"]).loc[("all contexts", "pearson_delta")]
    assert row["floor_name"] == "mean"
    assert row["gap_closed"] > 0.9
    assert row["harm"] == 0
    assert near.ceilings.loc[near.ceilings["metric"] == "mae", "gap_closed"].gt(0.5).all()
    assert set(near.scores["tier"]) == {"strong"}
    said = " ".join(ceiling_sentences(near))
    assert f"makes {row['gap_closed']:.0%} of the way" in said
    assert "Pearson delta by how well the measured effects repeat: strong" in said


def test_a_replicate_no_better_than_the_floor_is_said_to_leave_no_gap(world):
    found = evaluate(world.predicted(noise=0.0), world.truth)
    of = found.ceilings["metric"] == "pearson_delta"
    found.ceilings.loc[of, ["floor", "ceiling", "gap_closed"]] = 0.606, 0.598, np.nan
    said = ceiling_sentences(found)[0]
    assert said.startswith(
        "Pearson delta of a second experiment of the same size (0.598) is no better than that of the floor, mean (0.606), "
        f"so there is no gap to close: {found.model} ("
    )
    assert said.endswith(") is worse than the floor on 0% of 12 pairs.")
    found.ceilings.loc[of, "ceiling"] = np.nan
    assert "a second experiment of the same size (–), is not known, so there is no gap" in ceiling_sentences(found)[0]


def test_two_predictions_are_compared_pair_by_pair(world):
    first, second = world.predicted(noise=0.1), world.predicted(fraction=0.4, noise=0.3, seed=2)
    found = evaluate(first, world.truth, against=second)
    other = found.about["against"]
    assert other == "state_tiny (second)"
    assert found.baselines == ["control", "mean"]
    wide = found.scores.pivot(index=["context", "perturbation"], columns="model", values="mae")
    alone = evaluate(second, world.truth).scores
    ours = alone[alone["model"] == "state_tiny"].set_index(["context", "perturbation"])["mae"]
    assert np.allclose(wide[other], ours.loc[wide.index])
    row = found.summary.set_index(["context", "model", "metric"]).loc[("all contexts", other, "mae")]
    expected = paired_bootstrap(wide["state_tiny"], wide[other], wide.index.get_level_values("perturbation"))
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((expected.mean, expected.low, expected.high))
    assert sentences(found)[1].startswith(f"MAE: state_tiny is better than {other}: difference −0".replace("−", "-"))


def test_a_second_prediction_of_fewer_pairs_in_another_order_of_genes_is_scored_on_what_both_hold(world):
    second = world.predicted()[:, ::-1].copy()
    second = second[second.obs["target_gene"] != "G01"].copy()
    second.uns["stateshift"]["baselines"]["genes"] = np.array(world.genes, dtype=object)
    found = evaluate(world.predicted(), world.truth, against=second)
    assert set(found.scores["perturbation"]) == {"G00", "G02", "G03", "G04", "G05"}
    assert "state_tiny (second) lacks 2 pairs, which are scored for no model: G01 in K562, G01 in RPE1." in found.notes
    same = found.scores.pivot(index=["context", "perturbation"], columns="model", values="mae")
    assert np.allclose(same["state_tiny"], same["state_tiny (second)"])


def test_a_second_prediction_of_other_genes_is_refused(world):
    second = world.predicted()[:, 2:].copy()
    del second.uns["stateshift"]["baselines"]
    with pytest.raises(StateshiftError, match=r"--against: the second prediction lacks G00, G01: cut both"):
        evaluate(world.predicted(), world.truth, against=second)


def test_with_their_own_controls_predicted_effects_are_measured_from_those(world):
    pushed = world.predicted(noise=0.0)
    pushed.X = pushed.X.toarray() + 0.25
    from_truth = evaluate(pushed, world.truth)
    own = evaluate(pushed, world.truth, controls="own")
    as_it_was = evaluate(world.predicted(noise=0.0), world.truth)

    def mae(found, model="state_tiny"):
        return found.scores.loc[found.scores["model"] == model, "mae"].to_numpy()

    assert mae(own) == pytest.approx(mae(as_it_was), abs=1e-6)
    assert mae(own, "control") == pytest.approx(mae(as_it_was, "control"), abs=1e-6)
    assert mae(from_truth).mean() > 0.2
    assert (own.about["controls"], from_truth.about["controls"]) == ("own", "truth")
    assert "altered controls" in set(own.flags["name"])
    without = pushed[~pushed.obs["is_control"].to_numpy()].copy()
    with pytest.raises(StateshiftError, match=r"state_tiny carries no control cells \(`ctrl`\) in K562, RPE1"):
        evaluate(without, world.truth, controls="own")
    with pytest.raises(StateshiftError, match="--controls mine: there are truth and own"):
        evaluate(pushed, world.truth, controls="mine")


def test_responding_genes_take_the_same_controls(world):
    from stateshift.evaluation.official import CONTROL, TARGET
    from stateshift.evaluation.seasons import score_2025

    pushed = world.predicted()
    pushed.X = pushed.X.toarray() + 0.25
    own = evaluate(pushed, world.truth, responses=True, controls="own").about["responses"]["K562"]

    def of_k562(adata, perturbation, context):
        adata = adata[(adata.obs[context] == "K562").to_numpy()].copy()
        adata.obs[TARGET] = adata.obs[perturbation].astype(str).replace("ctrl", CONTROL)
        return adata

    expected = score_2025(
        of_k562(pushed, "target_gene", "context"), of_k562(world.truth, "gene", "cell_line"), controls="own"
    )
    assert own["score"] == pytest.approx(expected.score)


def test_means_of_training_effects_stand_beside_a_prediction_without_baselines(world, tmp_path):
    plain = world.predicted()
    del plain.uns["stateshift"]["baselines"]
    pairs = [(c, "T1") for c in ("K562", "K562b")] + [("K562", "G00")]
    effects = np.arange(60, dtype=np.float32).reshape(3, 20)
    effects[[0, 2], 19] = -40.0
    table = EffectTable(
        world.genes, [p for _, p in pairs], [c for c, _ in pairs], effects, np.array([5] * 3), {}, scale="log1p"
    )
    write_effects(table, tmp_path / "effects.h5ad")
    found = evaluate(plain, world.truth, training=tmp_path / "effects.h5ad")
    assert found.baselines == ["control", "mean", "context_mean"]
    assert "effects.h5ad holds 1 pairs that are scored, which its means know: G00 in K562." in " ".join(found.notes)
    k562 = found.scores[(found.scores["context"] == "K562") & (found.scores["perturbation"] == "G01")]
    k562 = k562.set_index("model")["mae"]
    truth = world.truth.to_df().groupby([world.truth.obs["cell_line"], world.truth.obs["gene"]], observed=True).mean()
    true = truth.loc[("K562", "G01")] - truth.loc[("K562", "ctrl")]
    no_expression = -truth.loc[("K562", "ctrl")].to_numpy()
    in_context = np.maximum(effects[[0, 2]].mean(axis=0), no_expression)
    assert k562["context_mean"] == pytest.approx(np.abs(in_context - true).mean(), abs=1e-4)
    of_each = np.maximum((effects[:2].mean(axis=0) + effects[2]) / 2, no_expression)
    assert k562["mean"] == pytest.approx(np.abs(of_each - true).mean(), abs=1e-4)
    assert set(found.ceilings["floor_name"]) == {"context_mean"}
    with pytest.raises(StateshiftError, match="holds the baselines of its own training: leave --training out"):
        evaluate(world.predicted(), world.truth, training=tmp_path / "effects.h5ad")


def test_a_prediction_without_baselines_stands_beside_those_of_the_second(world):
    plain, second = world.predicted(noise=0.2, seed=3), world.predicted()
    del plain.uns["stateshift"]["baselines"]
    plain.uns["stateshift"]["model"] = "mine"
    second.uns["stateshift"]["baselines"]["genes"] = np.array(world.genes)
    expected = evaluate(second, world.truth).scores.query("model == 'mean'")
    # cutting and reordering an AnnData leaves the stored effects in the old order of genes
    found = evaluate(plain, world.truth, against=second[:, world.genes[::-1]].copy())
    assert found.baselines == ["control", "mean"]
    same = found.scores.query("model == 'mean'")
    np.testing.assert_allclose(same[["pearson_delta", "mae"]], expected[["pearson_delta", "mae"]], rtol=1e-5)
    assert "The baselines are those that state_tiny holds of its own training; mine holds none." in found.notes
    with pytest.raises(
        StateshiftError, match=r"control cells \(`ctrl`\) only: .* the truth's column of perturbations, or in"
    ):
        evaluate(plain[plain.obs["is_control"].to_numpy()].copy(), world.truth)


def test_the_command_prints_floor_ceiling_tiers_and_flags(world, tmp_path):
    pasted = world.predicted()
    X = pasted.X.toarray()
    for rows in pasted.obs.groupby(["context", "target_gene"], observed=True).indices.values():
        X[rows] = X[rows].mean(axis=0)
    pasted.X = X
    pasted.write_h5ad(tmp_path / "pasted.h5ad")
    world.predicted().write_h5ad(tmp_path / "good.h5ad")
    world.truth.write_h5ad(tmp_path / "real.h5ad")
    arguments = [
        "evaluate",
        tmp_path / "good.h5ad",
        "--truth",
        tmp_path / "real.h5ad",
        "--against",
        tmp_path / "pasted.h5ad",
    ]
    done = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    for said in ("between floor and ceiling", "strong (12)", "a second experiment", "Warning, pasted is pasted in G00"):
        assert said in done.output
