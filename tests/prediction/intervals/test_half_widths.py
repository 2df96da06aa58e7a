import anndata as ad
import numpy as np
import pytest

from stateshift.cells import EffectTable
from stateshift.effects import HeldOut, fit_effect_models
from stateshift.feature_table import FeatureTable
from stateshift.prediction import predict
from stateshift.prediction.asked.support import find_support
from stateshift.prediction.intervals.calibrator import Calibrator, stored_validation
from stateshift.prediction.intervals.half_widths import find_intervals

G = 30


@pytest.fixture(scope="module")
def made():
    """Sixty targets in three contexts, half of each effect from eight features, and their feature table."""
    rng = np.random.default_rng(0)
    targets = [f"T{i}" for i in range(60)]
    features = FeatureTable(targets, rng.standard_normal((60, 8)).astype(np.float32))
    told = features.vectors @ rng.standard_normal((8, G)) / np.sqrt(8)
    effects, pairs = [], []
    for c, context in enumerate("abc"):
        for i, target in enumerate(targets):
            own = np.random.default_rng(i).standard_normal(G)
            effects.append(0.3 * c + told[i] + 0.5 * own + 0.3 * rng.standard_normal(G))
            pairs.append((target, context))
    perturbations, contexts = zip(*pairs)
    error = np.full((180, G), 0.3, dtype=np.float32)
    table = EffectTable(
        [f"g{i}" for i in range(G)], list(perturbations), list(contexts), np.array(effects, np.float32), np.full(180, 40),
        {}, standard_error=error, n_controls=np.full(180, 200),
    )  # fmt: skip
    return table, features


def intervals_of(made, name, pairs, train_rows, validation=None, routes=None, fallback=()):
    table, features = made
    train = table.rows(train_rows)
    models = fit_effect_models(train, features, ["mean", name])
    support = find_support(pairs, train, features, set())
    routes = routes or models[name].routes([p for _, p in pairs], [c for c, _ in pairs])
    calibrator = Calibrator(models, train, features, 0, validation)
    return find_intervals(calibrator, name, pairs, routes, support, fallback=fallback), models[name], support


def test_new_targets_are_covered_and_a_model_that_knows_more_is_narrower(made):
    table, _ = made
    new = np.array([int(p[1:]) >= 45 for p in table.perturbations])
    pairs = [(c, p) for p, c, out in zip(table.perturbations, table.contexts, new) if out]
    found, model, support = intervals_of(made, "ridge", pairs, ~new)
    assert set(support.regimes) == {"T"}
    missed = np.abs(model.predict([p for _, p in pairs], [c for c, _ in pairs]) - table.effects[new])
    assert 0.86 < (missed <= found.half_widths).mean() < 0.94
    assert found.half_widths.mean() < 0.8 * found.of_mean.mean()
    assert found.calibration["T"]["by"] == "held-out training rows of ridge"
    assert (found.calibration["T"]["units"], found.calibration["T"]["rows"]) == (45, 135)


def test_each_regime_has_its_own_widths(made):
    table, _ = made
    train = np.array([int(p[1:]) < 45 and c != "c" for p, c in zip(table.perturbations, table.contexts)])
    pairs = [("a", "T50"), ("c", "T3"), ("c", "T50")]
    found, _, support = intervals_of(made, "additive", pairs, train)
    assert support.regimes == ["T", "C", "J"]
    of_new_target, of_new_context, of_both = found.half_widths.mean(axis=1)
    assert of_new_context < 0.7 * of_new_target
    assert of_both > of_new_context
    assert set(found.calibration) == {"T", "C", "J"}


def test_one_context_borrows_for_what_it_cannot_imitate(made, caplog):
    table, _ = made
    one = np.array([c == "a" for c in table.contexts])
    caplog.set_level("INFO")
    found, _, _ = intervals_of(made, "ridge", [("b", "T3")], one)
    assert found.calibration["C"]["regime"] == "T"
    assert np.isfinite(found.half_widths).all()
    assert "in the manner of T" in caplog.text


def test_one_training_target_gives_no_interval_and_says_so(made, caplog):
    table, _ = made
    one = np.array([c == "a" and p == "T1" for c, p in zip(table.contexts, table.perturbations)])
    found, _, _ = intervals_of(made, "additive", [("a", "T3")], one)
    assert np.isnan(found.half_widths).all()
    assert "no interval can be given in regime T" in caplog.text


