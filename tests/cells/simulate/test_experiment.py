"""Simulated experiments: moments, files that belong together, and what is refused."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
import toml
from scipy.sparse import csr_matrix

from stateshift.cells.simulate import simulate_experiment
from stateshift.errors import InputProblems, StateshiftError
from stateshift.feature_table import FeatureTable
from stateshift.training import check_experiment

SMALL = {"contexts": 2, "targets": 6, "cells": 300, "genes": 80, "batches": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate_experiment(folder / "sim.h5ad", contexts=3, targets=20, cells=3_000, genes=600, batches=2, depth=27_000)
    return folder


@pytest.fixture(scope="module")
def cells(folder) -> anndata.AnnData:
    return anndata.read_h5ad(folder / "sim.h5ad")


def test_a_cell_over_all_genes_looks_like_one_of_a_10x_run(tmp_path):
    simulate_experiment(tmp_path / "sim.h5ad", targets=10, cells=600, genes=18_080, batches=8)
    X = anndata.read_h5ad(tmp_path / "sim.h5ad").X
    totals, detected = np.asarray(X.sum(axis=1)).ravel(), np.diff(X.indptr)
    assert np.median(totals) == pytest.approx(9_000, rel=0.2)
    assert np.log(totals).std() == pytest.approx(np.hypot(0.4, 0.2), abs=0.1)
    assert 2_300 < np.median(detected) < 4_000
    assert np.bincount(X.indices, X.data).max() < 0.03 * totals.sum()


def test_the_file_says_that_it_is_simulated_counts(cells):
    about = cells.uns["stateshift"]
    assert bool(about["simulated"])
    assert (about["scale"], about["control"], about["seed"]) == ("counts", "non-targeting", 0)
    assert cells.X.dtype == np.float32
    assert cells.X.has_sorted_indices
    assert (cells.X.data == np.round(cells.X.data)).all()
    assert list(cells.var_names[:2]) == ["GENE00001", "GENE00002"]
    assert set(cells.obs["target_gene"]) <= {"non-targeting", *cells.var_names}
    assert cells.obs.groupby(["cell_type", "target_gene"], observed=True).ngroups == 3 * 21
    assert cells.obs_names.is_unique


def test_fewer_genes_get_their_share_of_the_depth(cells):
    totals = np.asarray(cells.X.sum(axis=1)).ravel()
    assert np.median(totals) == pytest.approx(27_000 * 600 / 18_080, rel=0.25)


def shares(cells: anndata.AnnData) -> csr_matrix:
    """Each cell's counts divided by their total."""
    return cells.X.multiply(1 / np.asarray(cells.X.sum(axis=1))).tocsr()


def test_most_cells_lose_most_of_their_target_and_some_escape(cells):
    truth, share = cells.uns["simulation"], shares(cells)
    kept = []
    for gene in truth["targets"]:
        column = share[:, cells.var_names.get_loc(gene)].toarray().ravel()
        group, control = (column[cells.obs["target_gene"] == name].mean() for name in (gene, "non-targeting"))
        kept.append(group / control)
    expected = truth["escape"] + (1 - truth["escape"]) * truth["residual"]
    assert np.median(kept) == pytest.approx(np.median(expected), abs=0.08)
    assert np.median(kept) < 0.4
    assert 0.02 < truth["escape"].mean() < 0.2


def test_batches_show_in_controls_and_not_in_effects_against_controls_of_the_batch(cells):
    truth, share = cells.uns["simulation"], shares(cells)
    expressed = np.asarray(share.mean(axis=0)).ravel() > 1e-3
    between = (truth["batch_effects"][0] - truth["batch_effects"][1])[expressed]
    here = cells.obs["cell_type"] == "context_1"

    def log_mean(batch: str, is_control: bool) -> np.ndarray:
        group = here & (cells.obs["batch"] == batch) & ((cells.obs["target_gene"] == "non-targeting") == is_control)
        return np.log(share[np.flatnonzero(group)].mean(axis=0).A1[expressed])

    controls = {b: log_mean(b, True) for b in ("batch_1", "batch_2")}
    perturbed = {b: log_mean(b, False) for b in ("batch_1", "batch_2")}
    assert np.corrcoef(controls["batch_1"] - controls["batch_2"], between)[0, 1] > 0.7
    assert np.corrcoef(perturbed["batch_1"] - perturbed["batch_2"], between)[0, 1] > 0.9
    effects = {b: perturbed[b] - controls[b] for b in controls}
    assert abs(np.corrcoef(effects["batch_1"] - effects["batch_2"], between)[0, 1]) < 0.25


def test_the_experiment_beside_it_passes_the_check_with_every_vector(folder):
    found = check_experiment(folder / "sim.toml")
    assert (found.n_cells, found.n_genes, found.n_controls) == (3_000, 600, 300)
    assert found.uncovered == []
    assert set(found.counts["test"]) == {"context_1", "context_2", "context_3"}
    assert len(found.counts["test"]["context_3"]) == 20
    assert len(found.counts["test"]["context_1"]) == len(found.counts["val"]["context_2"]) == 2
    assert set(found.counts["train"]) == {"context_1", "context_2"}


def test_one_context_holds_out_targets_alone(tmp_path):
    found = check_experiment(simulate_experiment(tmp_path / "sim.h5ad", **{**SMALL, "contexts": 1}))
    assert found.experiment.zeroshot == {}
    assert {s: len(found.counts[s]["context_1"]) for s in ("train", "val", "test")} == {"train": 4, "val": 1, "test": 1}


