"""Predictions made apart are, joined, the prediction made at once."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.prediction import join_predictions, predict
from stateshift.training import train

FAST = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "training.max_steps=20",
    "training.val_every=10", "training.lr=1e-3",
]  # fmt: skip
GENES = ["G4", "G1+G2", "G3"]


@pytest.fixture
def ask(screen, tmp_path):
    """Predict by one small run, to a file of a name."""
    run = train(screen.toml, FAST, pert_features=screen.table, output_dir=screen.folder, name="run")

    def asked(name, run=run, **kwargs):
        return predict(run, **{"cells": screen.cells, "perturb": GENES, "output": tmp_path / f"{name}.h5ad", **kwargs})

    return asked


def assert_same(one, other):
    """Nested dicts of arrays and values, to the last bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    else:
        np.testing.assert_array_equal(one, other)


def test_shards_joined_are_the_prediction_made_at_once_to_the_last_bit(ask, screen, tmp_path):
    whole = ad.read_h5ad(ask("whole"))
    contexts = list(dict.fromkeys(whole.obs["context"].astype(str)))
    assert len(contexts) > 1
    shards = [ask(f"of_{context}", contexts=[context]) for context in contexts]
    joined = ad.read_h5ad(join_predictions(shards, tmp_path / "joined.h5ad"))
    pd.testing.assert_frame_equal(joined.obs, whole.obs)
    pd.testing.assert_frame_equal(joined.var, whole.var)
    np.testing.assert_array_equal(joined.X.toarray(), whole.X.toarray())
    assert_same(joined.uns["stateshift"], whole.uns["stateshift"])
    assert whole.uns["stateshift"]["columns"] == {}
    by_genes = [ask("first", perturb=GENES[:1]), ask("second", perturb=GENES[1:])]
    joined = ad.read_h5ad(join_predictions(by_genes, tmp_path / "joined.h5ad", overwrite=True))
    assert sorted(joined.obs_names) == sorted(whole.obs_names)
    pd.testing.assert_frame_equal(joined.obs.loc[whole.obs_names], whole.obs)
    np.testing.assert_array_equal(joined[whole.obs_names].X.toarray(), whole.X.toarray())
    cells = ad.read_h5ad(screen.cells)
    cells.obs["guide"] = cells.obs["target_gene"]
    cells.write_h5ad(tmp_path / "own.h5ad")
    # a part may start from cells that call their columns otherwise: no name is that of all
    apart = ask("apart", perturb=GENES[1:], cells=tmp_path / "own.h5ad", columns={"perturbation": "guide"})
    joined = ad.read_h5ad(join_predictions([by_genes[0], apart], tmp_path / "joined.h5ad", overwrite=True))
    assert joined.uns["stateshift"]["columns"] == {}


def test_what_does_not_belong_together_is_told_all_at_once(ask, screen, tmp_path):
    one, seed = ask("one", perturb=["G4"]), ask("seed", perturb=["G4", "G3"], seed=1)
    cells = ad.read_h5ad(screen.cells)
    cells.X = cells.X * 0.5
    cells.write_h5ad(tmp_path / "others.h5ad")
    others = ask("others_made", perturb=["G1"], cells=tmp_path / "others.h5ad")
    with pytest.raises(InputProblems) as told:
        join_predictions([one, seed, others], tmp_path / "out.h5ad")
    assert "`seed` is not the same: 0, 1" in str(told.value)
    assert "seed.h5ad predicts again: G4 in" in str(told.value)
    assert "others_made.h5ad and" in str(told.value)
    assert "other control cells of T98G" in str(told.value)
    assert not (tmp_path / "out.h5ad").exists()
    own = train(
        screen.toml, [*FAST, "seed=1"], pert_features=screen.table, output_dir=screen.folder / "own", name="run"
    )
    with pytest.raises(InputProblems, match="`run_sha256` is not the same"):
        join_predictions([one, ask("own", run=own, perturb=["G1"])], tmp_path / "out.h5ad")
    with pytest.raises(StateshiftError, match="cells.h5ad is no prediction of stateshift|is no prediction"):
        join_predictions([one, screen.cells], tmp_path / "out.h5ad")
    with pytest.raises(StateshiftError, match="two predictions or more"):
        join_predictions([one], tmp_path / "out.h5ad")
