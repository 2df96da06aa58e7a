from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

from stateshift.cells import EffectTable
from stateshift.errors import StateshiftError
from stateshift.prediction import predict
from stateshift.training import train

FAST = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "training.max_steps=6",
    "training.val_every=6", "training.lr=1e-2",
    "model.start=none",
]  # fmt: skip


@pytest.fixture
def members(screen):
    """Two runs of one training that differ in their seed."""
    return [
        train(
            screen.toml, [*FAST, f"seed={seed}"], pert_features=screen.table, output_dir=screen.folder, name=f"s{seed}"
        )
        for seed in (0, 1)
    ]


@pytest.fixture
def ask(screen, tmp_path):
    def asked(runs, **kwargs):
        arguments = {"cells": screen.cells, "perturb": ["G4"], "output": tmp_path / "p.h5ad", "overwrite": True}
        return ad.read_h5ad(predict(runs, **{**arguments, **kwargs}))

    return asked


def test_an_ensemble_is_the_mean_of_its_members_on_the_same_controls(members, ask):
    one, two, both = ask(members[0]), ask(members[1]), ask(members)
    assert both.obs_names.tolist() == one.obs_names.tolist() == two.obs_names.tolist()
    assert np.abs(one.X - two.X).max() > 1e-4
    np.testing.assert_allclose(both.X.toarray(), (one.X.toarray() + two.X.toarray()) / 2, atol=1e-6)
    told = both.uns["stateshift"]["ensemble"]
    assert told["runs"].tolist() == ["s0", "s1"]
    effects = [a.uns["stateshift"]["intervals"]["effects"] for a in (one, two)]
    np.testing.assert_allclose(told["spread"], np.std(effects, axis=0, ddof=1), atol=1e-6)


def test_an_ensemble_of_one_is_the_run(members, ask):
    alone, listed = ask(members[0]), ask([members[0]])
    np.testing.assert_array_equal(alone.X.toarray(), listed.X.toarray())
    assert "ensemble" not in listed.uns["stateshift"]


def test_runs_of_other_trainings_are_refused_by_name_and_reason(members, ask, screen):
    screen.write_toml('[training]\nmade = "train"\n[zeroshot]\n"made.A549" = "test"\n')
    other = train(screen.toml, FAST, pert_features=screen.table, output_dir=screen.folder, name="other")
    with pytest.raises(StateshiftError, match="no ensemble with s0: 1 problem\n.*other was trained on other pert"):
        ask([members[0], other])
    effects = EffectTable.load(members[1] / "effects.npz")
    replace(effects, genes=effects.genes[::-1]).save(members[1] / "effects.npz")
    (members[1] / "genes.txt").write_text("\n".join(effects.genes[::-1]) + "\n")
    with pytest.raises(StateshiftError, match="s1 predicts other genes"):
        ask(members)


def test_a_run_named_twice_and_an_effect_model_of_two_runs_are_refused(members, ask):
    with pytest.raises(StateshiftError, match="s0 is named twice"):
        ask([members[0], members[0]])
    with pytest.raises(StateshiftError, match="--model ridge is fitted on the effects of one run"):
        ask(members, model="ridge")
