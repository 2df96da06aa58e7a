"""The effect models against hand-worked numbers, least squares and scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects import EFFECT_MODELS, fit_effect_models, ridge_map, ridge_map_beyond
from stateshift.effects.from_features.feature_space import gene_folds
from stateshift.effects.from_features.knn import fit_knn
from stateshift.effects.from_features.ridge import fit_ridge
from stateshift.effects.main_effects import fit_main_effects
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable


def table(rows: list[tuple[str, str, list[float]]]) -> EffectTable:
    """An EffectTable of (perturbation, context, effect) rows."""
    effects = np.array([effect for *_, effect in rows], dtype=np.float32).reshape(len(rows), -1)
    return EffectTable(
        [f"g{i}" for i in range(effects.shape[1])],
        [p for p, *_ in rows],
        [c for _, c, _ in rows],
        effects,
        np.full(len(rows), 20),
        {},
    )


def linear_screen(n: int = 24, width: int = 6, noise: float = 0.0, seed: int = 0):
    """Targets in two contexts whose effects are a linear map of their features plus noise."""
    rng = np.random.default_rng(seed)
    genes = [f"T{i:02d}" for i in range(n)]
    features = FeatureTable(genes, rng.normal(size=(n, width)) * rng.uniform(0.1, 30, width) + 5)
    effects = features.vectors @ rng.normal(size=(width, 9)) * 0.05 + 0.3
    rows = [
        (g, c, effects[i] + shift + noise * rng.normal(size=9))
        for i, g in enumerate(genes)
        for c, shift in (("x", 0.0), ("y", 1.0))
    ]
    return table(rows), features


UNBALANCED = table([("A", "x", [1.0]), ("A", "y", [3.0]), ("B", "x", [5.0])])


def test_control_predicts_no_change():
    model = fit_effect_models(UNBALANCED, None, ["control"])["control"]
    assert np.array_equal(model.predict(["A", "Z"], ["x", "w"]), np.zeros((2, 1), dtype=np.float32))


def test_the_mean_counts_each_perturbation_once():
    # A: (1 + 3) / 2 = 2, B: 5, C: 8; the mean of the three is 5, and not (1 + 3 + 5 + 8) / 4
    train = table([("A", "x", [1.0]), ("A", "y", [3.0]), ("B", "x", [5.0]), ("C", "x", [8.0])])
    model = fit_effect_models(train, None, ["mean"])["mean"]
    assert model.predict(["A", "Z"], ["x", "w"]).tolist() == [[5.0], [5.0]]


def test_the_context_mean_of_an_unseen_context_is_the_overall_mean():
    train = table([("A", "x", [1.0]), ("A", "y", [4.0]), ("B", "x", [5.0])])
    model = fit_effect_models(train, None, ["context_mean"])["context_mean"]
    # x: (1 + 5) / 2 = 3; y: 4; never seen: (2.5 + 5) / 2
    assert model.predict(["Z", "Z", "Z"], ["x", "y", "w"]).tolist() == [[3.0], [4.0], [3.75]]


def test_additive_solves_an_unbalanced_table_as_by_hand():
    # Three rows, three free numbers: the fit is exact. y is 2 above x (from A), B is 4 above A.
    # Contexts sum to zero: x −1, y +1. Targets then: A 2, B 6; their mean 4 is the overall effect.
    main = fit_main_effects(UNBALANCED)
    assert main.overall == pytest.approx([4.0])
    assert main.contexts["x"] == pytest.approx([-1.0])
    assert main.targets["B"] == pytest.approx([2.0])
    model = fit_effect_models(UNBALANCED, None, ["additive"])["additive"]
    pairs = [("A", "x", 1), ("A", "y", 3), ("B", "x", 5), ("B", "y", 7), ("Z", "y", 5), ("B", "w", 6), ("Z", "w", 4)]
    predicted = model.predict([p for p, *_ in pairs], [c for _, c, _ in pairs])
    assert predicted[:, 0] == pytest.approx([v for *_, v in pairs])


def test_additive_gives_an_unseen_double_the_sum_of_its_targets_where_both_were_trained():
    model = fit_effect_models(UNBALANCED, None, ["additive"])["additive"]
    known = sorted(set(UNBALANCED.perturbations))[:2]
    one, other = model.predict(known, ["y", "y"])
    double = "+".join(known)
    assert model.predict([double], ["y"])[0] == pytest.approx(one + other)
    assert model.predict([f"{known[0]}+never"], ["y"])[0] == pytest.approx(model.predict(["never"], ["y"])[0])
    assert model.routes([double, f"{known[0]}+never"], ["y", "y"]) == ["transfer", "fallback"]


def test_additive_gives_a_trained_double_its_own_effect_in_any_order_of_its_genes():
    train = table([("A", "x", [1.0]), ("B", "x", [2.0]), ("A+B", "x", [9.0])])
    model = fit_effect_models(train, None, ["additive"])["additive"]
    assert model.predict(["A+B", "B+A", "A"], ["x"] * 3)[:, 0] == pytest.approx([9, 9, 1])
    assert model.routes(["B+A"], ["x"]) == ["transfer"]


def test_additive_equals_least_squares_on_indicator_columns():
    rng = np.random.default_rng(3)
    names = [(p, c) for p in "ABCDEFG" for c in "xyz" if rng.random() < 0.6]
    train = table([(p, c, rng.normal(size=4)) for p, c in names])
    design = np.array([[p == q for q in "ABCDEFG"] + [c == d for d in "xyz"] for p, c in names], dtype=float)
    fitted = design @ np.linalg.lstsq(design, train.effects.astype(float), rcond=None)[0]
    model = fit_effect_models(train, None, ["additive"])["additive"]
    assert np.allclose(model.predict(train.perturbations, train.contexts), fitted, atol=1e-5)


def test_contexts_that_share_no_target_get_no_deviation_from_each_other():
    main = fit_main_effects(table([("A", "x", [1.0]), ("B", "y", [9.0])]))
    assert main.contexts["x"] == pytest.approx([0.0])
    assert main.of_contexts(["y"])[0] + main.of_targets(["B"])[0] == pytest.approx([9.0])


def test_ridge_equals_its_closed_form_at_the_chosen_penalty():
    train, features = linear_screen(noise=0.5)
    model = fit_ridge(train, features)
    names = list(model.main.targets)
    deviations = np.stack([model.main.targets[p] for p in names])
    x = features.matrix(names).astype(float)
    x = (x - x.mean(axis=0)) / x.std(axis=0) / np.sqrt(x.shape[1])
    weight = np.linalg.solve(x.T @ x + model.alpha * np.eye(x.shape[1]), x.T @ deviations)
    assert np.allclose(model.axes @ model.coefficients, weight, atol=1e-8)


def test_ridge_chooses_the_penalty_that_scikit_learn_chooses_on_the_same_folds():
    from sklearn.linear_model import RidgeCV

    from stateshift.effects.from_features.ridge import ALPHAS

    # 20 targets make 5 folds of one size, so that a mean over folds is a mean over targets.
    train, features = linear_screen(n=20, noise=0.5)
    model = fit_ridge(train, features)
    names = list(model.main.targets)
    deviations = np.stack([model.main.targets[p] for p in names])
    reference = RidgeCV(ALPHAS, cv=gene_folds(names), scoring="neg_mean_squared_error")
    reference.fit(model.space(names), deviations)
    assert model.alpha == reference.alpha_
    assert 1e-3 < model.alpha < 1e3


def test_ridge_recovers_a_linear_map_for_targets_and_contexts_never_seen():
    train, features = linear_screen()
    seen = np.array([p < "T20" for p in train.perturbations])
    model = fit_effect_models(train.rows(seen), features, ["ridge"])["ridge"]
    held = train.rows(~seen)
    residual = model.predict(held.perturbations, held.contexts) - held.effects
    assert np.abs(residual).max() < 0.05 * np.abs(held.effects - held.effects.mean(axis=0)).max()
    # a context never seen has the mean of x and y, which differ by 1
    at = held.contexts.index("x")
    unseen = model.predict([held.perturbations[at]], ["w"])
    assert np.allclose(unseen, held.effects[at] + 0.5, atol=0.1)


def test_the_ridge_map_is_the_ridge_model_averaged_over_contexts():
    train, features = linear_screen(noise=0.2)
    down, up, intercept = ridge_map(train, features)
    weight = down @ up
    model = fit_effect_models(train, features, ["ridge"])["ridge"]
    by_map = features.vectors @ weight + intercept
    assert weight.shape == (6, 9)
    assert np.allclose(by_map, model.predict(features.genes, ["unseen"] * len(features)), atol=1e-4)


def test_a_known_map_counts_as_far_as_it_fits_and_the_rest_is_fitted():
    train, features = linear_screen(noise=0.2)
    few = train.rows(np.array([p < "T06" for p in train.perturbations]))
    nothing = (np.zeros((6, 0), np.float32), np.zeros((0, 9), np.float32), np.zeros(9, np.float32))
    for ours, plain in zip(ridge_map_beyond(nothing, few, features), (*ridge_map(few, features), 0.0), strict=True):
        assert np.array_equal(ours, plain)
    known = ridge_map(train, features)
    # twice what is true: half of it fits, and nothing is left to fit
    double = (known[0], known[1] * 2, known[2] * 2)
    down, up, intercept, weight = ridge_map_beyond(double, few, features)
    said = features.matrix(few.perturbations) @ double[0] @ double[1] + double[2]
    assert weight == pytest.approx((said * few.effects).sum() / (said**2).sum(), rel=1e-5)
    assert weight == pytest.approx(0.5, abs=0.05)
    truth = features.vectors @ known[0] @ known[1] + known[2]
    own = ridge_map(few, features)
    error = np.abs(features.vectors @ down @ up + intercept - truth).mean()
    assert error < 0.5 * np.abs(features.vectors @ own[0] @ own[1] + own[2] - truth).mean()
    half = (known[0], known[1] / 2, known[2] / 2)
    found = ridge_map_beyond(half, few, features)
    assert found[3] == 1  # what shrank stays so
    said = features.matrix(few.perturbations) @ half[0] @ half[1] + half[2]
    rest = ridge_map(replace(few, effects=few.effects - said), features)
    np.testing.assert_allclose(found[0] @ found[1], half[0] @ half[1] + rest[0] @ rest[1], atol=1e-5)
    np.testing.assert_allclose(found[2], half[2] + rest[2], atol=1e-5)
    # factors without an effect keep their places: other maps of a model share them
    silent = ridge_map_beyond((known[0], known[1] * 0, known[2] * 0), few, features)
    assert silent[0].shape == (6, known[0].shape[1] + own[0].shape[1])
    np.testing.assert_array_equal(silent[0] @ silent[1], own[0] @ own[1])
    assert silent[3] == 0
    # a map may be an intercept alone, or have none
    alone = ridge_map_beyond((known[0], known[1] * 0, known[2]), few, features)
    assert alone[3] == pytest.approx(np.clip((known[2] * few.effects).sum() / (12 * (known[2] ** 2).sum()), 0, 1))
    without = ridge_map_beyond((known[0], 2 * known[1], known[2] * 0), few, features)
    said = 2 * features.matrix(few.perturbations) @ known[0] @ known[1]
    assert without[3] == pytest.approx((said * few.effects).sum() / (said**2).sum(), rel=1e-5)
    assert 0.1 < without[3] < 0.9
    # a map of nothing to do with these effects counts for next to nothing
    noise = np.random.default_rng(3).choice([-1.0, 1.0], (6, 9)).astype(np.float32)
    assert abs(ridge_map_beyond((np.eye(6, dtype=np.float32), noise, intercept * 0), train, features)[3]) < 0.05


def test_useless_features_leave_ridge_at_the_context_main_effect():
    train, features = linear_screen(noise=0.0)
    rng = np.random.default_rng(1)
    noise = FeatureTable(features.genes, rng.normal(size=(len(features), 40)))
    models = fit_effect_models(train, noise, ["ridge", "additive"])
    ridge, main = (models[n].predict(["T03", "never"][i : i + 1], ["x"]) for i, n in enumerate(models))
    spread = train.effects.std(axis=0).mean()
    assert np.abs(ridge - main).mean() < 0.5 * spread


def test_knn_takes_the_cosine_weighted_mean_of_its_neighbours():
    # Centred and scaled, the features are the corners of a square; a query at (1, 0) is at 45° from two.
    features = FeatureTable(list("ABCDQ"), np.array([[1, 1], [1, -1], [-1, 1], [-1, -1], [3, 0]]))
    train = table([("A", "x", [8.0]), ("B", "x", [4.0]), ("C", "x", [0.0]), ("D", "x", [0.0])])
    model = fit_knn(train, features)
    model.k = 2
    assert model.predict(["Q"], ["x"]) == pytest.approx(np.array([[6.0]]))
    assert model.routes(["Q"], ["x"]) == ["features"]


def test_knn_finds_the_family_of_a_target_never_perturbed():
    rng = np.random.default_rng(0)
    family = np.repeat(np.eye(4), 6, axis=0)
    genes = [f"F{i // 6}M{i % 6}" for i in range(24)]
    features = FeatureTable(genes, family @ rng.normal(size=(4, 16)) + 0.1 * rng.normal(size=(24, 16)))
    shift = family @ rng.normal(size=(4, 30))
    seen = [i for i in range(24) if i % 6]
    train = table([(genes[i], "x", shift[i] + 0.05 * rng.normal(size=30)) for i in seen])
    model = fit_knn(train, features)
    held = [i for i in range(24) if not i % 6]
    predicted = model.predict([genes[i] for i in held], ["x"] * 4)
    assert 1 < model.k <= 8
    assert np.corrcoef(predicted.ravel(), shift[held].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("name", ["ridge", "knn"])
def test_a_double_is_read_through_the_sum_of_its_genes_vectors(name):
    train, features = linear_screen()
    model = fit_effect_models(train, features, [name])[name]
    summed = FeatureTable(["S"], features.vectors[:1] + features.vectors[1:2])
    both = FeatureTable([*features.genes, "S"], np.concatenate([features.vectors, summed.vectors]))
    same = fit_effect_models(train, both, [name])[name]
    assert np.allclose(model.predict(["T00+T01"], ["x"]), same.predict(["S"], ["x"]), atol=1e-6)


def test_the_routes_say_how_each_prediction_was_reached():
    train, features = linear_screen()
    models = fit_effect_models(train, features, list(EFFECT_MODELS))
    pairs = (["T01", "T01+T02"], ["x", "w"])
    assert {name: model.routes(*pairs) for name, model in models.items()} == {
        "control": ["fallback", "fallback"],
        "mean": ["fallback", "fallback"],
        "context_mean": ["fallback", "fallback"],
        "additive": ["transfer", "transfer"],
        "ridge": ["features", "features"],
        "knn": ["features", "features"],
        "transfer": ["transfer", "fallback"],
        "bilinear": ["features", "features"],
        "forest": ["features", "features"],
        "stack": ["measured", "transfer"],
    }


def test_one_perturbation_with_one_hot_features_is_its_mean_effect_in_every_model():
    train = table([("stim", "x", [1.0, -2.0]), ("stim", "y", [3.0, 0.0])])
    onehot = FeatureTable(["stim"], np.ones((1, 1)))
    down, up, intercept = ridge_map(train, onehot)
    weight = down @ up
    assert (onehot.vectors @ weight + intercept).tolist() == [[2.0, -1.0]]
    models = fit_effect_models(train, onehot)
    for name in ("mean", "context_mean", "additive", "ridge", "knn"):
        assert models[name].predict(["stim"], ["z"]).tolist() == [[2.0, -1.0]], name


@pytest.mark.parametrize("n_targets", [1, 2, 3])
def test_fewer_perturbations_than_folds_and_one_context_still_fit(n_targets):
    names = ["A", "B", "C"][:n_targets]
    train = table([(p, "x", [float(i), 1.0]) for i, p in enumerate(names)])
    features = FeatureTable([*names, "Z"], np.random.default_rng(0).normal(size=(n_targets + 1, 5)))
    for name, model in fit_effect_models(train, features).items():
        predicted = model.predict([*names, "Z"], ["x"] * (n_targets + 1))
        assert predicted.dtype == np.float32
        assert predicted.shape == (n_targets + 1, 2)
        expected = 0.0 if name == "control" else 1.0
        assert np.allclose(predicted[:, 1], expected, atol=1e-6), name


def test_constant_features_leave_the_context_main_effect():
    train, features = linear_screen()
    constant = FeatureTable(features.genes, np.full((len(features), 3), 7.3))
    models = fit_effect_models(train, constant, ["additive", "ridge", "knn"])
    main = models["additive"].predict(["never"], ["y"])
    assert np.allclose(models["ridge"].predict(["T00"], ["y"]), main, atol=1e-6)
    assert np.allclose(models["knn"].predict(["T00"], ["y"]), main, atol=1e-6)
    assert models["knn"].routes(["T00"], ["y"]) == ["fallback"]


@pytest.mark.parametrize("name", list(EFFECT_MODELS))
def test_no_pair_gives_no_row(name):
    train, features = linear_screen()
    model = fit_effect_models(train, features, [name])[name]
    assert model.predict([], []).shape == (0, 9)
    assert model.routes([], []) == []


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_training_rows_changes_nothing(random):
    train, features = linear_screen(n=11, noise=0.3)
    order = list(range(len(train)))
    random.shuffle(order)
    shuffled = table([(train.perturbations[i], train.contexts[i], train.effects[i]) for i in order])
    genes = list(features.genes)
    random.shuffle(genes)
    names = [name for name in EFFECT_MODELS if name != "stack"]
    straight = fit_effect_models(train, features, names)
    other = fit_effect_models(shuffled, features.subset(genes), names)
    pairs = (["T00", "T05+T06", "T03"], ["x", "y", "w"])
    for name in names:
        assert np.allclose(straight[name].predict(*pairs), other[name].predict(*pairs), atol=1e-5), name


@pytest.mark.parametrize("name", [name for name in EFFECT_MODELS if name not in ("forest", "stack")])
def test_effects_in_a_thousandth_of_the_unit_are_predicted_in_it(name):
    train, features = linear_screen(n=11, noise=0.3)
    train = replace(train, n_cells=np.full(len(train), 2000))
    small = replace(train, effects=train.effects / 1000)
    pairs = (["T00", "T05+T06", "T03"], ["x", "y", "w"])
    straight, other = (fit_effect_models(table, features, [name])[name].predict(*pairs) for table in (train, small))
    np.testing.assert_allclose(1000 * other, straight, atol=1e-4)


def test_held_out_genes_take_their_doubles_with_them():
    names = ["A", "B", "A+B", "C", "D", "E", "F", "C+F"]
    for fit, held in gene_folds(names, seed=4):
        fitted_genes = {g for i in fit for g in names[i].split("+")}
        singles_held = {names[i] for i in held if "+" not in names[i]}
        assert fitted_genes.isdisjoint(singles_held)
        assert sorted([*fit, *held]) == list(range(len(names)))


def test_a_training_gene_without_features_is_refused_by_name():
    train, features = linear_screen()
    with pytest.raises(StateshiftError, match="T07"):
        fit_effect_models(train, features.subset([g for g in features.genes if g != "T07"]), ["ridge"])


def test_models_on_features_say_so_when_there_are_none():
    train, _ = linear_screen()
    with pytest.raises(StateshiftError, match="`knn` needs perturbation features"):
        fit_effect_models(train, None, ["mean", "knn"])


def test_an_unknown_model_is_refused_with_a_suggestion():
    with pytest.raises(StateshiftError, match=r"`rigde` is no effect model.*did you mean `ridge`"):
        fit_effect_models(UNBALANCED, None, ["rigde"])


@pytest.mark.parametrize("name", ["mean", "context_mean", "additive"])
def test_an_empty_training_table_is_refused(name):
    empty = UNBALANCED.rows(np.zeros(3, dtype=bool))
    with pytest.raises(StateshiftError, match="no training effects"):
        fit_effect_models(empty, None, [name])
