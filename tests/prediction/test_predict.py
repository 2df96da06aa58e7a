import importlib

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

from stateshift.effects import BASELINES
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.prediction import predict, read_perturbations
from stateshift.training import train

FAST = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8", "training.max_steps=20",
    "training.val_every=10", "training.lr=1e-3",
]  # fmt: skip


@pytest.fixture
def run(screen):
    return train(screen.toml, FAST, pert_features=screen.table, output_dir=screen.folder, name="run")


@pytest.fixture
def ask(run, screen, tmp_path):
    """Predict with defaults and read the result."""

    def asked(**kwargs) -> ad.AnnData:
        arguments = {"cells": screen.cells, "output": tmp_path / "predicted.h5ad", "overwrite": True, **kwargs}
        return ad.read_h5ad(predict(run, **arguments))

    return asked


def test_a_prediction_keeps_the_contract(ask, screen):
    adata = ask(perturb=["G4", "G1+G2"], contexts=["T98G"])
    stored = ad.read_h5ad(screen.cells)
    assert adata.var_names.tolist() == stored.var_names.tolist()
    assert adata.X.format == "csr"
    assert adata.X.dtype == np.float32
    assert adata.obs.groupby("target_gene", observed=True).size().to_dict() == {
        "G1+G2": 24,
        "G4": 24,
        "non-targeting": 24,
    }
    assert set(adata.obs["context"]) == {"T98G"}
    assert set(adata.obs.loc[~adata.obs.is_control, "route"]) == {"neural"}
    about = adata.uns["stateshift"]
    assert (about["scale"], about["control"], about["model"], about["seed"]) == (
        "log1p",
        "non-targeting",
        "state_tiny",
        0,
    )
    effects = about["baselines"]["effects"]
    assert set(effects) == set(BASELINES)
    assert effects["ridge"].shape == (2, 20)
    assert about["baselines"]["genes"].tolist() == stored.var_names.tolist()


def test_controls_pass_through_untouched(ask, screen):
    adata = ask(perturb=["G4"], contexts=["K562"])
    stored = ad.read_h5ad(screen.cells)
    controls = stored[(stored.obs.cell_type == "K562") & (stored.obs.target_gene == "non-targeting")]
    np.testing.assert_array_equal(adata[adata.obs.is_control].X.toarray(), controls.X.toarray())


def test_perturbed_cells_in_the_file_are_not_looked_at(ask, screen):
    before = ask(perturb=["G4"])
    stored = ad.read_h5ad(screen.cells)
    perturbed = (stored.obs.target_gene != "non-targeting").to_numpy()
    X = stored.X.toarray()
    X[perturbed] = 1.0
    stored.X = X
    stored.write_h5ad(screen.cells)
    np.testing.assert_array_equal(ask(perturb=["G4"]).X.toarray(), before.X.toarray())


def test_the_same_seed_gives_the_same_cells_and_another_draws_others(ask):
    one, two = ask(perturb=["G4"], n_cells=10, seed=1), ask(perturb=["G4"], n_cells=10, seed=1)
    other = ask(perturb=["G4"], n_cells=10, seed=2)
    np.testing.assert_array_equal(one.X.toarray(), two.X.toarray())
    assert (~one.obs.is_control).sum() == 30
    assert not np.array_equal(one.X.toarray(), other.X.toarray())


def test_a_split_predicts_its_own_pairs(ask):
    adata = ask(split="test")
    pairs = set(zip(adata.obs.context[~adata.obs.is_control], adata.obs.target_gene[~adata.obs.is_control]))
    assert pairs == {("K562", "G4"), *(("T98G", p) for p in ("G1", "G2", "G3", "G4", "G1+G2"))}