def test_cell_load_reads_the_experiment_where_it_lies(folder, monkeypatch, cells):
    from cell_load.data_modules import PerturbationDataModule

    monkeypatch.chdir(folder)
    module = PerturbationDataModule(
        "sim.toml", pert_col="target_gene", batch_col="batch", cell_type_key="cell_type", embed_key=None,
        control_pert="non-targeting", num_workers=0, perturbation_features_file="sim.features.pt",
        cell_sentence_len=4, batch_size=2,
    )  # fmt: skip
    module.setup()
    perturbed = (cells.obs["target_gene"] != "non-targeting").to_numpy()
    tested = np.unique(np.concatenate([subset.indices for subset in module.test_datasets]))
    held_out = toml.load("sim.toml")["fewshot"]["simulated.context_1"]["test"]
    expected = (cells.obs["cell_type"] == "context_3") | cells.obs["target_gene"].isin(held_out)
    assert set(tested[perturbed[tested]]) == set(np.flatnonzero(expected & perturbed))
    vectors, seen = FeatureTable.load("sim.features.pt"), set()
    for batch in module.train_dataloader():
        for name, vector in zip(batch["pert_name"], batch["pert_emb"].numpy()):
            if name != "non-targeting":
                assert np.array_equal(vector, vectors.matrix([name])[0])
                seen.add(name)
    assert len(seen) == 16


def test_the_same_seed_gives_the_same_bytes_and_another_gives_other_cells(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_experiment(tmp_path / name / "sim.h5ad", **SMALL, seed=seed)
    a, b, c = ((tmp_path / name / "sim.h5ad").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    for name in ("sim.toml", "sim.features.pt.json"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    tables = [FeatureTable.load(tmp_path / name / "sim.features.pt") for name in "ab"]
    assert np.array_equal(tables[0].vectors, tables[1].vectors)


@pytest.mark.parametrize("name", ["sim.h5ad", "sim.toml", "sim.features.pt", "sim.features.pt.json"])
def test_nothing_that_exists_is_replaced(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputProblems, match=f"{name} exists already"):
        simulate_experiment(tmp_path / "sim.h5ad", **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_all_arguments_that_cannot_be_are_said_at_once(tmp_path):
    with pytest.raises(InputProblems) as raised:
        simulate_experiment(
            tmp_path / "sim.csv",
            contexts=0,
            cells=2_000_000,
            genes=20_000,
            batches=True,
            depth=-1,
            dispersion=0,
            seed=-1,
        )
    said = str(raised.value)
    for sentence in (
        "name sim.h5ad",
        "contexts = 0: a whole number from 1",
        "cells = 2,000,000: at most 1,000,000",
        "genes = 20,000: at most 18,080",
        "batches = True: a whole number",
        "depth = -1: a number above 0",
        "dispersion = 0: a number above 0",
        "seed = -1: a whole number from 0",
    ):
        assert sentence in said
    assert len(raised.value.problems) == 8
    assert not list(tmp_path.iterdir())


def test_no_cells_are_refused(tmp_path):
    with pytest.raises(InputProblems, match="cells = 0: a whole number from 1 is needed"):
        simulate_experiment(tmp_path / "sim.h5ad", cells=0)


def test_more_targets_than_genes_are_refused(tmp_path):
    with pytest.raises(InputProblems, match="targets = 50 and genes = 20: each target is one of the genes"):
        simulate_experiment(tmp_path / "sim.h5ad", genes=20)


def test_fewer_cells_than_the_groups_need_are_refused(tmp_path):
    with pytest.raises(StateshiftError, match=r"300 cells are too few .* ask for 432 or more"):
        simulate_experiment(tmp_path / "sim.h5ad", cells=300)
    assert not list(tmp_path.iterdir())


def test_two_targets_are_too_few_to_hold_any_out(tmp_path):
    simulate_experiment(tmp_path / "sim.h5ad", **{**SMALL, "targets": 2})
    content = toml.load(tmp_path / "sim.toml")
    assert "fewshot" not in content or not content["fewshot"]
    assert content["zeroshot"] == {"simulated.context_2": "test"}


def test_doubles_are_held_out_with_their_targets_and_some_beside(tmp_path):
    toml_file = simulate_experiment(
        tmp_path / "sim.h5ad", contexts=2, targets=12, doubles=40, cells=1_200, genes=300, batches=2, depth=27_000
    )
    experiment = toml.load(toml_file)
    split = experiment["fewshot"]["simulated.context_1"]
    singles = {name: {g for g in split[name] if "+" not in g} for name in split}
    doubles = {name: [g for g in split[name] if "+" in g] for name in split}
    known = [d for d in doubles["test"] if not (singles["test"] | singles["val"]) & set(d.split("+"))]
    assert len(known) == 12
    assert len(set(doubles["test"]) | set(doubles["val"])) == len(doubles["test"]) + len(doubles["val"])
    cells = anndata.read_h5ad(tmp_path / "sim.h5ad")
    everything = {d for d in cells.obs["target_gene"].cat.categories if "+" in d}
    assert len(everything) == 40
    left = everything - set(doubles["test"]) - set(doubles["val"])
    assert left
    assert not any((singles["test"] | singles["val"]) & set(d.split("+")) for d in left)
    assert check_experiment(toml_file).uncovered == []


def test_more_doubles_than_pairs_are_refused(tmp_path):
    with pytest.raises(StateshiftError, match="doubles = 7: 4 targets make 6 pairs"):
        simulate_experiment(tmp_path / "sim.h5ad", targets=4, doubles=7)
