"""Members of a stack: fitted on what they share."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.main_effects import fit_main_effects
from stateshift.effects.stack.members import members_of
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable

MODULES = {"additive": "simple", "mapped": "mapped_transfer", "transfer": "transfer"}
MODULES |= {name: f"from_features.{name}" for name in ("ridge", "knn", "bilinear", "forest")}


@pytest.mark.parametrize("name", MODULES)
def test_a_member_is_fitted_on_the_main_effects_that_it_is_given(name, monkeypatch):
    rng = np.random.default_rng(0)
    names = [f"T{i:02d}" for i in range(12)]
    features = FeatureTable(names, rng.normal(size=(12, 3)), {"source": "x"})
    effects = rng.normal(size=(24, 5)).astype(np.float32)
    train = EffectTable([f"g{j}" for j in range(5)], names * 2, ["x"] * 12 + ["y"] * 12, effects, None, {})
    member, main = members_of(features, {})[name], fit_main_effects(train)
    module = import_module(f"stateshift.effects.{MODULES[name]}")
    fit = module.__dict__["fit_mapped_transfer" if name == "mapped" else f"fit_{name}"]
    by_itself = fit(train, features, 0)

    def again(train: EffectTable) -> None:
        raise StateshiftError("The main effects are fitted a second time.")

    monkeypatch.setattr(module, "fit_main_effects", again)
    given = member.fit(train, main, 0)
    asked = (["T01", "T05"], ["x", "new"])
    assert getattr(given, "transfer", given).main is main
    assert np.array_equal(given.predict(*asked), by_itself.predict(*asked))
