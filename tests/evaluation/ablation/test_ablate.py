"""What a source is worth, against what was planted."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from stateshift.cells import EffectTable
from stateshift.cli.main import app
from stateshift.effects import fit_effect_models
from stateshift.effects.from_features.feature_space import gene_folds
from stateshift.errors import StateshiftError
from stateshift.evaluation import ablate_features, ablation_table
from stateshift.evaluation.ablation import trials
from stateshift.evaluation.ablation.trials import OnCalls, OnEffects
from stateshift.evaluation.ablation.variants import fused_parts, of_parts, shuffled
from stateshift.feature_table import FeatureTable
from stateshift.features import fuse_features
from stateshift.metrics import pearson_delta

TARGETS = [f"P{i:02d}" for i in range(40)]


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Effects that one table gives and the random other does not; a third covers three targets alone."""
    rng = np.random.default_rng(0)
    known = rng.standard_normal((40, 5)).astype(np.float32)
    effects = known @ rng.standard_normal((5, 30)) + 0.5 * rng.standard_normal((40, 30))
    paths = [tmp_path / f"{name}.pt" for name in ("known", "random", "few")]
    FeatureTable(TARGETS, known, {"source": "known"}).save(paths[0])
    FeatureTable(TARGETS, rng.standard_normal((40, 5)), {"source": "random"}).save(paths[1])
    FeatureTable(TARGETS[:3], rng.standard_normal((3, 2)), {"source": "few"}).save(paths[2])
    genes = [f"G{i}" for i in range(30)]
    train = EffectTable(genes, TARGETS, ["k562"] * 40, effects.astype(np.float32), None, {})
    monkeypatch.setattr(OnEffects, "of", classmethod(lambda cls, _, features, model: cls(train, model)))
    return paths, train


def test_the_source_of_a_planted_signal_gains_and_a_random_one_does_not(planted):
    paths, _ = planted
    found = ablate_features(paths[:2], experiment="made.toml")
    rows = found.rows.set_index("source")
    assert rows.index.tolist() == ["known", "random"]
    for gain in ("gain", "gain_of_genes"):
        assert rows.loc["known", f"{gain}_low"] > 0.3
        assert abs(rows.loc["random", gain]) < 0.05
        assert rows.loc["random", f"{gain}_low"] < 0.02
    assert rows.loc["known", "alone"] > 0.8
    assert abs(rows.loc["random", "alone"] - found.none) < 0.1
    assert abs(rows.loc["known", "shuffled"] - rows.loc["random", "alone"]) < 0.1
    assert found.whole == pytest.approx(rows.loc["known", "without"] + rows.loc["known", "gain"])


def test_scores_are_those_of_the_effect_model_on_folds_that_hold_genes_out(planted):
    paths, train = planted
    found = ablate_features(paths[:1], experiment="made.toml", model="knn")
    predicted = np.zeros_like(train.effects)
    features = FeatureTable.load(paths[0])
    for fit, held in gene_folds(TARGETS):
        model = fit_effect_models(train.rows(np.isin(np.arange(40), fit)), features, ["knn"])["knn"]
        predicted[held] = model.predict([TARGETS[i] for i in held], ["k562"] * len(held))
    assert found.whole == pytest.approx(pearson_delta(predicted, train.effects).mean(), abs=1e-6)
    row = found.rows.iloc[0]
    assert (row["alone"], row["without"]) == (pytest.approx(found.whole), pytest.approx(found.none))


def test_a_fused_file_and_its_tables_give_the_same_rows(planted, tmp_path):
    paths, _ = planted
    fuse_features(paths, tmp_path / "fused.pt")
    fused = ablate_features([tmp_path / "fused.pt"], experiment="made.toml")
    pd.testing.assert_frame_equal(fused.rows, ablate_features(paths, experiment="made.toml").rows)
    few = fused.rows.set_index("source").loc["few"]
    assert (few["genes"], few["coverage"], few["columns"]) == (3, pytest.approx(3 / 40), 2)


def test_a_shuffled_source_keeps_its_vectors_its_coverage_and_the_other_sources(planted):
    fused = fused_parts(planted[0])
    dealt = shuffled(fused, 2, seed=0)
    columns = slice(*fused.provenance["parts"][2]["columns"])
    np.testing.assert_array_equal(dealt.vectors[3:], fused.vectors[3:])
    assert sorted(map(tuple, dealt.vectors[:3, columns])) == sorted(map(tuple, fused.vectors[:3, columns]))
    np.testing.assert_array_equal(dealt.vectors[:, : columns.start], fused.vectors[:, : columns.start])
    two = of_parts(fused, [0, 2])
    assert [part["columns"] for part in two.provenance["parts"]] == [[0, 5], [5, 7]]
    np.testing.assert_array_equal(two.vectors[:, 5:], fused.vectors[:, columns])


def test_only_training_cells_decide(screen):
    before = ablate_features([screen.table], experiment=screen.toml)
    adata = ad.read_h5ad(screen.cells)
    obs = adata.obs
    held = (obs["cell_type"] == "T98G") | ((obs["cell_type"] == "K562") & obs["target_gene"].isin(["G3", "G4"]))
    rows = np.flatnonzero((held & (obs["target_gene"] != "non-targeting")).to_numpy())
    X = adata.X.toarray()
    X[rows] = np.random.default_rng(0).uniform(0, 3, X[rows].shape)
    adata.X = X
    adata.write_h5ad(screen.cells)
    pd.testing.assert_frame_equal(ablate_features([screen.table], experiment=screen.toml).rows, before.rows)


