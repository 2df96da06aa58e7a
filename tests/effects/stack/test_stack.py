"""The stack: what it holds out, how it weighs, and what it predicts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import nnls

from stateshift.cells import regimes_of
from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects import fit_effect_models, fit_stack
from stateshift.effects.stack.folds import regime_folds
from stateshift.effects.stack.members import parts_of
from stateshift.effects.stack.row_space import RowSpace
from stateshift.effects.stack.weights import Products, bounded, member_weights
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable

P, F, G = 40, 6, 90


def screen(noise: float = 0.4, hidden: float = 0.0, contexts: str = "xy", seed: int = 0):
    """Targets, among them the genes T00 … measured, whose effects features tell but for `hidden`; each falls itself."""
    rng = np.random.default_rng(seed)
    names = [f"T{i:02d}" for i in range(P)]
    features = FeatureTable(names, rng.normal(size=(P, F)), {"source": "network"})
    effects = 0.3 * features.vectors @ rng.normal(size=(F, G)) + hidden * rng.normal(size=(P, G)) + rng.normal(size=G)
    pairs = [(p, c) for p in range(P) for c in contexts]
    rows = np.array([effects[p] + noise * rng.normal(size=G) for p, _ in pairs], dtype=np.float32)
    rows[np.arange(len(pairs)), [p for p, _ in pairs]] = -2.0
    genes = names + [f"g{j}" for j in range(G - P)]
    errors = np.full(rows.shape, noise, dtype=np.float32)
    table = EffectTable(genes, [names[p] for p, _ in pairs], [c for _, c in pairs], rows, None, {}, errors)
    return table, features


@pytest.fixture(scope="module")
def fitted():
    train, features = screen()
    return train, features, fit_stack(train, features)


def without(train: EffectTable, *pairs: tuple[str, str]) -> EffectTable:
    return train.rows(np.array([pair not in pairs for pair in zip(train.perturbations, train.contexts)]))


@pytest.mark.parametrize(("told", "asked"), [(False, False), (True, False), (False, True)])
def test_held_out_rows_are_of_their_regime_to_the_rows_that_are_fitted(told, asked):
    train, _ = screen()
    train.control_means = {"never perturbed": np.zeros(G)} if told else {}
    folds = regime_folds(train, new_context=asked)
    assert set(folds) == {"C", "T", "J"}
    for regime, of in folds.items():
        for fit, held in of:
            known = [(train.perturbations[i], train.contexts[i]) for i in fit]
            names = [train.perturbations[i] for i in held], [train.contexts[i] for i in held]
            assert set(regimes_of(*names, known)) == {regime}
            if regime == "C":
                assert set(names[1]).isdisjoint(c for _, c in known) == (told or asked)
        rows = np.concatenate([held for _, held in of])
        assert sorted(rows) == list(range(len(train)))


def test_what_rows_cannot_imitate_is_absent():
    train, _ = screen(contexts="x")
    assert set(regime_folds(train)) == {"T"}
    assert set(regime_folds(train.rows(np.array(train.perturbations) == "T03"))) == set()
    both, _ = screen(contexts="xy")
    assert set(regime_folds(both.rows(np.array(both.perturbations) == "T03"))) == {"C"}


def test_row_space_keeps_every_product_and_leads_back(fitted):
    train, *_ = fitted
    wide = EffectTable([str(j) for j in range(G)], ["A", "B", "C"], ["x"] * 3, train.effects[[0, 4, 9]], None, {})
    space = RowSpace.of(wide)
    assert space.table.effects.shape == (3, 3)
    assert space.table.effects @ space.table.effects.T == pytest.approx(
        wide.effects.astype(float) @ wide.effects.T.astype(float), rel=1e-6
    )
    mix = np.array([[0.2, -1.0, 3.0]])
    assert space.genes(mix @ space.table.effects) == pytest.approx(mix @ wide.effects, abs=1e-4)


def test_members_predict_in_row_space_what_they_predict_on_genes():
    train, features = screen(noise=0.8)
    train = train.rows(np.array(train.contexts) == "x")
    space = RowSpace.of(train)
    assert space.basis is not None
    for name in ("additive", "transfer", "ridge", "knn", "bilinear"):  # trees settle ties by rounding
        straight, rotated = (fit_effect_models(t, features, [name])[name] for t in (train, space.table))
        pairs = (["T01", "T07"], ["x", "w"])
        assert space.genes(rotated.predict(*pairs)) == pytest.approx(straight.predict(*pairs), abs=1e-3), name


def test_weights_are_non_negative_least_squares():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4, 30, 7))
    truth = 0.8 * inputs[0] + 0.5 * inputs[2] - 0.3 * inputs[3] + 0.1 * rng.normal(size=(30, 7))
    expected, _ = nnls(inputs.reshape(4, -1).T, truth.ravel())
    assert bounded(Products.of(inputs, truth), range(4)) == pytest.approx(expected, abs=1e-6)
    assert expected[3] == 0


def test_unmeasured_genes_weigh_nothing():
    rng = np.random.default_rng(0)
    inputs, truth = rng.normal(size=(2, 5, 6)), rng.normal(size=(5, 6))
    truth[0, :3] = np.nan
    known = ~np.isnan(truth)
    products = Products.of(inputs, truth)
    assert products.of_inputs == pytest.approx(np.array([[a[known] @ b[known] for a in inputs] for b in inputs]))
    assert products.with_truth == pytest.approx([a[known] @ truth[known] for a in inputs])


def test_a_member_that_helps_on_no_other_fold_leaves():
    rng = np.random.default_rng(1)
    folds = []
    for k in range(5):
        main, noise = rng.normal(size=(2, 6, 4))
        folds.append(Products.of([main, noise], main + 0.9 * noise * (1 if k == 0 else -0.2)))
    assert bounded(sum(folds[1:], folds[0]), [0, 1])[1] >= 0
    assert member_weights(folds)[1] == 0


def test_features_that_tell_everything_are_weighed_and_targets_never_seen_found(fitted):
    train, features, _ = fitted
    new = [f"T{i:02d}" for i in range(0, P, 7)]
    stack = fit_stack(train.rows(~np.isin(train.perturbations, new)), features)
    held = train.rows(np.isin(train.perturbations, new))
    predicted = stack.predict(held.perturbations, held.contexts)
    assert sum(w for name, w in stack.weights["T"].items() if name in ("ridge", "bilinear")) == pytest.approx(
        1, abs=0.25
    )
    assert np.corrcoef(predicted.ravel(), held.effects.ravel())[0, 1] > 0.85
    own = [train.genes.index(p) for p in held.perturbations]
    assert predicted[np.arange(len(own)), own] == pytest.approx(-2.0)
    assert set(stack.routes(held.perturbations, held.contexts)) == {"features"}


def test_a_target_that_features_do_not_tell_comes_from_other_contexts():
    train, features = screen(hidden=1.0)
    held = ("T05", "y")
    stack = fit_stack(without(train, held), features)
    assert stack.weights["C"]["transfer"] + stack.weights["C"]["additive"] > 0.3
    truth = train.effects[list(zip(train.perturbations, train.contexts)).index(held)]
    assert np.corrcoef(stack.predict(["T05"], ["y"])[0], truth)[0, 1] > 0.8
    assert stack.routes(["T05", "T05"], ["y", "new"]) == ["transfer", "transfer"]


def test_on_held_out_rows_the_stack_is_never_worse_than_the_main_effect(fitted):
    train, features, stack = fitted
    for regime, held in stack.held_out.items():
        main = fit_effect_models(train, features, ["context_mean"])["context_mean"]
        without_own = ~(np.array(held.perturbations)[:, None] == np.array(train.genes)[None])
        error = (((held.predicted - held.true) ** 2) * without_own).sum()
        # the main effect of all rows has even seen those that are held out
        assert error <= (((main.predict(held.perturbations, held.contexts) - held.true) ** 2) * without_own).sum(), (
            regime
        )


def test_held_out_rows_are_predicted_without_them(fitted):
    train, features, stack = fitted
    changed = dataclasses.replace(train, effects=train.effects.copy())
    rows = [i for i, p in enumerate(train.perturbations) if p == "T11"]
    changed.effects[rows] += 100
    other = fit_stack(changed, features).held_out["T"]
    before, after = (
        h.predicted[[i for i, p in enumerate(h.perturbations) if p == "T11"]] for h in (stack.held_out["T"], other)
    )
    assert np.array_equal(np.array(stack.held_out["T"].true), train.effects)
    # their own values reach them by the weights alone
    assert np.abs(after - before).max() < 10
    assert np.abs(other.true - stack.held_out["T"].true).max() == pytest.approx(100, rel=1e-3)


def test_the_order_of_rows_and_of_features_changes_nothing(fitted):
    train, features, stack = fitted
    order = np.random.default_rng(3).permutation(len(train))
    shuffled = EffectTable(
        train.genes,
        [train.perturbations[i] for i in order],
        [train.contexts[i] for i in order],
        train.effects[order],
        None,
        {},
        train.standard_error[order],
    )
    other = fit_stack(shuffled, features.subset(features.genes[::-1]))
    for regime, weights in stack.weights.items():
        assert other.weights[regime] == pytest.approx(weights, abs=0.02), regime
    pairs = (["T01", "T05+T06", "T03"], ["new", "x", "y"])
    assert other.predict(*pairs) == pytest.approx(stack.predict(*pairs), abs=0.02)


def test_a_measured_pair_is_what_was_measured_and_shrunk_where_errors_are_known(fitted):
    train, _, stack = fitted
    assert np.array_equal(stack.predict(["T03"], ["y"])[0], train.effects[train.perturbations.index("T03") + 1])
    assert stack.routes(["T03"], ["y"]) == ["measured"]
    known = train.effects / 2
    known[7, :3] = np.nan  # as with one control cell
    shrunk = fit_stack(dataclasses.replace(train, shrunk=known), None).predict(["T03"], ["y"])[0]
    assert np.array_equal(shrunk, np.where(np.arange(len(shrunk)) < 3, train.effects[7], known[7]))


def test_a_part_of_noise_gets_next_to_no_weight_and_costs_next_to_nothing(fitted):
    train, features, plain = fitted
    noise = np.random.default_rng(5).normal(size=(P, 60))
    parts = [{"source": "network", "columns": [0, F]}, {"source": "random", "columns": [F, F + 60]}]
    fused = FeatureTable(features.genes, np.hstack([features.vectors, noise]), {"source": "fusion", "parts": parts})
    assert list(parts_of(fused)) == ["network", "random"]
    stack = fit_stack(train, fused)
    on_noise = sum(w for name, w in stack.weights["T"].items() if name.endswith(":random"))
    on_signal = sum(w for name, w in stack.weights["T"].items() if name.endswith(":network"))
    assert on_noise < 0.1
    assert on_signal > 0.7
    errors = [((s.held_out["T"].predicted - s.held_out["T"].true) ** 2).sum() for s in (plain, stack)]
    assert errors[1] < 1.05 * errors[0]


def test_a_double_never_measured_is_the_sum_of_its_targets(fitted):
    *_, stack = fitted
    both = stack.predict(["T03+T04", "T04+T03"], ["x", "x"])
    singles = stack.predict(["T03", "T04"], ["x", "x"]).sum(axis=0)
    assert both[0] == pytest.approx(singles, abs=1e-5)
    assert np.array_equal(both[0], both[1])
    assert stack.routes(["T03+T04"], ["x"]) == ["transfer"]


def test_routes_of_many_pairs_look_through_the_training_pairs_once(fitted, monkeypatch):
    train, _, stack = fitted
    looked = []
    monkeypatch.setattr("stateshift.effects.stack.fit.regimes_of", lambda *args: looked.append(1) or regimes_of(*args))
    asked = [*train.perturbations, "T03+T04", "T05+never"]
    routes = stack.routes(asked, ["new"] * len(asked))
    assert looked == [1]
    assert routes == [stack.routes([p], ["new"])[0] for p in asked]


def test_one_context_borrows_what_it_cannot_imitate(caplog):
    train, features = screen(contexts="x")
    with caplog.at_level("INFO"):
        stack = fit_stack(train, features)
    assert set(stack.held_out) == {"T"}
    assert stack.weights["J"] == stack.weights["T"]
    assert stack.weights["C"]["transfer"] == stack.weights["C"]["main"] == 1
    assert "can't imitate regime C" in caplog.text


def test_without_features_the_stack_is_of_what_needs_none():
    train, _ = screen()
    stack = fit_stack(train, None)
    assert set(stack.weights["T"]) == {"main", "additive", "mapped", "transfer"}
    assert stack.routes(["never", "T01"], ["x", "new"]) == ["fallback", "transfer"]
    assert stack.predict([], []).shape == (0, G)


def test_a_partly_measured_table_is_fitted_and_predicted_whole():
    train, features = screen()
    missing = np.random.default_rng(2).choice([False, True], size=train.effects.shape[1], p=[0.7, 0.3])
    train.effects[np.ix_(np.array(train.contexts) == "y", missing)] = np.nan
    new = [f"T{i:02d}" for i in range(0, P, 7)]
    seen = ~np.isin(train.perturbations, new)
    stack = fit_stack(train.rows(seen), features)
    held = train.rows(~seen & (np.array(train.contexts) == "x"))
    predicted = stack.predict(held.perturbations, ["y"] * len(held))
    assert np.isfinite(predicted).all()
    assert np.corrcoef(predicted.ravel(), held.effects.ravel())[0, 1] > 0.8


def test_a_training_target_without_features_is_refused_by_name():
    train, features = screen()
    with pytest.raises(StateshiftError, match="T07"):
        fit_stack(train, features.subset([g for g in features.genes if g != "T07"]))


def test_a_target_without_features_falls_back_to_the_main_effect(fitted):
    *_, stack = fitted
    assert stack.routes(["unheard of"], ["x"]) == ["fallback"]
    expected = stack.weights["T"]["main"] * stack.space.genes(stack.main.of_contexts(["x"]))
    assert stack.predict(["unheard of"], ["x"]) == pytest.approx(expected, abs=1e-5)
