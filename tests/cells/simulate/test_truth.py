"""The truth: what many cells show, what features foretell, and what a hand can work out."""

from __future__ import annotations

from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from stateshift.cells.simulate import simulate_experiment, true_effects
from stateshift.cells.simulate.population import draw_population, with_doubles, with_hidden_activity
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable


@pytest.fixture(scope="module")
def many_cells(tmp_path_factory) -> anndata.AnnData:
    path = tmp_path_factory.mktemp("truth") / "sim.h5ad"
    simulate_experiment(path, contexts=2, targets=6, cells=24_000, genes=300, batches=2, depth=60_000, seed=4)
    return anndata.read_h5ad(path)


def test_effects_of_many_cells_are_the_true_ones(many_cells):
    truth = true_effects(many_cells)
    share = many_cells.X.multiply(1 / np.asarray(many_cells.X.sum(axis=1))).tocsr()
    obs = many_cells.obs
    for row, (context, target) in enumerate(zip(truth.obs["context"], truth.obs["perturbation"])):
        here = obs["cell_type"] == context
        perturbed, expected = 0.0, 0.0
        for batch in obs["batch"].unique():
            group, control = (
                share[np.flatnonzero(here & (obs["batch"] == batch) & (obs["target_gene"] == name))]
                for name in (target, "non-targeting")
            )
            perturbed = perturbed + np.asarray(group.sum(axis=0)).ravel()
            expected = expected + group.shape[0] * np.asarray(control.mean(axis=0)).ravel()
        expressed = expected / expected.sum() > 1e-3
        found, true = np.log(perturbed[expressed] / expected[expressed]), truth.X[row][expressed]
        assert np.corrcoef(found, true)[0, 1] > 0.95
        assert np.polyfit(true, found, 1)[0] == pytest.approx(1, abs=0.07)


def test_a_file_tells_the_same_truth_as_its_cells(tmp_path):
    simulate_experiment(tmp_path / "sim.h5ad", contexts=2, targets=5, cells=60, genes=40, batches=2)
    on_disk, in_memory = true_effects(tmp_path / "sim.h5ad"), true_effects(anndata.read_h5ad(tmp_path / "sim.h5ad"))
    assert np.array_equal(on_disk.X, in_memory.X)
    pd.testing.assert_frame_equal(on_disk.obs, in_memory.obs)
    assert on_disk.shape == (10, 40)
    assert on_disk.uns["stateshift"] == {"simulated": True, "scale": "log_fold_change"}


def test_the_formula_worked_out_for_one_gene_by_hand(tmp_path):
    simulate_experiment(tmp_path / "sim.h5ad", contexts=2, targets=5, cells=60, genes=40, batches=2)
    t = anndata.read_h5ad(tmp_path / "sim.h5ad").uns["simulation"]
    c, p = 1, 3
    own = list(t["genes"]).index(t["targets"][p])
    activity = [t["common"][k] + sum(t["features"][p][f] * t["weights"][f, k] for f in range(64)) for k in range(8)]
    raw = []
    for g in range(40):
        change = sum(activity[k] * t["strength"][c, k] * t["loadings"][k, g] for k in range(8)) + t["specific"][p, g]
        raw.append(np.exp(t["baseline"][c, g]) * (t["residual"][p] if g == own else np.exp(change)))
    for g in (0, 17, own):
        ratio = raw[g] / sum(raw) / np.exp(t["baseline"][c, g])
        by_hand = np.log(t["escape"][p] + (1 - t["escape"][p]) * ratio)
        found = true_effects(tmp_path / "sim.h5ad")[f"context_2/{t['targets'][p]}", t["genes"][g]].X.item()
        assert found == pytest.approx(by_hand, abs=1e-4)


def test_features_predict_the_effects_of_targets_held_out(tmp_path):
    simulate_experiment(tmp_path / "sim.h5ad", contexts=1, targets=200, cells=404, genes=800, batches=2)
    truth = true_effects(tmp_path / "sim.h5ad")
    targets = truth.obs["perturbation"].tolist()
    features = FeatureTable.load(tmp_path / "sim.features.pt").matrix(targets)
    train = np.arange(200) < 160
    baseline = truth.X[train].mean(axis=0)
    expected = truth.X[~train] - baseline
    found = Ridge(alpha=30.0).fit(features[train], truth.X[train]).predict(features[~train]) - baseline
    shuffled = Ridge(alpha=30.0).fit(features[train][::-1], truth.X[train]).predict(features[~train]) - baseline
    r, chance = (np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(x, expected)]) for x in (found, shuffled))
    assert r > 0.6
    assert abs(chance) < 0.2


def test_contexts_answer_alike_but_not_the_same(many_cells):
    truth = true_effects(many_cells)
    one, two = truth.X[:6], truth.X[6:]
    r = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(one, two)])
    assert 0.6 < r < 0.995