def test_a_measured_pair_has_the_interval_of_another_measurement(made):
    table, _ = made
    found, _, _ = intervals_of(made, "stack", [("a", "T3")], np.array([int(p[1:]) < 5 for p in table.perturbations]))
    np.testing.assert_allclose(found.half_widths[0], 1.645 * np.sqrt(2) * 0.3, rtol=1e-5)


def test_a_network_is_calibrated_on_validation_targets_where_they_are_enough(made):
    table, _ = made
    new = np.array([int(p[1:]) >= 35 for p in table.perturbations])
    names = [p for p, n in zip(table.perturbations, new) if n], [c for c, n in zip(table.contexts, new) if n]
    good = HeldOut(*names, table.effects[new], table.effects[new] + 0.05)
    pairs = [("a", "T59")]
    by_validation, _, _ = intervals_of(made, "ridge", pairs, ~new, good, ["neural"])
    assert by_validation.calibration["T"] | {"quantile": 0} == {
        "by": "validation pairs", "regime": "T", "rows": 75, "units": 25, "unit": "target", "pair_part": "",
        "quantile": 0, "network": True,
    }  # fmt: skip
    np.testing.assert_allclose(by_validation.half_widths, 0.05, rtol=0.05)


def test_few_validation_targets_widen_what_the_network_starts_from_and_never_narrow_it(made):
    table, _ = made
    new = np.array([int(p[1:]) >= 57 for p in table.perturbations])
    names = [p for p, n in zip(table.perturbations, new) if n], [c for c, n in zip(table.contexts, new) if n]
    pairs = [("a", "T59")]
    start, ridge, _ = intervals_of(made, "ridge", pairs, ~new)
    good = HeldOut(*names, table.effects[new], table.effects[new] + 0.05)
    found, _, _ = intervals_of(made, "ridge", pairs, ~new, good, ["neural"])
    assert found.calibration["T"]["by"] == "held-out training rows of ridge"
    assert (found.calibration["T"]["widened"], found.calibration["T"]["validation_pairs"]) == (1, 9)
    np.testing.assert_array_equal(found.half_widths, start.half_widths)

    missed = 3 * (ridge.predict(*names) - table.effects[new])
    bad = HeldOut(*names, table.effects[new], table.effects[new] + missed)
    found, _, _ = intervals_of(made, "ridge", pairs, ~new, bad, ["neural"])
    assert 2.4 < found.calibration["T"]["widened"] < 4
    np.testing.assert_allclose(found.half_widths, found.calibration["T"]["widened"] * start.half_widths, rtol=1e-5)


def test_a_network_that_nothing_was_checked_on_is_told_of(made, caplog):
    table, _ = made
    new = np.array([int(p[1:]) >= 45 for p in table.perturbations])
    intervals_of(made, "ridge", [("a", "T50")], ~new, None, ["neural"])
    assert "no validation pair says whether they hold" in caplog.text


def test_a_fallback_has_the_intervals_of_the_mean_and_a_model_s_own_route_of_that_name_the_model_s(made):
    table, _ = made
    train = np.array([int(p[1:]) < 45 for p in table.perturbations])
    asked = [("a", "T50")], train
    by_mean, _, _ = intervals_of(made, "ridge", *asked, routes=["fallback"], fallback={"T50"})
    np.testing.assert_array_equal(by_mean.half_widths, by_mean.of_mean)
    by_ridge, _, _ = intervals_of(made, "ridge", *asked, routes=["fallback"])
    usual, _, _ = intervals_of(made, "ridge", *asked)
    np.testing.assert_array_equal(by_ridge.half_widths, usual.half_widths)


@pytest.fixture(scope="module")
def moving():
    """Thirty targets in six contexts that each move by much of their own; the sixth is new. Table, features, its effects."""
    rng = np.random.default_rng(0)
    targets = [f"T{i}" for i in range(30)]
    features = FeatureTable(targets, rng.standard_normal((30, 4)).astype(np.float32))
    scale = [0.5, 0.5, 0.15]
    effects = sum(s * rng.standard_normal(n) for s, n in zip(scale, [(30, 1, G), (1, 6, G), (30, 6, G)]))
    pairs = [(i, c) for i in range(30) for c in range(5)]
    rows = np.array([effects[i, c] for i, c in pairs], np.float32)
    table = EffectTable(
        [f"g{i}" for i in range(G)], [targets[i] for i, _ in pairs], ["abcde"[c] for _, c in pairs], rows,
        np.full(150, 100), {c: rng.standard_normal(G) + 5 for c in "abcde"}, np.full(rows.shape, 0.05, np.float32),
    )  # fmt: skip
    return table, features, effects[:, 5]