@pytest.mark.parametrize("model", ["mean", "context_mean", "additive", "ridge", "knn", "transfer"])
def test_baselines_share_the_way_and_move_the_mean_by_their_effect(ask, model):
    adata = ask(perturb=["G1"], contexts=["T98G"], model=model)
    effect = adata.uns["stateshift"]["baselines"]["effects"][model][0]
    control = adata[adata.obs.is_control].X.mean(axis=0).A1
    moved = adata[~adata.obs.is_control].X.mean(axis=0).A1
    np.testing.assert_allclose(moved, np.maximum(control + effect, 0), atol=1e-5)
    routes = dict.fromkeys(("additive", "transfer"), "transfer") | dict.fromkeys(("ridge", "knn"), "features")
    assert set(adata.obs.route[~adata.obs.is_control]) == {routes.get(model, "fallback")}


def test_the_stack_predicts_on_demand_and_is_no_stored_baseline(ask):
    adata = ask(perturb=["G1"], contexts=["T98G"], model="stack")
    assert "stack" not in adata.uns["stateshift"]["baselines"]["effects"]
    assert adata.uns["stateshift"]["model"] == "stack"
    assert set(adata.obs.route[~adata.obs.is_control]) == {"transfer"}


def test_predictions_are_nearer_the_truth_than_no_change(ask, screen):
    adata = ask(perturb=["G1"], contexts=["T98G"])
    moved = adata[~adata.obs.is_control].X.mean(axis=0).A1 - adata[adata.obs.is_control].X.mean(axis=0).A1
    truth = screen.effects["G1"]
    assert np.corrcoef(moved, truth)[0, 1] > 0.7
    assert ((moved - truth) ** 2).sum() < (truth**2).sum()


def test_a_gene_without_a_vector_is_refused_by_name(ask):
    with pytest.raises(StateshiftError, match="No feature vector for g4.*did you mean `G4`"):
        ask(perturb=["g4"])


def test_policies_for_a_gene_without_a_vector_are_the_users_word(ask):
    dropped = ask(perturb=["G1", "G9"], missing="drop")
    assert "G9" not in set(dropped.obs.target_gene)
    adata = ask(perturb=["G1", "G9"], missing="fallback", contexts=["K562"])
    rows = (adata.obs.target_gene == "G9").to_numpy()
    assert set(adata.obs.route[rows]) == {"fallback"}
    effects = adata.uns["stateshift"]["baselines"]["effects"]
    np.testing.assert_array_equal(effects["ridge"][1], effects["mean"][1])
    assert not effects["control"].any()


@pytest.mark.parametrize("model", ["additive", "stack"])
def test_a_fallback_is_the_mean_whatever_the_model_and_doubles_of_unknown_genes_too(ask, model):
    adata = ask(perturb=["G1", "G9", "G1+G9"], missing="fallback", contexts=["K562"], model=model)
    told = adata.uns["stateshift"]["intervals"]
    routes = adata.obs[~adata.obs.is_control].groupby("target_gene", observed=True)["route"].first()
    assert (routes["G9"], routes["G1+G9"]) == ("fallback", "fallback")
    control = adata[adata.obs.is_control].X.mean(axis=0).A1
    mean = adata.uns["stateshift"]["baselines"]["effects"]["mean"]
    for name, row in (("G9", 1), ("G1+G9", 2)):
        moved = adata[adata.obs.target_gene == name].X.mean(axis=0).A1
        np.testing.assert_allclose(moved, np.maximum(control + mean[row], 0), atol=1e-5)
        np.testing.assert_array_equal(told["half_widths"][row], told["of_mean"][row])


def test_effect_models_are_told_of_a_context_that_only_the_cells_bring(ask, screen, monkeypatch):
    module = importlib.import_module("stateshift.prediction.prepared")

    cells = ad.read_h5ad(screen.cells)
    cells.obs["cell_type"] = cells.obs["cell_type"].cat.rename_categories({"T98G": "never seen"})
    cells.write_h5ad(screen.folder / "new.h5ad")
    known, fit = [], module.fit_effect_models
    monkeypatch.setattr(module, "fit_effect_models", lambda train, *a, **k: known.append(train) or fit(train, *a, **k))
    adata = ask(cells=screen.folder / "new.h5ad", perturb=["G1"], contexts=["never seen"], model="transfer")
    control = adata[adata.obs.is_control].X.mean(axis=0).A1
    np.testing.assert_allclose(known[0].control_means["never seen"], control, atol=1e-5)
    assert adata.uns["stateshift"]["intervals"]["calibration"]["C"]["unit"] == "context"
    ask(perturb=["G1"], contexts=["T98G"], model="transfer")
    assert set(known[1].control_means) == {"A549", "K562", "T98G"}