def test_baselines_differ_between_contexts_and_no_gene_takes_a_large_share():
    population = draw_population(4, 10, 2_000, 2, 1_000, 0.3, np.random.default_rng(3))
    r = np.corrcoef(population.baseline)[np.triu_indices(4, 1)]
    assert r.min() > 0.7
    assert r.max() < 0.98
    assert np.exp(population.baseline).sum(axis=1) == pytest.approx(np.ones(4), abs=1e-4)
    assert np.exp(population.baseline).max() < 0.03


def test_cells_without_a_truth_are_refused(tmp_path):
    other = anndata.AnnData(np.ones((2, 3), dtype=np.float32))
    with pytest.raises(StateshiftError, match=r"these cells: uns\[\"simulation\"\] is absent"):
        true_effects(other)
    other.write_h5ad(tmp_path / "other.h5ad")
    with pytest.raises(StateshiftError, match=r"other.h5ad: uns\[\"simulation\"\] is absent"):
        true_effects(tmp_path / "other.h5ad")
    other.uns["simulation"] = {"effects": np.zeros((1, 3))}
    with pytest.raises(StateshiftError, match="a screen of `simulate_screen` keeps its exact effects"):
        true_effects(other)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(StateshiftError, match="gone.h5ad: there is no such file"):
        true_effects(tmp_path / "gone.h5ad")
    (tmp_path / "text.h5ad").write_text("no hdf5")
    with pytest.raises(StateshiftError, match="text.h5ad can't be read as an h5ad file"):
        true_effects(tmp_path / "text.h5ad")


def test_a_double_is_the_sum_of_its_targets_and_the_interaction_by_rule(tmp_path):
    simulate_experiment(tmp_path / "sim.h5ad", contexts=2, targets=6, doubles=9, cells=120, genes=60, batches=2)
    t = anndata.read_h5ad(tmp_path / "sim.h5ad").uns["simulation"]
    c, d = 1, 4
    a, b = t["pairs"][d]
    name = f"{t['targets'][a]}+{t['targets'][b]}"
    single = t["common"] + t["features"] @ t["weights"]
    activity = single[a] + single[b] + t["interaction"][d]
    change = (activity * t["strength"][c]) @ t["loadings"] + (t["specific"][a] + t["specific"][b]).toarray().ravel()
    own = [list(t["genes"]).index(t["targets"][p]) for p in (a, b)]
    change[own] = np.log(t["residual"][6 + d])
    raw = np.exp(t["baseline"][c] + change)
    by_hand = np.log(t["escape"][6 + d] + (1 - t["escape"][6 + d]) * raw / raw.sum() / np.exp(t["baseline"][c]))
    found = true_effects(tmp_path / "sim.h5ad")[f"context_2/{name}"].X.ravel()
    assert found == pytest.approx(by_hand, abs=1e-4)
    assert np.sort(t["escape"][[a, b]])[1] == t["escape"][6 + d]
    buffered = -0.25 * (single[a] + single[b])
    assert np.abs(t["interaction"][d] - buffered).max() > 0.01


def test_doubles_of_the_same_features_interact_alike():
    population = draw_population(2, 8, 400, 2, 1_000, 0.3, np.random.default_rng(3))
    twins = replace(population, features=np.repeat(population.features[:4], 2, axis=0))
    found = with_doubles(twins, 28, np.random.default_rng(1))
    by_pair = {tuple(pair): interaction for pair, interaction in zip(found.pairs.tolist(), found.interaction)}
    assert len(by_pair) == 28
    assert by_pair[0, 2] == pytest.approx(by_pair[1, 3], abs=1e-6)
    assert np.abs(by_pair[0, 2] - by_pair[0, 4]).max() > 0.01


def test_features_tell_the_share_of_activity_that_was_asked_for():
    drawn = draw_population(2, 400, 500, 2, 9_000, 0.25, np.random.default_rng(1))
    shared = with_hidden_activity(drawn, 0.4, np.random.default_rng(2))
    from_features = shared.features @ shared.weights
    told = [np.corrcoef(a, f)[0, 1] ** 2 for a, f in zip(shared.activity.T, from_features.T)]
    assert np.mean(told) == pytest.approx(0.4, abs=0.05)
    assert shared.activity.std(axis=0) == pytest.approx(drawn.activity.std(axis=0), rel=0.15)
    assert np.array_equal(shared.features, drawn.features)


def test_cells_that_an_older_version_simulated_are_refused_by_what_they_lack():
    population = draw_population(2, 4, 100, 2, 1_000, 0.3, np.random.default_rng(3))
    stored = population.to_uns()
    del stored["pairs"]
    with pytest.raises(StateshiftError, match="has no pairs: an older version simulated these cells"):
        type(population).from_uns(stored)
