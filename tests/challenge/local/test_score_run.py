"""A run on its held-out targets by a season's score: the same as of files, beside baselines, with amplitudes."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix, vstack
from typer.testing import CliRunner

from stateshift.challenge import score_run
from stateshift.challenge.local.resampled import difference
from stateshift.cli.main import app
from stateshift.errors import StateshiftError
from stateshift.evaluation.seasons import score_2025, score_2026
from stateshift.feature_table import FeatureTable
from stateshift.prediction.effects import predict_effects
from stateshift.prediction.emission import Emitter, match_significance
from stateshift.prediction.prepared import Asked
from stateshift.training import train

GENES = [f"G{i:02d}" for i in range(60)]
TARGETS = GENES[:12]
VAL, TEST = TARGETS[6:8], TARGETS[8:]
FAST = [  # without the backbone, whose forests take most of the time
    "model=challenge", "model.start=effect", "model.hidden=8", "model.ffn=8", "model.heads=2", "model.layers=1", "model.encoder_layers=1",
    "model.decoder_layers=1", "model.set_size=16", "training.max_steps=2", "training.val_every=2",
]  # fmt: skip


def made_cells() -> ad.AnnData:
    """Whole counts of two lines, the second without the test targets' effects on a third of the genes."""
    rng = np.random.default_rng(3)
    effects = {t: rng.normal(0, 0.9, 60) * (rng.random(60) < 0.4) for t in TARGETS} | {"non-targeting": np.zeros(60)}
    blocks, rows = [], []
    for line, strength in (("H1", 1.0), ("K562", 0.7)):
        base = rng.gamma(1.5, 3.0, 60) + 0.5
        for label, effect in effects.items():
            n = 120 if label == "non-targeting" else 30
            blocks.append(csr_matrix(rng.poisson(base * np.exp(strength * effect), (n, 60)).astype(np.float32)))
            rows += [(label, line, f"{line}_{i % 2}") for i in range(n)]
    obs = pd.DataFrame(rows, columns=["target_gene", "cell_type", "batch"], index=[f"c{i}" for i in range(len(rows))])
    return ad.AnnData(vstack(blocks, format="csr"), obs=obs, var=pd.DataFrame(index=GENES))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    made_cells().write_h5ad(folder / "cells.h5ad")
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    FeatureTable(TARGETS, vectors, {"source": "made"}).save(folder / "features.pt")
    (folder / "made.toml").write_text(
        f'[datasets]\nmade = "cells.h5ad"\n[training]\nmade = "train"\n[zeroshot]\n[fewshot."made.H1"]\nval = {VAL}\n'
        f'test = {TEST}\n[features]\ntable = "features.pt"\n'
    )
    return train(folder / "made.toml", FAST, output_dir=folder, name="run")


def emitted_by_hand(run, model: str, matched: bool) -> tuple[ad.AnnData, ad.AnnData]:
    """The prediction of the test targets as counts, and the measured cells, as two files would hold them."""
    from stateshift.cells import EffectTable

    cells = ad.read_h5ad(run.parent / "cells.h5ad")
    h1 = cells[(cells.obs["cell_type"] == "H1") & cells.obs["target_gene"].isin([*TEST, "non-targeting"])].copy()
    asked = Asked(run.parent / "cells.h5ad", split="test", contexts=["H1"], model=model, n_cells=120)
    predicted = predict_effects(run, asked)
    controls = h1[h1.obs["target_gene"] == "non-targeting"]
    emitter = Emitter(controls.X, "H1", controls.obs["batch"].tolist())
    known = EffectTable.load(run / "effects.npz")
    match = match_significance(known.effects, known.n_cells, emitter.controls.variances, 120)
    blocks = []
    for (_, target), effect in zip(predicted.pairs, predicted.values):
        blocks.append(emitter.emit(match.shrink(effect, 30) if matched else effect, 30, seed=0, target=target))
    labels = np.repeat([p for _, p in predicted.pairs], 30)
    obs = pd.DataFrame({"target_gene": labels}, index=[f"p{i}" for i in range(len(labels))])
    return ad.AnnData(vstack(blocks, format="csr"), obs=obs, var=pd.DataFrame(index=GENES)), h1


def log1p(adata: ad.AnnData, total: float) -> ad.AnnData:
    X = adata.X.toarray().astype(float)
    found = adata.copy()
    found.X = csr_matrix(np.log1p(X / X.sum(axis=1, keepdims=True) * total).astype(np.float32))
    return found


