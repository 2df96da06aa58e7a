"""What the cells of an anchored training start from, and that a training goes on as if never stopped."""

from __future__ import annotations

import csv

import anndata as ad
import numpy as np
import pytest
import torch

from stateshift.cells import EffectTable, read_all
from stateshift.effects import fit_stack
from stateshift.errors import StateshiftError
from stateshift.prediction import predict
from stateshift.run import open_run
from stateshift.training import held_back, resume, train
from stateshift.training.anchored import fit_starts, read_verdicts
from stateshift.training.data import prepare
from stateshift.training.loop.loaders import training_loader, validation_loaders
from stateshift.training.start import read_transfer
from stateshift.training.train import experiment_config
from stateshift.transition import TransitionConfig, TransitionModel
from stateshift.transition.checkpoint import load_transition
from stateshift.transition.means import masked_mean

SMALL = [
    "model=anchored", "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=16",
    "model.source_dropout=0.3", "training.lr=1e-2", "training.val_every=5",
]  # fmt: skip


def metrics(run) -> list[dict]:
    with open(run / "metrics.csv") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def experiment(two_way_screen):
    return read_all(two_way_screen())


@pytest.fixture
def data(experiment):
    return prepare(*experiment)


def test_training_pairs_start_from_models_that_had_not_seen_them_and_validation_pairs_from_the_fitted_backbone(data):
    starts = fit_starts(data, data.cells.genes[:5], 0)
    stack = fit_stack(data.effects, data.features, 0)
    held = stack.held_out["T"]
    row = {pair: r for r, pair in enumerate(zip(held.perturbations, held.contexts))}
    rows = [row[pair] for pair in zip(starts.training.perturbations, starts.training.contexts)]
    assert sorted(rows) == list(range(len(data.effects)))
    np.testing.assert_array_equal(starts.training.effects, held.predicted[rows][:, :5])
    seen = stack.predict(starts.training.perturbations, starts.training.contexts)
    assert np.abs(starts.training.effects - seen[:, :5]).max() > 0.1
    expected = stack.predict(starts.validation.perturbations, starts.validation.contexts)
    np.testing.assert_array_equal(starts.validation.effects, expected[:, :5])
    assert starts.regimes == ["T"] * 20


def test_a_gene_measured_in_one_training_row_alone_starts_from_no_effect_there(data):
    data.predicted.effects[1:, 2] = np.nan
    start = fit_starts(data, data.cells.genes, 0).training
    row = list(zip(start.perturbations, start.contexts)).index(
        (data.predicted.perturbations[0], data.predicted.contexts[0])
    )
    assert np.isfinite(start.effects).all()
    assert start.effects[row, 2] == 0


def test_before_training_means_move_by_the_backbone_s_effects_exactly(experiment, data):
    config = experiment_config(experiment[0], SMALL)
    data.starts = fit_starts(data, data.cells.genes, 0)
    shape = TransitionConfig(12, 3, 16, 1, 2, 16, 16, 2, 2, start="backbone", encoder="sources", source_widths=(1, 2))
    model = TransitionModel(shape).eval()
    for loader in (training_loader(config, data), validation_loaders(config, data)[0]):
        batch = next(iter(loader))
        control, start = masked_mean(batch["ctrl_cell_emb"], batch["mask"]), batch["start_effect"]
        moved = masked_mean(model(batch).cells, batch["mask"]) - control
        torch.testing.assert_close(moved, start.maximum(-control), atol=1e-5, rtol=0)
        assert torch.equal((start != 0).any(dim=1), ~batch["is_control"])


def test_a_batch_without_starts_is_refused(data):
    model = TransitionModel(TransitionConfig(12, 3, 16, 1, 2, 16, 16, 2, 2, start="backbone"))
    with pytest.raises(StateshiftError, match="start_effect"):
        model({"ctrl_cell_emb": torch.rand(1, 16, 12), "pert_emb": torch.rand(1, 3)})


def test_one_training_pair_alone_can_t_be_held_out(data):
    data.effects = data.effects.rows(np.arange(len(data.effects)) == 0)
    with pytest.raises(StateshiftError, match="none can be held out of 1: train on more perturbations"):
        fit_starts(data, data.cells.genes, 0)


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(two_way_screen):
    toml = two_way_screen()
    whole = train(toml, [*SMALL, "training.max_steps=10"], output_dir=toml.parent, name="whole")
    halves = train(toml, [*SMALL, "training.max_steps=5"], output_dir=toml.parent, name="halves")
    resume(halves, ["training.max_steps=10"])
    assert metrics(whole) == metrics(halves)
    assert (whole / "anchored.json").read_text() == (halves / "anchored.json").read_text()
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (whole, halves)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    run = open_run(whole)
    assert run.config()["model"]["source_widths"] == [1, 2]
    assert [p.in_features for p in load_transition(run, 3).pert_encoder.projections] == [1, 2]


