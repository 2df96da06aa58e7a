import numpy as np
import pytest

from stateshift.cells import EffectTable
from stateshift.effects import EFFECT_MODELS, HeldOut, fit_effect_models
from stateshift.effects.conformal import hold_out, load_held_out, save_held_out
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable


@pytest.fixture
def train() -> EffectTable:
    """Ten targets in three contexts, six genes."""
    rng = np.random.default_rng(0)
    perturbations, contexts = zip(*((f"G{i}", c) for i in range(10) for c in "abc"))
    effects = rng.standard_normal((30, 6)).astype(np.float32)
    return EffectTable([f"g{i}" for i in range(6)], list(perturbations), list(contexts), effects, np.full(30, 9), {})


@pytest.fixture
def features() -> FeatureTable:
    vectors = np.random.default_rng(1).standard_normal((10, 4))
    return FeatureTable([f"G{i}" for i in range(10)], vectors, {"source": "made"})


@pytest.mark.parametrize("name", ["mean", "ridge", "knn"])
def test_rows_of_new_targets_are_predicted_without_any_row_of_theirs(name, train, features):
    def predicted(table):
        model = fit_effect_models(table, features, [name])[name]
        held = hold_out(name, model, table, features, "T")
        return dict(zip(zip(held.perturbations, held.contexts), held.predicted))

    before = predicted(train)
    assert len(before) == 30
    changed = train.rows(np.ones(30, bool))
    of_g3 = np.array([p == "G3" for p in train.perturbations])
    changed.effects = np.where(of_g3[:, None], train.effects * 1.001, train.effects).astype(np.float32)
    after = predicted(changed)
    for context in "abc":
        np.testing.assert_allclose(after["G3", context], before["G3", context], atol=0.02)


def test_the_mean_of_held_out_targets_is_that_of_the_others(train):
    model = EFFECT_MODELS["mean"](train, None, 0)
    held = hold_out("mean", model, train, None, "T")
    row = 0
    here = np.all(held.predicted == held.predicted[row], axis=1)
    out = {p for p, same in zip(held.perturbations, here) if same}
    kept = np.array([p not in out for p in train.perturbations])
    assert len(out) == 2
    np.testing.assert_allclose(held.predicted[row], train.effects[kept].mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(held.true[row], train.effects[train.perturbations.index(held.perturbations[0])])


def test_a_stack_brings_its_own_rows(train, features):
    stack = EFFECT_MODELS["stack"](train, features, 0)
    assert hold_out("stack", stack, train, features, "T") is stack.held_out["T"]


def test_a_regime_that_one_context_cannot_imitate_gives_nothing(train):
    one = train.rows(np.array([c == "a" for c in train.contexts]))
    model = EFFECT_MODELS["mean"](one, None, 0)
    assert hold_out("mean", model, one, None, "C") is None
    assert hold_out("mean", model, one, None, "J") is None
    assert len(hold_out("mean", model, one, None, "T").perturbations) == 10


@pytest.mark.parametrize(
    ("name", "chosen"), [("ridge", ["alpha"]), ("knn", ["k"]), ("bilinear", ["alpha", "strength", "k"])]
)
def test_what_a_model_chose_stands_in_the_folds(name, chosen, train, features, monkeypatch):
    model = EFFECT_MODELS[name](train, features, 0)
    fit, given = EFFECT_MODELS[name], []
    monkeypatch.setitem(EFFECT_MODELS, name, lambda *args, **settled: given.append(settled) or fit(*args, **settled))
    hold_out(name, model, train, features, "T")
    assert given == 5 * [{key: getattr(model, key) for key in chosen}]


def test_transfer_keeps_its_programs_in_the_folds(train, monkeypatch):
    model = EFFECT_MODELS["transfer"](train, None, 0, programs=2)
    fit, given = EFFECT_MODELS["transfer"], []
    monkeypatch.setitem(
        EFFECT_MODELS, "transfer", lambda *args, **settled: given.append(settled["programs"]) or fit(*args, **settled)
    )
    hold_out("transfer", model, train, None, "C")
    assert given == 5 * [2]


def test_a_file_whose_arrays_are_of_other_pairs_is_refused(tmp_path):
    save_held_out(HeldOut(["A", "B"], ["c", "c"], np.ones((2, 1)), np.zeros((2, 1))), ["g"], tmp_path / "v.npz")
    held, genes = load_held_out(tmp_path / "v.npz")
    assert (held.perturbations, genes, held.predicted.tolist()) == (["A", "B"], ["g"], [[0.0], [0.0]])
    np.savez(tmp_path / "w.npz", **dict(np.load(tmp_path / "v.npz")) | {"true": np.ones((1, 1))})
    with pytest.raises(StateshiftError, match=r"w\.npz is damaged: its arrays are not of 2 pairs and 1 genes"):
        load_held_out(tmp_path / "w.npz")