@pytest.fixture(scope="module")
def scored(trained):
    return score_run(trained, "2025", models=["mean", "knn"])


def test_the_run_and_each_baseline_have_the_score_of_files_with_the_same_cells(trained, scored):
    scores = scored.models.set_index("model")["score"]
    assert list(scores.index) == ["challenge", "mean", "knn"]
    assert scored.models["run_minus_it"][1] == pytest.approx(scores["challenge"] - scores["mean"])
    for model, row in (("transition", "challenge"), ("knn", "knn")):
        refuse_other_score(trained, scored, model, row)


def refuse_other_score(trained, found, model, row):
    predicted, truth = emitted_by_hand(trained, model, matched=True)
    depths = np.asarray(truth[truth.obs["target_gene"] == "non-targeting"].X.sum(axis=1))
    by_files = score_2025(*(log1p(side, float(np.median(depths))) for side in (predicted, truth)))
    scores = found.models.set_index("model")["score"]
    assert scores[row] == pytest.approx(by_files.score, abs=1e-9)
    values = found.members[found.members["model"] == row].set_index("member")["value"]
    assert values["des"] == pytest.approx(by_files.means["des"])


def test_the_score_of_2026_is_that_of_files_with_the_same_counts(trained):
    found = score_run(trained, "2026", models=[], match_significant=False)
    by_files = score_2026(*emitted_by_hand(trained, "transition", matched=False))
    assert found.models["score"].tolist() == pytest.approx([by_files.score])
    assert found.members.set_index("member")["replicate"].to_dict() == pytest.approx(
        by_files.members["replicate"].to_dict()
    )


def test_log1p_of_counts_scores_as_the_counts_do(trained, scored):
    run = trained.parent / "cells.h5ad"
    counts = ad.read_h5ad(run)
    try:
        scaled = log1p(counts, 1e4)
        scaled.uns["stateshift"] = {"scale": "log1p_1e4"}
        scaled.write_h5ad(run)
        again = score_run(trained, "2025", models=[])
    finally:
        counts.write_h5ad(run)
    assert again.models["score"].tolist() == pytest.approx(scored.models["score"][:1].tolist(), abs=2e-3)


def test_amplitudes_are_rows_of_the_run_and_a_stronger_effect_shows_more_responders(trained, tmp_path):
    found = score_run(
        trained, "2025", split="val", models=[], amplitudes=(0.25, 2), match_significant=False, output=tmp_path / "s"
    )
    assert found.models["amplitude"].tolist() == [0.25, 2.0]
    responders = found.perturbations.groupby("amplitude")["n_predicted"].sum()
    assert responders[2.0] > responders[0.25]
    assert set(found.perturbations["perturbation"]) == set(VAL)
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "members.csv",
        "models.csv",
        "perturbations.csv",
    ]
    assert len(pd.read_csv(tmp_path / "s" / "models.csv")) == 2


def test_a_prediction_differs_from_itself_by_nothing_and_its_interval_holds_the_difference(trained):
    predicted, truth = emitted_by_hand(trained, "transition", matched=False)
    a = score_2025(*(log1p(side, 200.0) for side in (predicted, truth)))
    b = score_2025(log1p(emitted_by_hand(trained, "mean", matched=False)[0], 200.0), log1p(truth, 200.0))
    assert difference({"H1": a}, {"H1": a}) == (0.0, 0.0)
    low, high = difference({"H1": a}, {"H1": b})
    assert low <= a.score - b.score <= high


def test_the_command_shows_the_run_beside_its_baselines(trained, tmp_path):
    words = ["challenge", "score", str(trained), "--season", "2025", "--models", "mean", "-o", str(tmp_path / "scores")]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    for word in ("challenge", "mean", "run − it"):
        assert word in said.output
    assert (tmp_path / "scores" / "models.csv").is_file()


def test_what_can_t_be_scored_is_one_sentence(trained):
    with pytest.raises(StateshiftError, match="no score of the season `2024`"):
        score_run(trained, "2024")
    with pytest.raises(StateshiftError, match="`meen` is no effect model.*mean"):
        score_run(trained, "2025", models=["meen"])
    with pytest.raises(StateshiftError, match="has no split `tst`"):
        score_run(trained, "2025", split="tst")
    with pytest.raises(StateshiftError, match="numbers above 0"):
        score_run(trained, "2025", amplitudes=(0.0,))
    said = CliRunner().invoke(app, ["challenge", "score", str(trained / "genes.txt"), "--season", "2025"])
    assert "--truth is needed" in str(said.exception or said.output)
