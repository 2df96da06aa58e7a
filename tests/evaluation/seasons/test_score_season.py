"""A whole prediction by a season's score: contexts, files, given anchors, the command, and bad input."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from stateshift.cli.main import app
from stateshift.errors import InputProblems, StateshiftError
from stateshift.evaluation.seasons import score_2025, score_2026, score_season, season_sentences

ENDS = pd.DataFrame(
    {"baseline": [0.5, 1.0, 1.2, 0.3, 0.1, 0.1], "replicate": [0.9, 0.2, 0.5, 0.7, 0.8, 0.5]},
    index=pd.Index(
        ["pds_cosine", "mse", "lfc_nmae", "direction_fidelity", "direction_reach", "jaccard"], name="member"
    ),
)


def in_two_contexts(adata: ad.AnnData) -> ad.AnnData:
    """The cells as K562, and without g5 as RPE1, shuffled together."""
    parts = {"K562": adata, "RPE1": adata[adata.obs["target_gene"] != "g5"]}
    both = ad.concat(parts, label="context", index_unique="-")
    return both[np.random.default_rng(0).permutation(both.n_obs)].copy()


@pytest.fixture
def anchors(panel, tmp_path):
    """An earlier score's folder of two contexts and a single one."""
    (tmp_path / "ends").mkdir()
    names = ("K562", "RPE1", "all cells", "a", "b")
    pd.concat([ENDS.reset_index().assign(context=name) for name in names]).to_csv(
        tmp_path / "ends" / "members.csv", index=False
    )
    effects = score_2026(panel.without_controls(), panel.truth, anchors=ENDS).table["effect"].reset_index()
    effects = pd.concat([effects.assign(context=name) for name in names])
    effects = effects[(effects["context"] != "RPE1") | (effects["perturbation"] != "g5")]
    effects.to_csv(tmp_path / "ends" / "perturbations.csv", index=False)
    return tmp_path / "ends"


def test_anchors_of_another_truth_are_refused(panel, anchors):
    other = with_value(panel.truth, 40)
    with pytest.raises(StateshiftError, match="holds the anchors of another truth"):
        score_season(panel.without_controls(), other, "2026", anchors=anchors)
    kept, less = (side[side.obs["target_gene"] != "g3"].copy() for side in (panel.without_controls(), panel.truth))
    with pytest.raises(StateshiftError, match="holds the anchors of another truth"):
        score_season(kept, less, "2026", anchors=anchors)


def test_each_context_is_scored_against_its_own_controls_and_the_mean_counts(panel, anchors):
    found = score_season(
        in_two_contexts(panel.without_controls()), in_two_contexts(panel.truth), "2026", anchors=anchors
    )
    one = score_2026(panel.without_controls(), panel.truth, anchors=ENDS)
    without = panel.truth[panel.truth.obs["target_gene"] != "g5"].copy()
    other = score_2026(panel.predicted[panel.predicted.obs["target_gene"] != "g5"].copy(), without, anchors=ENDS)
    rows = found.members.set_index(["context", "member"])
    assert rows.loc["K562", "value"].to_dict() == pytest.approx(one.members["value"].to_dict())
    assert rows.loc["RPE1", "value"].to_dict() == pytest.approx(other.members["value"].to_dict())
    assert found.score == pytest.approx((one.score + other.score) / 2)
    assert found.perturbations.groupby("context").size().to_dict() == {"K562": 7, "RPE1": 6}


def test_problems_of_all_contexts_are_told_at_once(panel):
    predicted = in_two_contexts(panel.without_controls())
    gone = {("RPE1", "g3"), ("K562", "g4"), ("RPE1", "g2"), ("K562", "g2")}
    kept = [pair not in gone for pair in zip(predicted.obs["context"], predicted.obs["target_gene"])]
    with pytest.raises(InputProblems) as error:
        score_season(predicted[kept].copy(), in_two_contexts(panel.truth), "2026")
    assert error.value.problems == [
        "K562: the two sides of the score: 2 perturbations of the truth are not predicted: g2, g4",
        "RPE1: the two sides of the score: 2 perturbations of the truth are not predicted: g2, g3",
    ]
    with pytest.raises(InputProblems) as error:
        score_season(predicted[:, 1:].copy(), in_two_contexts(panel.truth), "2026")
    assert error.value.problems == ["the prediction: 1 genes of the truth are absent: g0"]