@pytest.mark.parametrize("name", ["stack", "transfer"])
def test_a_context_that_training_never_told_of_is_covered(moving, name):
    table, features, true = moving
    pairs = [("f", t) for t in features.genes]
    found, model, _ = intervals_of((table, features), name, pairs, np.ones(150, bool))
    assert (found.calibration["C"]["unit"], found.calibration["C"]["units"]) == ("context", 5)
    missed = np.abs(model.predict(features.genes, ["f"] * 30) - true)
    assert 0.84 < (missed <= found.half_widths).mean() < 0.98


def test_a_pair_of_a_known_context_is_still_calibrated_on_pairs(moving):
    table, features, _ = moving
    train = np.array([(p, c) != ("T3", "a") for p, c in zip(table.perturbations, table.contexts)])
    here, model, _ = intervals_of((table, features), "stack", [("a", "T3")], train)
    there, _, _ = intervals_of((table, features), "stack", [("f", "T3")], train)
    assert (here.calibration["C"]["unit"], here.calibration["C"]["rows"]) == ("target", len(model.held_out["C"].true))
    assert there.half_widths.mean() > 1.5 * here.half_widths.mean()


def test_contexts_that_differ_too_much_are_as_wide_as_their_largest_error_and_told_of(made, caplog):
    table, features = made
    strong = table.rows(np.array([c != "c" for c in table.contexts]))
    strong.effects = strong.effects * np.where(np.array(strong.contexts) == "b", 8, 1)[:, None].astype(np.float32)
    found, _, support = intervals_of(
        (strong, features), "mean", [("c", "T3"), ("a", "T50")], np.array([p != "T50" for p in strong.perturbations])
    )
    assert support.regimes == ["C", "T"]
    told = found.calibration["C"]
    assert (told["regime"], told["unit"], told["units"], told["largest"]) == ("C", "context", 2, True)
    assert "the half-widths are the largest error" in caplog.text
    of_new_context, of_new_target = found.half_widths.mean(axis=1)
    assert of_new_context > 1.5 * of_new_target


def test_a_known_target_s_distance_of_zero_narrows_nothing(made):
    rng = np.random.default_rng(0)
    targets = [f"T{i}" for i in range(120)]
    vectors = rng.standard_normal((120, 3)).astype(np.float32)
    vectors[:40] *= 3
    effects = 0.5 * rng.standard_normal((120, G)) * np.linalg.norm(vectors, axis=1, keepdims=True)
    one = EffectTable(
        [f"g{i}" for i in range(G)], targets, ["a"] * 120, effects.astype(np.float32), np.full(120, 50), {}
    )
    features = FeatureTable(targets, vectors)
    pairs = [("b", t) for t in targets]
    found, model, _ = intervals_of((one, features), "ridge", pairs, np.ones(120, bool))
    assert (found.calibration["C"]["regime"], found.calibration["C"]["pair_part"]) == ("T", "")
    missed = np.abs(model.predict(targets, ["b"] * 120) - effects)
    assert 0.87 < (missed <= found.half_widths).mean() < 0.97


def test_a_double_of_new_targets_is_as_wide_as_both_together(made):
    table, _ = made
    train = np.array([int(p[1:]) < 45 and c != "c" for p, c in zip(table.perturbations, table.contexts)])
    asked = ["T50", "T51", "T50+T51", "T1", "T2", "T1+T2"]
    known, _, support = intervals_of(made, "stack", [("a", p) for p in asked], train)
    assert support.regimes == ["T", "T", "T", "measured", "measured", "T"]
    squares = known.half_widths**2
    np.testing.assert_allclose(squares[2], squares[0] + squares[1], rtol=1e-5)
    np.testing.assert_allclose(squares[5], np.maximum(squares[3] + squares[4], squares[0]), rtol=0.2)
    new, _, support = intervals_of(made, "stack", [("c", p) for p in asked], train)
    assert support.regimes == ["J", "J", "J", "C", "C", "J"]
    np.testing.assert_allclose(new.half_widths[2], new.half_widths[0] + new.half_widths[1], rtol=1e-5)
    assert (new.of_mean[2] > 1.9 * new.of_mean[0]).all()


@pytest.fixture
def predicted(screen, tmp_path):
    from stateshift.training import train

    fast = ["model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8"]
    fast += ["training.max_steps=4", "training.val_every=2"]
    run = train(screen.toml, fast, pert_features=screen.table, output_dir=screen.folder, name="run")

    def asked(**kwargs):
        arguments = {"cells": screen.cells, "output": tmp_path / "p.h5ad", "overwrite": True, **kwargs}
        return ad.read_h5ad(predict(run, **arguments))

    return asked