def test_without_a_validation_split_whole_genes_are_held_back_from_network_and_backbone(two_way_screen, caplog):
    toml = two_way_screen(val=False)
    with caplog.at_level("INFO"):
        run = train(toml, [*SMALL, "training.max_steps=5"], output_dir=toml.parent, name="run")
    splits = open_run(run).splits()
    held = {p for of in splits["val"].values() for p in of}
    assert len(held) == 5
    assert "no validation split: 10 of 56 training pairs are held back from the network and its backbone" in caplog.text
    for split in ("train", "test"):
        assert held.isdisjoint(p for of in splits[split].values() for p in of)
    assert held.isdisjoint(EffectTable.load(run / "effects.npz").perturbations)
    assert set(read_verdicts(open_run(run))) == {"T"}


def test_a_fine_tuned_network_stays_beside_a_backbone_and_is_judged_again(two_way_screen):
    toml = two_way_screen(val=False)
    first = train(toml, [*SMALL, "training.max_steps=5"], output_dir=toml.parent, name="first")
    words = ["training.max_steps=5", "training.val_every=5"]
    second = open_run(train(toml, words, init_from=first, output_dir=toml.parent, name="second"))
    model = second.config()["model"]
    assert (model["start"], model["encoder"], model["source_widths"]) == ("backbone", "sources", [1, 2])
    assert read_verdicts(second)["T"].pairs == 10
    assert set(read_transfer(second).kept()) >= {"pert_encoder", "basal_encoder", "transformer_backbone", "project_out"}


def test_a_fine_tuned_network_is_judged_against_the_backbone_and_not_against_its_source(two_way_screen):
    toml = two_way_screen(n_targets=50, n_val=25)
    shape = ["model.hidden=32", "model.ffn=32", "model.source_dropout=0"]
    words = [*SMALL, *shape, "training.lr=3e-3", "training.max_steps=100", "training.val_every=50"]
    first = train(toml, words, output_dir=toml.parent, name="first")
    source = read_verdicts(open_run(first))["T"]
    assert source.kept
    words = ["training.max_steps=2", "training.val_every=2", "training.lr=1e-6"]
    second = train(toml, words, init_from=first, output_dir=toml.parent, name="second")
    verdict = read_verdicts(open_run(second))["T"]
    assert verdict.backbone == pytest.approx(source.backbone, abs=1e-3)
    assert verdict.network == pytest.approx(source.network, abs=0.01)
    assert verdict.kept
    made = predict(second, cells=toml.parent / "cells.h5ad", split="val", output=toml.parent / "p.h5ad")
    obs = ad.read_h5ad(made).obs
    assert set(obs["route"][~obs["is_control"]]) == {"neural"}


def test_seeds_hold_the_same_pairs_back_and_are_an_ensemble(two_way_screen):
    toml = two_way_screen(val=False)
    words = [*SMALL, "training.max_steps=2", "training.val_every=2"]
    runs = [train(toml, [*words, f"seed={s}"], output_dir=toml.parent, name=f"{s}") for s in (0, 1)]
    splits = [open_run(run).splits() for run in runs]
    assert splits[0] == splits[1]
    made = predict(runs, cells=toml.parent / "cells.h5ad", split="test", output=toml.parent / "p.h5ad")
    assert list(ad.read_h5ad(made).uns["stateshift"]["ensemble"]["runs"]) == ["0", "1"]


def test_a_resumed_training_holds_back_what_it_held_back_however_that_was_drawn(two_way_screen, monkeypatch):
    toml = two_way_screen(val=False)
    others = {(f"T{i}", c) for i in range(20, 26) for c in "AB"}
    with monkeypatch.context() as before:
        before.setattr(held_back, "held_pairs", lambda *_: others)
        whole = train(toml, [*SMALL, "training.max_steps=10"], output_dir=toml.parent, name="whole")
        halves = train(toml, [*SMALL, "training.max_steps=5"], output_dir=toml.parent, name="halves")
    resume(halves, ["training.max_steps=10"])
    assert metrics(whole) == metrics(halves)
    assert read_verdicts(open_run(halves))["T"].pairs == 12


def test_too_few_genes_to_hold_some_back_ask_for_a_validation_split(two_way_screen):
    toml = two_way_screen(n_targets=11, val=False)
    toml.write_text(toml.read_text().replace("test = ['T10']", "test = ['T10', 'T1']"))
    with pytest.raises(StateshiftError, match="9 training genes are too few to hold some back .10 at least.: declare"):
        train(toml, SMALL, output_dir=toml.parent, name="run")
    assert not (toml.parent / "run").exists()