def test_a_one_hot_vector_says_nothing_of_a_gene_never_perturbed(screen, tmp_path):
    screen.write_toml(
        '[training]\nmade = "train"\n[features]\nsource = "onehot"\n'
        + "".join(f'[fewshot."made.{c}"]\ntest = ["G4"]\n' for c in ("A549", "K562", "T98G"))
    )
    run = train(screen.toml, FAST, output_dir=screen.folder, name="onehot")
    predict(run, cells=screen.cells, perturb=["G1"], output=tmp_path / "known.h5ad")
    with pytest.raises(StateshiftError, match="One-hot features say nothing of G4"):
        predict(run, cells=screen.cells, perturb=["G4"], output=tmp_path / "p.h5ad")
    predict(run, cells=screen.cells, split="test", missing="fallback", output=tmp_path / "p.h5ad")
    obs = ad.read_h5ad(tmp_path / "p.h5ad").obs
    assert set(obs.route[~obs.is_control]) == {"fallback"}


def test_a_cell_is_predicted_alike_whatever_its_last_set_would_have_held(run, screen, tmp_path):
    """24 controls in sets of 8 fill their sets; 17 of them would leave a set of one."""
    stored = ad.read_h5ad(screen.cells)
    controls = stored[(stored.obs.cell_type == "K562") & (stored.obs.target_gene == "non-targeting")]
    shifts = {}
    for n in (24, 17):
        controls[:n].write_h5ad(tmp_path / "c.h5ad")
        predict(run, cells=tmp_path / "c.h5ad", perturb=["G4"], output=tmp_path / "p.h5ad", overwrite=True)
        adata = ad.read_h5ad(tmp_path / "p.h5ad")
        predicted, origin = adata[~adata.obs.is_control].X.toarray(), adata[adata.obs.is_control].X.toarray()
        shifts[n] = predicted - origin
    spread = np.abs(shifts[17] - shifts[24][:17]).mean(axis=1)
    assert spread.max() < 4 * np.median(spread) + 0.02


def test_control_cells_keep_their_barcodes(ask, screen):
    adata = ask(perturb=["G4"], contexts=["K562"])
    stored = ad.read_h5ad(screen.cells)
    controls = stored.obs_names[(stored.obs.cell_type == "K562") & (stored.obs.target_gene == "non-targeting")]
    assert adata.obs_names[adata.obs.is_control].tolist() == controls.tolist()
    assert adata.obs_names[0] == f"G4:{controls[0]}"


def test_cells_with_columns_of_their_own_are_named_by_flags(run, screen, tmp_path):
    stored = ad.read_h5ad(screen.cells)
    stored.obs.columns = ["line", "guide", "plate"]
    stored.write_h5ad(tmp_path / "own.h5ad")
    with pytest.raises(StateshiftError, match="--pert-col, --cell-type-key and --control-pert name the columns"):
        predict(run, cells=tmp_path / "own.h5ad", perturb=["G4"], output=tmp_path / "p.h5ad")
    columns = {"perturbation": "guide", "cell_type": "line"}
    predict(run, cells=tmp_path / "own.h5ad", perturb=["G4"], output=tmp_path / "p.h5ad", columns=columns)
    assert ad.read_h5ad(tmp_path / "p.h5ad").uns["stateshift"]["columns"] == columns


