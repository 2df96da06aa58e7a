"""Effect models that other packages offer through the entry point group ``stateshift.effects``."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from stateshift.cells import EffectTable
from stateshift.effects import effect_model_names, fit_effect_models
from stateshift.effects.conformal import hold_out
from stateshift.effects.models import code_of
from stateshift.errors import StateshiftError

MODULE = """
import numpy as np

class Median:
    def __init__(self, train, features, seed):
        self.effect = np.median(train.effects, axis=0)

    def predict(self, perturbations, contexts):
        return np.tile(self.effect, (len(perturbations), 1))

class OneForAll(Median):
    def predict(self, perturbations, contexts):
        return self.effect

class Unbounded(Median):
    def predict(self, perturbations, contexts):
        return np.full((len(perturbations), len(self.effect)), np.inf)

class Told(Median):
    def routes(self, perturbations, contexts):
        return ["transfer" for _ in perturbations]

class Untold(Median):
    def routes(self, perturbations, contexts):
        return ["transfer"]
"""


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """A package invented here, installed as pip would leave it."""
    described = tmp_path / "invented_effects-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: invented-effects\nVersion: 1.0\n")
    names = {
        "median": "Median",
        "one": "OneForAll",
        "unbounded": "Unbounded",
        "told": "Told",
        "untold": "Untold",
        "broken": "Nothing",
    }
    lines = [f"{name} = invented_effects:{of}" for name, of in names.items()]
    (described / "entry_points.txt").write_text(
        "\n".join(["[stateshift.effects]", *lines, "ridge = invented_effects:Told"])
    )
    (tmp_path / "invented_effects.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def train() -> EffectTable:
    effects = np.array([[1.0, 0.0], [3.0, 2.0], [8.0, 4.0]], dtype="float32")
    return EffectTable(["g", "h"], ["A", "B", "C"], ["c"] * 3, effects, np.array([5, 5, 5]), {})


def test_a_model_of_another_package_is_fitted_by_its_name(train):
    model = fit_effect_models(train, None, ["median"])["median"]
    np.testing.assert_array_equal(model.predict(["Z", "A"], ["c", "c"]), [[3, 2], [3, 2]])
    assert model.routes(["Z"], ["c"]) == ["features"]
    assert fit_effect_models(train, None, ["told"])["told"].routes(["Z"], ["c"]) == ["transfer"]
    with pytest.raises(StateshiftError, match="`untold` tells 1 routes for 2 pairs"):
        fit_effect_models(train, None, ["untold"])["untold"].routes(["Z", "A"], ["c", "c"])
    assert {"stack", "median"} <= set(effect_model_names())


def test_ours_go_first_by_their_names(train):
    with pytest.raises(StateshiftError, match="`ridge` needs perturbation features"):
        fit_effect_models(train, None, ["ridge"])


def test_rows_are_held_out_of_it_like_of_ours(train):
    model = fit_effect_models(train, None, ["median"])["median"]
    held = hold_out("median", model, train, None, "T")
    row = held.perturbations.index("A")
    np.testing.assert_array_equal(held.predicted[row], [5.5, 3.0])


@pytest.mark.parametrize(
    ("name", "told"),
    [("one", r"predicts an array \(2,\)"), ("unbounded", "predicts NaN or infinite values")],
)
def test_an_answer_of_another_shape_or_without_end_is_refused(train, name, told):
    model = fit_effect_models(train, None, [name])[name]
    with pytest.raises(StateshiftError, match=rf"`{name}` {told}: finite effects \(2, 2\) are needed"):
        model.predict(["A", "B"], ["c", "c"])


def test_what_can_not_be_loaded_or_is_misspelt_is_told(train):
    with pytest.raises(StateshiftError, match=r"`broken` \(invented_effects:Nothing\) can't be loaded"):
        fit_effect_models(train, None, ["broken"])
    with pytest.raises(StateshiftError, match="`medain` is no effect model.*median"):
        fit_effect_models(train, None, ["medain"])


def test_changed_code_of_another_package_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "invented_effects", raising=False)
    before = code_of("median")
    assert before.startswith("invented-effects 1.0, SHA-256 ")
    assert (code_of("ridge"), code_of("knn"), code_of("nowhere")) == ("", "", "")
    (tmp_path / "invented_effects.py").write_text(MODULE.replace("median(", "mean("))
    assert code_of("median") != before
    (tmp_path / "invented_effects.py").write_text(MODULE)
    assert code_of("median") == before
