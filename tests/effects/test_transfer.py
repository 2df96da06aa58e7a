"""What other contexts say of a target: by hand, and by the formulas of best linear prediction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.alike import Alike
from stateshift.effects.main_effects import MainEffects, fit_main_effects
from stateshift.effects.transfer import Transfer, fit_transfer, row_noise, weighted


def table(rows: list[tuple[str, str, list[float]]], **others) -> EffectTable:
    effects = np.array([effect for *_, effect in rows], dtype=np.float32)
    genes = [f"g{j}" for j in range(effects.shape[1])]
    return EffectTable(genes, [p for p, *_ in rows], [c for _, c, _ in rows], effects, None, {}, **others)


def screen(P: int = 40, G: int = 30, contexts: str = "xyz", noise: float = 0.0, seed: int = 0) -> EffectTable:
    """The same target does the same in every context, but for what all targets do there."""
    rng = np.random.default_rng(seed)
    effect, shift = rng.normal(size=(P, G)), rng.normal(size=(len(contexts), G))
    rows = [
        (f"T{i:02d}", c, effect[i] + shift[k] + noise * rng.normal(size=G))
        for i in range(P)
        for k, c in enumerate(contexts)
    ]
    return table(rows, standard_error=np.full((len(rows), G), noise, dtype=np.float32))


def test_a_reliable_effect_of_one_context_is_the_prediction_in_another():
    train = table([("A", "x", [1.0, -2.0]), ("B", "x", [3.0, 0.0])], reliability=np.array([1.0, 1.0]))
    model = fit_transfer(train)
    assert model.predict(["A", "B"], ["y", "y"]) == pytest.approx(train.effects)
    assert model.routes(["A", "Z"], ["y", "y"]) == ["transfer", "fallback"]


def test_a_target_of_one_context_moves_by_what_sets_the_contexts_apart():
    train = screen(contexts="xy")
    seen = np.array([pair != ("T07", "y") for pair in zip(train.perturbations, train.contexts)])
    predicted = fit_transfer(train.rows(seen)).predict(["T07"], ["y"])
    assert predicted == pytest.approx(train.effects[~seen], abs=0.2)


def test_a_target_never_seen_has_the_main_effect_of_its_context():
    train = screen()
    assert np.array_equal(
        fit_transfer(train).predict(["Z"], ["y"]), fit_main_effects(train).of_contexts(["y"]).astype(np.float32)
    )


def test_rows_weigh_as_the_best_linear_prediction_has_them():
    train = screen(noise=0.5)
    model = fit_transfer(train)
    model.programs, model.scale = None, 1.0
    x, y = (train.perturbations.index("T03") + k for k in (0, 1))
    weights = model._weights([np.array([x, y])], ["z"]).toarray()[0, [x, y]]
    names = model.alike.names
    among = model.alike.covariance[np.ix_([0, 1], [0, 1])] + np.diag(model.noise[[x, y]])
    assert names == ["x", "y", "z"]
    assert weights == pytest.approx(np.linalg.solve(among, model.alike.covariance[2, :2]))


def test_an_effect_that_is_all_noise_is_drawn_to_the_main_effect():
    rng = np.random.default_rng(1)
    rows = [(f"T{i}", c, 0.3 * rng.normal(size=50)) for i in range(60) for c in "xy"]
    noisy = table(rows, standard_error=np.full((120, 50), 0.3, dtype=np.float32))
    model = fit_transfer(noisy)
    main = fit_main_effects(noisy).of_contexts(["z"])
    assert np.abs(model.predict(["T1"], ["z"]) - main).mean() < 0.1 * np.abs(noisy.effects).mean()


def test_of_two_contexts_the_more_reliable_one_counts_for_more():
    train = screen(P=80, contexts="xyz")
    errors = np.where(np.array(train.contexts) == "x", 1.0, 0.1)[:, None] * np.ones((1, 30))
    rng = np.random.default_rng(2)
    noisy = EffectTable(
        train.genes,
        train.perturbations,
        train.contexts,
        (train.effects + errors * rng.normal(size=errors.shape)).astype(np.float32),
        None,
        {},
        standard_error=errors.astype(np.float32),
    )
    model = fit_transfer(noisy)
    x, y = (noisy.perturbations.index("T03") + k for k in (0, 1))
    weights = model._weights([np.array([x, y])], ["z"]).toarray()[0]
    assert weights[y] > 5 * weights[x] > 0


def test_a_new_context_learns_more_from_the_one_with_alike_controls():
    train = screen(contexts="xyz", noise=0.3)
    rng = np.random.default_rng(3)
    controls = {c: rng.normal(size=30).astype(np.float32) for c in "xyz"}
    train.control_means = controls | {"w": controls["x"] + np.float32(0.1) * rng.normal(size=30).astype(np.float32)}
    alike = fit_transfer(train).alike
    assert np.argmax(alike.to("w")) == 0
    assert alike.to("never")[0] == pytest.approx(alike.to("never")[1], rel=0.3)


def test_low_rank_effects_transfer_by_programs_and_others_whole():
    rng = np.random.default_rng(4)
    low = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 80))
    truth = {"low": low, "high": rng.normal(size=(60, 80))}
    for name, effects in truth.items():
        rows = [(f"T{i}", c, effects[i] + rng.normal(size=80)) for i in range(60) for c in "xyz"]
        model = fit_transfer(table(rows, standard_error=np.ones((180, 80), dtype=np.float32)))
        assert model.programs == {"low": 2, "high": None}[name]
        # two programs keep two of the noise's 80 directions
        assert model.noise == pytest.approx(np.full(180, {"low": 2 / 80, "high": 1.0}[name]))
    whole = fit_transfer(table(rows), programs=3)
    assert whole.programs == 3
    assert np.linalg.matrix_rank(whole.deviations, tol=1e-3) == 3


def test_the_most_programs_that_are_tried_can_be_chosen(monkeypatch):
    monkeypatch.setattr("stateshift.effects.transfer.PROGRAMS", (1, 2))
    rng = np.random.default_rng(4)
    low = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 40))
    train = table([(f"T{i}", c, low[i] + 0.5 * rng.normal(size=40)) for i in range(30) for c in "xy"])
    assert fit_transfer(train).programs == 2


def test_noise_is_read_from_errors_else_from_reliability_else_from_cells():
    rows = [("A", "x", [3.0, 4.0]), ("B", "x", [1.0, 1.0])]
    plain = table(rows)
    assert row_noise(plain).tolist() == [0, 0]
    plain.n_cells = np.array([50, 150])
    assert row_noise(plain) == pytest.approx([12.5 * 0.5, 1.0 * 0.25])
    plain.reliability = np.array([0.5, np.nan])  # halves at 0.5 make a whole of 2/3
    assert row_noise(plain) == pytest.approx([12.5 / 3, 0.25])
    plain.reliability = np.array([0.0, -0.5])  # halves that have nothing in common: all of it is noise
    assert row_noise(plain) == pytest.approx([12.5, 1.0])
    plain.reliability = np.array([0.5, np.nan])
    plain.standard_error = np.array([[1.0, 3.0], [2.0, np.nan]], dtype=np.float32)
    assert row_noise(plain) == pytest.approx([5.0, 4.0])
    plain.standard_error[0] = np.nan
    assert row_noise(plain) == pytest.approx([12.5 / 3, 4.0])


def test_targets_measured_on_other_genes_in_each_context_say_nothing_of_how_alike_contexts_are():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(80, 60))
    rows = []
    for i, effect in enumerate(truth):
        for c, genes in (("x", slice(0, 30)), ("y", slice(30, 60))):
            values = effect + rng.normal(0, 0.1, 60)
            if i >= 40:  # the other context measures the other half
                values = np.where(np.isin(np.arange(60), np.arange(60)[genes]), values, np.nan)
            rows.append((f"T{i}", c, values))
    model = fit_transfer(table(rows, standard_error=np.full((160, 60), 0.1, dtype=np.float32)))
    spread = np.sqrt(np.diag(model.alike.covariance))
    assert model.alike.covariance[0, 1] / spread.prod() > 0.97
    assert model.scale > 0.97


def test_pairs_of_contexts_that_contradict_each_other_blow_no_weight_up():
    # x is as y by some targets and as z by others, while y and z have nothing in common by a third lot
    rng = np.random.default_rng(0)
    rows = []
    for i in range(30):
        for name, contexts in (("a", "xy"), ("b", "xz")):
            effect = rng.normal(size=200)
            rows += [(f"{name}{i}", c, effect + 0.3 * rng.normal(size=200)) for c in contexts]
        rows += [(f"d{i}", c, rng.normal(size=200)) for c in "yz"]
    train = table(rows, standard_error=np.full((180, 200), 0.3, dtype=np.float32))
    model = fit_transfer(train)
    spread = np.sqrt(np.diag(model.alike.covariance))
    correlation = model.alike.covariance / np.outer(spread, spread)
    assert np.linalg.eigvalsh(correlation).min() > -1e-9
    # what each pair says of itself is kept as far as the others let it
    assert correlation == pytest.approx(np.array([[1, 0.7, 0.7], [0.7, 1, 0], [0.7, 0, 1]]), abs=0.15)
    assert np.abs(model._weights([model.rows["a0"]], ["z"]).toarray()).max() < 1.5
    predicted = model.predict([f"a{i}" for i in range(30)], ["z"] * 30)
    assert np.sqrt((predicted**2).mean()) < np.sqrt((train.effects**2).mean())


def test_controls_that_differ_more_than_the_effects_do_blow_no_weight_up():
    train = screen(contexts="vxyz", noise=0.05)
    rng = np.random.default_rng(6)
    train.control_means = {c: rng.normal(size=30).astype(np.float32) for c in "vwxyz"}
    model = fit_transfer(train)
    spread = np.sqrt(np.diag(model.alike.covariance))
    assert (model.alike.covariance / np.outer(spread, spread)).min() > 0.99  # every target does the same in all of them
    weights = model._weights([model.rows["T03"]], ["w"]).toarray()[0, model.rows["T03"]]
    assert np.abs(weights).max() < 1.5
    truth = train.effects[np.array(train.contexts) == "x"] - model.main.of_contexts(["x"])
    told = model.predict(list(model.rows), ["w"] * 40) - model.main.of_contexts(["w"])
    assert np.abs(told - truth).mean() < 0.1 * np.abs(truth).mean()


def test_a_gene_is_transferred_from_the_contexts_that_measure_it():
    train = screen(contexts="xyz")
    train.effects[train.perturbations.index("T05"), 4] = np.nan
    predicted = fit_transfer(train).predict(["T05"], ["w"])
    others = fit_transfer(train.rows(np.array(train.contexts) != "x")).predict(["T05"], ["w"])
    assert np.isfinite(predicted).all()
    assert np.abs(predicted[0, 4] - others[0, 4]) < 0.5 * np.nanstd(train.effects)


def test_a_new_context_is_as_the_one_whose_control_cells_are_like_its_own():
    rng = np.random.default_rng(1)
    effect = rng.normal(size=(40, 30))
    train = table([(f"T{i:02d}", c, e + rng.normal(size=30)) for i, e in enumerate(effect) for c in "xyz"])
    # what all contexts express alike says nothing
    controls = {c: 50 + own for c, own in zip("xyz", rng.normal(size=(3, 30)))}
    alike = fit_transfer(train, controls=controls | {"new": controls["y"]}).alike
    x, y, z = alike.to("new") / np.sqrt(np.diag(alike.covariance))
    assert y > 1.5 * max(x, z)


def test_a_prediction_is_the_main_effect_and_the_scaled_best_linear_prediction_of_the_rows():
    main = MainEffects(np.array([1.0, 1.0]), {"x": np.array([0.5, 0.5]), "y": np.array([-0.5, -0.5])}, {})
    alike = Alike(["x", "y"], np.array([[2.0, 1.0], [1.0, 2.0]]), None, {})
    deviations, noise = np.array([[5.0, 0.0], [0.0, 10.0]]), np.array([1.0, 0.0])
    model = Transfer(main, {"A": np.array([0, 1])}, np.array([0, 1]), deviations, alike, noise, None, 0.5)
    # weights in x: [[2 + 1, 1], [1, 2 + 0]]⁻¹ [2, 1] = [0.6, 0.2]
    assert model.predict(["A", "Z"], ["x", "y"]) == pytest.approx(
        np.array([[1.5 + 0.5 * 0.6 * 5, 1.5 + 0.5 * 0.2 * 10], [0.5, 0.5]])
    )


def test_rows_without_a_gene_leave_their_weight_to_those_that_have_it():
    weights = csr_matrix([[0.25, 0.5, 0.0], [0.0, 0.0, 0.5]])
    found = weighted(weights, np.array([[1.0, np.nan, 4.0], [3.0, 4.0, np.nan], [8.0, np.nan, 2.0]]))
    # 0.75 in all: of the second gene 4 · 0.75, and no row of the second query has it
    assert found == pytest.approx(np.array([[1.75, 3.0, 3.0], [4.0, 0.0, 1.0]]))


def test_every_row_is_foretold_by_the_others_of_its_target_alone():
    rng = np.random.default_rng(0)
    pairs = [("A", "x"), ("B", "x"), ("C", "x"), ("A", "y"), ("C", "y"), ("D", "y"), ("C", "z")]
    model = fit_transfer(table([(p, c, rng.normal(size=6) + "ABCD".index(p)) for p, c in pairs]))
    asked, weights = model.by_others()
    assert asked.tolist() == [0, 2, 3, 4, 6]
    told_by = [set(weights[i].indices.tolist()) for i in range(5)]
    assert told_by == [{3}, {4, 6}, {0}, {2, 6}, {2, 4}]


def test_predictions_are_scaled_as_least_squares_of_rows_on_their_others_has_it():
    rng = np.random.default_rng(2)
    effect = rng.normal(size=(30, 20))
    rows = [(f"T{i:02d}", c, e + rng.normal(size=20)) for i, e in enumerate(effect) for c in "xy"]
    # targets of one context alone move less, so that contexts look more alike than the others say
    model = fit_transfer(
        train := table([*rows, *((f"{c}{i}", c, 0.3 * e) for c in "xy" for i, e in enumerate(effect))])
    )
    asked, weights = model.by_others()
    true = (train.effects - model.main.of_contexts(train.contexts))[asked]
    slope = np.linalg.lstsq((weights @ model.deviations).reshape(-1, 1), true.ravel(), rcond=None)[0]
    assert model.scale == pytest.approx(slope[0], rel=1e-5)
    assert 0.3 < model.scale < 0.99


def test_noise_that_was_declared_too_large_is_not_undone():
    train = screen(contexts="xy")
    train.standard_error = np.full_like(train.effects, 0.5)
    assert fit_transfer(train).scale == 1


def test_contexts_that_contradict_each_other_tell_nothing():
    effect = np.random.default_rng(0).normal(size=(20, 10))
    train = table([(f"T{i:02d}", c, sign * e) for i, e in enumerate(effect) for c, sign in (("x", 1), ("y", -1))])
    model = fit_transfer(train.rows(np.arange(40) < 39))
    told = model.predict(["T19", "T19"], ["y", "new"])
    assert told == pytest.approx(model.main.of_contexts(["y", "new"]), abs=1e-6)


def test_one_gene_is_transferred_too():
    train = table([(p, c, [value]) for p, value in zip("ABCD", (1.0, -2.0, 4.0, -3.0)) for c in "xy"])
    assert fit_transfer(train).predict(["A", "D"], ["new", "new"]) == pytest.approx(np.array([[1.0], [-3.0]]), abs=0.01)