def test_further_vectors_come_from_a_table_of_the_same_model(ask, screen, tmp_path):
    table = FeatureTable.load(screen.table)
    vectors = np.concatenate([table.vectors, table.vectors[:1] * 0.5])
    FeatureTable([*table.genes, "G9"], vectors, {}).save(tmp_path / "more.pt")
    adata = ask(perturb=["G9"], features=tmp_path / "more.pt")
    assert "G9" in set(adata.obs.target_gene)
    FeatureTable([*table.genes, "G9"], vectors + 1, {}).save(tmp_path / "other.pt")
    with pytest.raises(StateshiftError, match="holds other vectors than the run for the same genes"):
        ask(perturb=["G9"], features=tmp_path / "other.pt")


def test_the_table_trained_with_is_found_again_for_genes_beyond_the_run(screen, tmp_path):
    table = FeatureTable.load(screen.table)
    FeatureTable([*table.genes, "G9"], np.concatenate([table.vectors, table.vectors[:1]]), {}).save(
        tmp_path / "wide.pt"
    )
    run = train(screen.toml, FAST, pert_features=tmp_path / "wide.pt", output_dir=screen.folder, name="wide")
    assert FeatureTable.load(run / "features.pt").genes == ["G1", "G2", "G3", "G4"]
    predict(run, cells=screen.cells, perturb=["G9"], output=tmp_path / "p.h5ad")
    assert "G9" in set(ad.read_h5ad(tmp_path / "p.h5ad").obs.target_gene)


def test_a_prediction_equal_to_its_control_is_refused(run, screen, tmp_path):
    import torch

    path = run / "checkpoints" / "best.ckpt"
    stored = torch.load(path, weights_only=True)
    for name, value in stored["state_dict"].items():
        if "effect_" in name or "project_out" in name:
            value.zero_()
    torch.save(stored, path)
    with pytest.raises(StateshiftError, match="The prediction for G4 in A549 equals its control cells"):
        predict(run, cells=screen.cells, perturb=["G4"], output=tmp_path / "p.h5ad")
    assert list(tmp_path.glob("*p.h5ad*")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"perturb": ["G1"], "contexts": ["K56"]}, "no control cells of context `K56` \\(did you mean `K562`\\?\\)"),
        ({"perturb": ["G1"], "model": "rigde"}, "There is no model `rigde`.*did you mean `ridge`"),
        ({"perturb": ["G1"], "model": "control"}, "it is what every prediction is compared with"),
        ({"perturb": ["non-targeting"]}, "`non-targeting` is the control"),
        ({}, "either --perturb GENES|FILE or --split test"),
        ({"split": "tset"}, "The run's split `tset` is empty"),
        ({"perturb": ["G1"], "n_cells": 99}, "has 24 control cells of `A549`, fewer than --n-cells 99"),
        ({"perturb": ["G1"], "output": "cells"}, "is both the --cells and the --output"),
        ({"perturb": ["G1"], "output": "table"}, "a prediction is written as .h5ad"),
        ({"perturb": ["G1+"]}, "names no gene"),
        ({"perturb": ["G1"], "seed": -1}, "--seed -1 has to be at least 0"),
        ({"split": "test", "contexts": ["K56"]}, "split `test` has nothing in `K56` .did you mean `K562`"),
        ({"perturb": "nowhere.txt"}, "nowhere.txt: there is no such list of genes"),
    ],
)
def test_bad_requests_are_one_sentence(ask, screen, arguments, message):
    if "output" in arguments:
        arguments = {**arguments, "output": getattr(screen, arguments["output"])}
    with pytest.raises(StateshiftError, match=message):
        ask(**arguments)


def test_cells_of_another_gene_table_or_scale_are_refused(ask, screen, tmp_path):
    stored = ad.read_h5ad(screen.cells)
    stored[:, 3:].write_h5ad(tmp_path / "narrow.h5ad")
    with pytest.raises(
        StateshiftError, match=r"has 17 genes and lacks 3 of the 20 that are needed: GENE0, GENE1, GENE2"
    ):
        ask(perturb=["G1"], cells=tmp_path / "narrow.h5ad")
    stored.X = np.ceil(stored.X.toarray())
    del stored.uns["log1p"]
    stored.write_h5ad(tmp_path / "counts.h5ad")
    with pytest.raises(StateshiftError, match="is on scale log1p_1e4 and the run was trained on log1p"):
        ask(perturb=["G1"], cells=tmp_path / "counts.h5ad")


