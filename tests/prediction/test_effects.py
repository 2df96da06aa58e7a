"""Effects without cells are those of the cells that a prediction writes."""

import anndata as ad
import numpy as np
import pytest

from stateshift.prediction import predict
from stateshift.prediction.effects import predict_effects
from stateshift.prediction.prepared import Asked
from stateshift.training import train

FAST = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "training.max_steps=4",
    "training.val_every=4",
]  # fmt: skip


@pytest.mark.parametrize("model", ["transition", "ridge", "stack"])
def test_effects_are_the_mean_of_the_cells_less_their_controls(screen, tmp_path, model):
    run = train(screen.toml, FAST, pert_features=screen.table, output_dir=screen.folder, name="run")
    asked = {"cells": screen.cells, "perturb": ["G4", "G1+G2"], "model": model}
    found = predict_effects(run, Asked(**asked, baselines=False))
    cells = ad.read_h5ad(predict(run, output=tmp_path / "p.h5ad", **asked))
    assert found.genes == cells.var_names.tolist()
    assert len(found.pairs) == 6
    for (context, target), effect, route in zip(found.pairs, found.values, found.routes):
        inside = cells[cells.obs["context"] == context]
        own = inside[inside.obs["target_gene"] == target]
        control = inside[inside.obs["is_control"]]
        np.testing.assert_allclose(effect, own.X.mean(0).A1 - control.X.mean(0).A1, atol=2e-6)
        assert set(own.obs["route"]) == {route}