def test_a_prediction_carries_effects_half_widths_and_their_mean(predicted):
    adata = predicted(perturb=["G4", "G1"], n_cells=12)
    told = adata.uns["stateshift"]["intervals"]
    assert told["level"] == 0.9
    assert told["half_widths"].shape == told["of_mean"].shape == (6, 20)
    assert told["half_widths"].dtype == np.float32
    pairs = list(zip(told["context"], told["target_gene"]))
    assert dict(zip(pairs, told["regime"])) == {
        ("A549", "G4"): "measured", ("A549", "G1"): "measured", ("K562", "G1"): "measured", ("K562", "G4"): "C",
        ("T98G", "G4"): "C", ("T98G", "G1"): "C",
    }  # fmt: skip
    for i, (context, target) in enumerate(pairs):
        cells = adata[(adata.obs.context == context) & (adata.obs.target_gene == target)]
        np.testing.assert_allclose(cells.obs["interval"], told["half_widths"][i].mean(), rtol=1e-5)
        assert set(cells.obs["regime"]) == {told["regime"][i]}
        starts = [name.split(":")[1] for name in cells.obs_names]
        moved = cells.X.toarray().mean(axis=0) - adata[starts].X.toarray().mean(axis=0)
        np.testing.assert_allclose(told["effects"][i], moved, atol=1e-5)
    assert adata.obs.loc[adata.obs.is_control, "interval"].isna().all()


def test_twelve_control_cells_work_and_widen_the_interval(predicted, screen, cell_maker, caplog):
    whole = predicted(perturb=["G4"], contexts=["T98G"])
    cells = ad.read_h5ad(screen.cells)
    controls = np.flatnonzero((cells.obs.cell_type == "T98G") & (cells.obs.target_gene == "non-targeting"))
    few = np.ones(cells.n_obs, dtype=bool)
    few[controls[12:]] = False
    cells[few].write_h5ad(screen.folder / "few.h5ad")
    twelve = predicted(perturb=["G4"], contexts=["T98G"], cells=screen.folder / "few.h5ad")
    assert (~twelve.obs.is_control).sum() == 12
    assert "T98G has 12 control cells: no more are predicted" in caplog.text
    variance = cells[controls[:12]].X.toarray().var(axis=0, ddof=1)
    before, after = (a.uns["stateshift"]["intervals"]["half_widths"][0] for a in (whole, twelve))
    np.testing.assert_allclose(after**2 - before**2, 1.645**2 * variance * (1 / 12 - 1 / 24), rtol=1e-3, atol=1e-6)


def test_one_control_cell_gives_no_interval_and_says_so(predicted, screen, caplog):
    cells = ad.read_h5ad(screen.cells)
    controls = np.flatnonzero((cells.obs.cell_type == "T98G") & (cells.obs.target_gene == "non-targeting"))
    one = np.ones(cells.n_obs, dtype=bool)
    one[controls[1:]] = False
    cells[one].write_h5ad(screen.folder / "one.h5ad")
    alone = predicted(perturb=["G4"], contexts=["T98G"], cells=screen.folder / "one.h5ad")
    assert "T98G has one control cell" in caplog.text
    assert np.isnan(alone.uns["stateshift"]["intervals"]["half_widths"]).all()
    assert alone.obs["interval"].isna().all()


def test_validation_of_other_genes_is_not_used(tmp_path):
    from stateshift.effects.conformal import save_held_out
    from stateshift.run import RunDirectory

    run = RunDirectory(tmp_path)
    assert stored_validation([run], ["g"]) == (None, None)
    save_held_out(HeldOut(["A"], ["c"], np.ones((1, 1)), np.zeros((1, 1))), ["g"], run.validation_file)
    held, apart = stored_validation([run], ["g"])
    assert (held.perturbations, held.true.tolist(), apart) == (["A"], [[1.0]], None)
    assert stored_validation([run], ["h"]) == (None, None)


def test_members_of_an_ensemble_are_averaged_and_their_distance_known(tmp_path):
    from stateshift.effects.conformal import save_held_out
    from stateshift.run import RunDirectory

    runs = [RunDirectory(tmp_path / name) for name in "ab"]
    for run, value in zip(runs, (1.0, 3.0)):
        run.path.mkdir()
        save_held_out(HeldOut(["A"], ["c"], np.ones((1, 1)), np.full((1, 1), value)), ["g"], run.validation_file)
    held, apart = stored_validation(runs, ["g"])
    assert held.predicted.tolist() == [[2.0]]
    np.testing.assert_allclose(apart, np.sqrt(2))