def test_perturbations_are_read_from_a_list_with_a_header(tmp_path):
    (tmp_path / "genes.csv").write_text("target_gene,n_cells\nG1,5\n\nG1+G2,7\nG1,5\n")
    assert read_perturbations(str(tmp_path / "genes.csv")) == ["G1", "G1+G2"]


def test_a_run_on_variable_genes_predicts_from_files_that_hold_them_in_x_alone(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.var["highly_variable"] = np.arange(adata.n_vars) % 2 == 0
    adata.obsm["X_hvg"] = adata.X.toarray()[:, adata.var["highly_variable"]]
    adata.write_h5ad(screen.cells)
    screen.toml.write_text(screen.toml.read_text() + '[columns]\nembedding = "X_hvg"\n')
    small = ["model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8"]
    run = train(screen.toml, [*small, "training.max_steps=2"], pert_features=screen.table, output_dir=screen.folder)
    del adata.obsm["X_hvg"], adata.var["highly_variable"]
    adata[:, ::-1].copy().write_h5ad(screen.folder / "bare.h5ad")
    outputs = []
    for cells in (screen.cells, screen.folder / "bare.h5ad"):
        output = screen.folder / f"from_{cells.stem}.h5ad"
        outputs.append(ad.read_h5ad(predict(run, cells=cells, perturb=["G4"], output=output)))
    assert outputs[0].var_names.tolist() == outputs[1].var_names.tolist() == [f"GENE{i}" for i in range(20)]
    assert outputs[1].var["modelled_by"].tolist() == ["network", "effect"] * 10
    np.testing.assert_allclose(outputs[1].X.toarray(), outputs[0].X.toarray(), rtol=1e-5)


def test_no_cell_is_predicted_to_hold_more_of_a_gene_than_all_its_counts(tmp_path):
    # half of the controls hold gene A alone and half gene B; perturbed cells hold A: the shift doubles what has A
    rows = np.array([[50, 0], [0, 50]] * 16 + [[50, 0]] * 32, dtype=np.float32)
    obs = pd.DataFrame({"cell_type": "K562", "target_gene": ["ctrl"] * 32 + ["G1"] * 16 + ["G2"] * 16})
    obs.index = [f"cell{i}" for i in range(len(obs))]
    ad.AnnData(csr_matrix(rows), obs, pd.DataFrame(index=["A", "B"])).write_h5ad(tmp_path / "cells.h5ad")
    FeatureTable(["G1", "G2", "G3"], np.eye(3)).save(tmp_path / "features.pt")
    toml = tmp_path / "sparse.toml"
    toml.write_text(f'[datasets]\nmade = "{tmp_path / "cells.h5ad"}"\n[training]\nmade = "train"\n')
    run = train(toml, [*FAST, "training.max_steps=1"], pert_features=tmp_path / "features.pt", output_dir=tmp_path)
    asked = {"cells": tmp_path / "cells.h5ad", "perturb": ["G3"], "model": "mean", "output": tmp_path / "out.h5ad"}
    adata = ad.read_h5ad(predict(run, **asked))
    assert adata.uns["stateshift"]["scale"] == "log1p_1e4"
    assert adata.X.max() == pytest.approx(np.log1p(1e4), abs=1e-5)


def test_a_model_that_diverged_is_refused_before_anything_is_written(run, screen, tmp_path, ask):
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    weights = stored["state_dict"]
    name = next(n for n in weights if n.endswith("effect_down"))
    for value, said in (
        (torch.nan, r"best\.ckpt holds NaN or infinity in effect_down"),
        (3e38, "holds NaN or infinity, so"),
    ):
        weights[name] = torch.full_like(weights[name], value)
        torch.save(stored, run / "checkpoints" / "best.ckpt")
        with pytest.raises(StateshiftError, match=said):
            ask(perturb=["G4"], contexts=["T98G"])
    assert not (tmp_path / "predicted.h5ad").exists()