@pytest.fixture
def calls(tmp_path):
    """Labels that a table gives; the rows of the test split contradict it."""
    rng = np.random.default_rng(1)
    known = rng.standard_normal((60, 3)).astype(np.float32)
    names = [f"P{i:02d}" for i in range(60)]
    label = (known @ rng.standard_normal((3, 20)) + 0.5 * rng.standard_normal((60, 20)) > 0).astype(int)
    frame = pd.DataFrame({"pert": np.repeat(names, 20), "gene": np.tile([f"G{i}" for i in range(20)], 60)})
    frame["label"] = label.ravel()
    frame["split"] = np.repeat(["train"] * 50 + ["test"] * 10, 20)
    frame.to_csv(tmp_path / "calls.csv", index=False)
    FeatureTable(names, known, {"source": "known"}).save(tmp_path / "known.pt")
    FeatureTable(names, rng.standard_normal((60, 3)), {"source": "random"}).save(tmp_path / "random.pt")
    return tmp_path


@pytest.mark.parametrize("labels", [True, False])
def test_calls_and_values_tell_the_same_of_a_planted_source(calls, labels):
    table = pd.read_csv(calls / "calls.csv")
    if not labels:
        table = table.rename(columns={"label": "value"}).assign(value=table["label"] + 0.1 * (table.index % 7))
        table.to_csv(calls / "calls.csv", index=False)
    found = ablate_features([calls / "known.pt", calls / "random.pt"], calls=calls / "calls.csv")
    rows = found.rows.set_index("source")
    assert found.metric == ("AUC per gene" if labels else "Pearson per perturbation")
    assert found.targets == 50
    assert rows.loc["known", "gain_low"] > 0.05
    assert rows.loc["known", "gain_of_genes_low"] > 0.05
    assert abs(rows.loc["random", "gain_of_genes"]) < 0.08
    if labels:
        assert found.none == 0.5


@pytest.mark.parametrize("labels", [True, False])
def test_contexts_that_repeat_the_same_answers_make_no_interval_narrower(labels):
    rng = np.random.default_rng(0)
    known = rng.standard_normal((20, 4))
    effects = known @ rng.standard_normal((4, 15)) + rng.standard_normal((20, 15))
    values = (effects > 0 if labels else effects).astype(np.float32)
    found = []
    for n in (1, 3):
        contexts = [f"c{k}" for k in range(n) for _ in range(20)]
        train = EffectTable(list("abcdefghijklmno"), TARGETS[:20] * n, contexts, np.tile(values, (n, 1)), None, {})
        trial = OnCalls(train, "neighbours", None, labels)
        found.append(trial.difference(trial.score(FeatureTable(TARGETS[:20], known)), [trial.score(None)]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_the_test_rows_of_calls_are_not_read(calls):
    tables = [calls / "known.pt"]
    before = ablate_features(tables, calls=calls / "calls.csv")
    table = pd.read_csv(calls / "calls.csv")
    table.loc[table["split"] == "test", "label"] = 1 - table.loc[table["split"] == "test", "label"]
    table.to_csv(calls / "calls.csv", index=False)
    pd.testing.assert_frame_equal(ablate_features(tables, calls=calls / "calls.csv").rows, before.rows)


def test_targets_without_features_in_any_source_are_named(planted, caplog):
    paths, train = planted
    with caplog.at_level("WARNING"):
        kept = trials.with_features(train, FeatureTable.load(paths[2]))
    assert kept.perturbations == TARGETS[:3]
    assert "37 training perturbations have no features in any source and are left out: P03, P04" in caplog.text
    with pytest.raises(StateshiftError, match="0 of 40 training rows have features"):
        trials.with_features(train, FeatureTable(["Q"], np.ones((1, 1))))


def test_wrong_words_are_told(planted, tmp_path):
    paths, _ = planted
    with pytest.raises(StateshiftError, match="either --experiment TOML or --calls TABLE"):
        ablate_features(paths)
    fuse_features(paths, tmp_path / "r.pt", width=2)
    with pytest.raises(StateshiftError, match="doesn't tell which columns each of its sources has .*--width"):
        ablate_features([tmp_path / "r.pt"], experiment="made.toml")
    with pytest.raises(StateshiftError, match="--response-features and --aliases go with --calls"):
        ablate_features(paths, experiment="made.toml", aliases="hgnc.txt")


def test_the_command_prints_a_row_a_source_and_writes_them(planted, tmp_path):
    paths, _ = planted
    out = tmp_path / "rows.csv"
    done = CliRunner().invoke(
        app,
        ["features", "ablate", *map(str, paths[:2]), "--experiment", "made.toml", "-o", str(out)],
        env={"COLUMNS": "130"},
    )
    assert done.exit_code == 0, done.output
    assert "Pearson delta on 40 held-out training targets" in done.output
    assert pd.read_csv(out)["source"].tolist() == ["known", "random"]
    assert ablation_table(ablate_features(paths[:2], experiment="made.toml")).row_count == 2