def test_a_file_a_context_and_one_file_give_the_same(panel, anchors, tmp_path):
    for name, side in (("truth", panel.truth), ("predicted", panel.without_controls())):
        (tmp_path / name).mkdir()
        for context in ("a", "b"):
            side.write_h5ad(tmp_path / name / f"{context}.h5ad")
    sides = [[tmp_path / name / f"{context}.h5ad" for context in ("a", "b")] for name in ("predicted", "truth")]
    several = score_season(*sides, "2026", anchors=anchors)
    one = score_season(panel.without_controls(), panel.truth, "2026", anchors=anchors)
    assert list(several.contexts) == ["a", "b"]
    assert several.score == pytest.approx(one.score)
    with pytest.raises(StateshiftError, match="the prediction: obs has no column `context` to tell"):
        score_season(sides[0][0], sides[1], "2026", anchors=anchors)


def test_the_command_shows_both_ends_of_the_scale_and_writes_tables_that_a_later_score_takes(panel, tmp_path):
    panel.truth.write_h5ad(tmp_path / "truth.h5ad")
    panel.without_controls().write_h5ad(tmp_path / "predicted.h5ad")
    command = ["challenge", "score", str(tmp_path / "predicted.h5ad"), "--truth", str(tmp_path / "truth.h5ad")]
    command += ["--season", "2026"]
    first = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "scores")], catch_exceptions=False)
    again = CliRunner().invoke(app, [*command, "--anchors", str(tmp_path / "scores")], catch_exceptions=False)
    members = pd.read_csv(tmp_path / "scores" / "members.csv")
    assert f"score {members['score'].mean():.4f}." in first.output
    assert "replicate (1)" in first.output
    shown, shown_again = (
        run.output[run.output.index("the challenge's score") :].splitlines() for run in (first, again)
    )
    assert shown[:-1] == shown_again
    assert pd.read_csv(tmp_path / "scores" / "perturbations.csv")["perturbation"].tolist() == [
        f"g{i}" for i in range(7)
    ]


def test_of_2025_everything_that_was_measured_is_told(panel, tmp_path):
    panel = panel.log1p()
    found = score_season(panel.predicted, panel.truth, "2025", energy=True, output=tmp_path / "scores")
    expected = score_2025(panel.predicted, panel.truth, energy=True)
    assert found.score == expected.score == pytest.approx(found.members["score"].mean())
    means = pd.read_csv(tmp_path / "scores" / "means.csv").set_index("context").loc["all cells"]
    assert means.to_dict() == pytest.approx(expected.means.to_dict())
    with pytest.raises(StateshiftError, match="scores exists already"):
        score_season(panel.predicted, panel.truth, "2025", output=tmp_path / "scores")


def test_a_member_that_one_perturbation_gives_no_value_is_told(panel):
    panel = panel.log1p()
    sides = [
        side[side.obs["target_gene"].isin(["g3", "non-targeting"])].copy() for side in (panel.predicted, panel.truth)
    ]
    found = score_season(*sides, "2025")
    assert found.members.set_index("member")["score"]["pds_l1"] == 0
    said = season_sentences(found)[1]
    assert said == "all cells: so few perturbations or responding genes give no PDS, which counts as the worst."
    whole = score_season(panel.predicted, panel.truth, "2025")
    assert not any("counts as the worst" in sentence for sentence in season_sentences(whole))


def test_no_threads_are_refused(panel):
    with pytest.raises(StateshiftError, match="--threads 0: one or more"):
        score_season(panel.predicted, panel.truth, "2026", threads=0)


def renamed(adata: ad.AnnData, **names: str) -> ad.AnnData:
    found = adata.copy()
    found.obs["target_gene"] = [names.get(label, label) for label in found.obs["target_gene"]]
    return found


def some_renamed(adata: ad.AnnData, label: str, new: str) -> ad.AnnData:
    found = adata.copy()
    at = np.flatnonzero(found.obs["target_gene"] == label)[:2]
    labels = found.obs["target_gene"].to_numpy(dtype=object)
    labels[at] = new
    found.obs["target_gene"] = labels
    return found


def with_value(adata: ad.AnnData, value: float) -> ad.AnnData:
    found = adata.copy()
    X = found.X.toarray()
    X[np.flatnonzero(found.obs["target_gene"] == "g4")[3], 5] = value
    found.X = csr_matrix(X)
    return found


def all_zero(adata: ad.AnnData) -> ad.AnnData:
    found = adata.copy()
    found.X = csr_matrix(found.shape, dtype=np.float32)
    return found


