"""Predictions of a network beside its backbone: the network's where it is kept, else the backbone's to the bit."""

from __future__ import annotations

import json
import shutil

import anndata as ad
import numpy as np
import pytest
import torch

from stateshift.effects.conformal import load_held_out
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.prediction import predict
from stateshift.prediction.anchored import find_backbone
from stateshift.prediction.intervals.calibrator import stored_validation
from stateshift.run import open_run
from stateshift.training import train
from stateshift.transition import TransitionModel
from stateshift.transition.checkpoint import config_of

SMALL = [
    "model=anchored", "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=16",
    "training.lr=1e-2", "training.max_steps=4", "training.val_every=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(two_way_maker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("anchored")
    train(two_way_maker(folder), SMALL, output_dir=folder, name="run")
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy") / "run"


def keep(run, kept: bool) -> None:
    """Rewrite a run's verdict."""
    record = json.loads((run / "anchored.json").read_text())
    record["regimes"]["T"]["kept"] = kept
    (run / "anchored.json").write_text(json.dumps(record))


def untrained(run) -> None:
    """Give a run the weights of step 0 for its best."""
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    model = TransitionModel(config_of(open_run(run), 3))
    stored["state_dict"] = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save(stored, run / "checkpoints" / "best.ckpt")


def predicted(run, name: str, **options) -> ad.AnnData:
    cells = run.parent / "cells.h5ad"
    return ad.read_h5ad(predict(run, cells=cells, output=run.parent / f"{name}.h5ad", **{"split": "test", **options}))


def test_before_training_its_cells_are_the_stack_s_to_the_bit(run):
    untrained(run)
    keep(run, True)
    network, stack = predicted(run, "network"), predicted(run, "stack", model="stack")
    assert set(network.obs["route"]) == {"neural", "control"}
    assert "neural" not in set(stack.obs["route"])
    np.testing.assert_array_equal(network.X.toarray(), stack.X.toarray())


def test_where_the_network_is_left_out_the_backbone_predicts_by_its_own_route(run):
    keep(run, False)
    anchored, stack = predicted(run, "anchored"), predicted(run, "stack", model="stack")
    np.testing.assert_array_equal(anchored.X.toarray(), stack.X.toarray())
    assert anchored.obs["route"].tolist() == stack.obs["route"].tolist()
    assert anchored.uns["stateshift"]["model"] == "anchored"


def test_where_the_network_is_kept_it_predicts(run):
    keep(run, True)
    assert set(predicted(run, "kept").obs["route"]) == {"neural", "control"}


def test_measured_pairs_are_the_backbone_s_whatever_is_kept(run):
    keep(run, True)
    assert set(predicted(run, "measured", split=None, perturb="T20").obs["route"]) == {"measured", "control"}


def test_a_double_with_an_unknown_gene_falls_back_to_the_mean(run):
    keep(run, True)
    adata = predicted(run, "unknown", split=None, perturb=["T0+T1", "T0+T99"], missing="fallback")
    routes = adata.obs[~adata.obs.is_control].groupby("target_gene", observed=True)["route"].first()
    assert routes.to_dict() == {"T0+T1": "neural", "T0+T99": "fallback"}


def test_validation_pairs_are_the_network_s_where_it_is_kept_and_else_the_stack_s(run):
    opened = open_run(run)
    held, genes = load_held_out(opened.validation_file)
    table = FeatureTable.load(opened.features_file)
    found = {}
    for kept in (True, False):
        keep(run, kept)
        backbone = find_backbone(opened, table, [("A", "T20")], set(), np.zeros((1, len(genes))), -np.inf)
        found[kept] = stored_validation([opened, opened], genes, [backbone] * 2)[0].predicted
    np.testing.assert_array_equal(found[True], held.predicted)
    np.testing.assert_array_equal(found[False], backbone.stack.predict(held.perturbations, held.contexts))
    assert not np.array_equal(found[True], found[False])


def test_a_moved_run_predicts_the_same(run):
    keep(run, True)
    before = predicted(run, "before").X.toarray()
    moved = run.parent / "elsewhere" / "deep" / "run"
    moved.parent.mkdir(parents=True)
    shutil.move(run, moved)
    shutil.copy(run.parent / "cells.h5ad", moved.parent)
    np.testing.assert_array_equal(predicted(moved, "after").X.toarray(), before)


def test_a_run_without_its_record_is_refused(run):
    (run / "anchored.json").unlink()
    with pytest.raises(StateshiftError, match="anchored.json, which says where the network is kept"):
        predicted(run, "none")


@pytest.mark.parametrize("output_space", ["gene", "all"])
def test_beside_an_array_of_some_genes_every_gene_starts_from_the_stack(two_way_screen, output_space):
    toml = two_way_screen()
    cells = ad.read_h5ad(toml.parent / "cells.h5ad")
    cells.obsm["X_hvg"] = cells.X[:, 2:10].copy()
    cells.var["highly_variable"] = [2 <= i < 10 for i in range(12)]
    cells.write_h5ad(toml.parent / "cells.h5ad")
    toml.write_text(toml.read_text() + '[columns]\nembedding = "X_hvg"\n')
    run = train(toml, [*SMALL, f"model.output_space={output_space}"], output_dir=toml.parent, name="run")
    untrained(run)
    keep(run, True)
    network, stack = predicted(run, "network"), predicted(run, "stack", model="stack")
    assert network.shape == stack.shape
    np.testing.assert_array_equal(network.X.toarray(), stack.X.toarray())
    by = {"gene": ["effect"] * 2 + ["network"] * 8 + ["effect"] * 2, "all": ["network"] * 12}[output_space]
    assert network.var["modelled_by"].tolist() == by