@pytest.mark.parametrize("season", ["2025", "2026"])
@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda a: a[a.obs["target_gene"] != "g3"].copy(), "1 perturbations of the truth are not predicted: g3"),
        (lambda a: a[:, :-3].copy(), "3 genes of the truth are absent: g237, g238, g239"),
        (lambda a: renamed(a, g4="g4 "), "the two sides spell one label in several ways: 'g4', 'g4 '"),
        (lambda a: some_renamed(a, "g4", "G4"), "obs `target_gene` spells one label in several ways: 'G4', 'g4'"),
        (lambda a: with_value(a, np.nan), "the prediction: g4: values are negative, NaN or infinite"),
        (lambda a: with_value(a, -1.0), "the prediction: g4: values are negative, NaN or infinite"),
        (lambda a: with_value(a, np.inf), "g4: values are"),
        (all_zero, "the prediction: g0: every (value|count) of every cell is 0"),
    ],
    ids=["perturbation", "genes", "blank", "capital", "NaN", "negative", "infinite", "zero"],
)
def test_a_bad_prediction_is_refused_with_what_is_wrong(panel, anchors, season, spoilt, said):
    panel = panel.log1p() if season == "2025" else panel
    with pytest.raises(StateshiftError, match=said):
        score_season(
            spoilt(panel.without_controls()), panel.truth, season, anchors=anchors if season == "2026" else None
        )


def test_counts_and_log_values_are_not_taken_for_each_other(panel, anchors):
    counts, log1p = panel, panel.log1p()
    for predicted, truth, said in (
        (counts.predicted, log1p.truth, "the prediction: g0: values are whole numbers"),
        (log1p.predicted, counts.truth, "the truth's controls: values are whole numbers"),
    ):
        with pytest.raises(StateshiftError, match=said):
            score_season(predicted, truth, "2025")
    for predicted, truth, said in (
        (counts.predicted, log1p.truth, "the truth's controls: values are no whole counts"),
        (log1p.predicted, counts.truth, "the prediction: g0: values are no whole counts"),
    ):
        with pytest.raises(StateshiftError, match=said):
            score_season(predicted, truth, "2026", anchors=anchors)


def test_one_cell_in_a_group_is_scored_and_a_truth_without_controls_is_not(panel, anchors):
    single = panel.without_controls()
    kept = np.ones(single.n_obs, bool)
    kept[np.flatnonzero(single.obs["target_gene"] == "g4")[1:]] = False
    found = score_season(single[kept].copy(), panel.truth, "2026", anchors=anchors)
    assert np.isfinite(found.perturbations.set_index("perturbation").loc["g4", "error"])
    bare = panel.truth[panel.truth.obs["target_gene"] != "non-targeting"].copy()
    with pytest.raises(InputProblems, match="the truth has no control `non-targeting`"):
        score_season(panel.predicted, bare, "2026", anchors=anchors)


def test_what_a_season_has_not_is_said(panel, anchors):
    with pytest.raises(StateshiftError, match="no score of the season `2027`"):
        score_season(panel.predicted, panel.truth, "2027")
    with pytest.raises(StateshiftError, match="2025 has no anchors"):
        score_season(panel.predicted, panel.truth, "2025", anchors=anchors)
    with pytest.raises(StateshiftError, match="belong to 2025"):
        score_season(panel.predicted, panel.truth, "2026", energy=True)
    there = panel.truth.copy()
    there.obs["context"] = "HepG2"
    with pytest.raises(InputProblems, match="contexts of the truth are not predicted: HepG2"):
        score_season(in_two_contexts(panel.without_controls()), there, "2026", anchors=anchors)
    with pytest.raises(StateshiftError, match="holds no anchors of HepG2: it has K562"):
        score_season(panel.without_controls(), there, "2026", anchors=anchors)


def test_numbers_of_half_precision_are_scored_like_any(panel, tmp_path):
    paths = {}
    for side, cells in (("pred", panel.without_controls()), ("truth", panel.truth)):
        halves = ad.AnnData(
            np.asarray(cells.X.todense() if hasattr(cells.X, "todense") else cells.X), cells.obs, cells.var
        )
        assert halves.X.max() < 2048  # whole numbers that half precision holds
        halves.X = halves.X.astype(np.float16)
        paths[side] = tmp_path / f"{side}.h5ad"
        halves.write_h5ad(paths[side])
    found = score_season([paths["pred"]], [paths["truth"]], "2026", anchors=None)
    whole = score_season([panel.without_controls()], [panel.truth], "2026", anchors=None)
    pd.testing.assert_frame_equal(
        next(iter(found.contexts.values())).table, next(iter(whole.contexts.values())).table, rtol=1e-6
    )
