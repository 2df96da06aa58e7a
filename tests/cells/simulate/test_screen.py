"""The simulator: what it does to cells is what it says it did."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.cells.simulate import simulate_proteins, simulate_screen
from stateshift.errors import StateshiftError
from stateshift.metrics import pearson_delta


@pytest.fixture(scope="module")
def controls() -> anndata.AnnData:
    """120 cells of two types, 60 genes, log1p; gene 59 is never detected."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(2.0, 0.8, (2, 60))[np.repeat([0, 1], 60)])
    counts[:, 59] = 0
    obs = pd.DataFrame({"cell_type": np.repeat(["one", "two"], 60)}, index=[f"c{i}" for i in range(120)])
    adata = anndata.AnnData(
        csr_matrix(np.log1p(counts).astype(np.float32)), obs, pd.DataFrame(index=[f"G{i}" for i in range(60)])
    )
    adata.uns["stateshift"] = {"scale": "log1p"}
    return adata


@pytest.fixture(scope="module")
def screen(controls) -> anndata.AnnData:
    return simulate_screen(controls, n_families=3, family_size=4, cells_per_group=300, controls_per_context=50, seed=5)


def group(screen: anndata.AnnData, gene: str, context: str) -> anndata.AnnData:
    return screen[(screen.obs["target_gene"] == gene) & (screen.obs["cell_type"] == context)]


def test_every_group_has_the_cells_asked_for(screen):
    sizes = screen.obs.groupby(["target_gene", "cell_type"], observed=True).size()
    assert len(sizes) == (12 + 1) * 2
    assert set(sizes.drop("non-targeting")) == {300}
    assert set(sizes["non-targeting"]) == {50}


def test_it_says_that_it_is_simulated_and_on_which_scale(screen, tmp_path):
    screen.write_h5ad(tmp_path / "screen.h5ad")
    uns = anndata.read_h5ad(tmp_path / "screen.h5ad").uns
    assert bool(uns["stateshift"]["simulated"])
    assert uns["stateshift"]["scale"] == "log1p"
    assert uns["simulation"]["effects"].shape == (24, 60)


def test_controls_are_real_cells_untouched(screen, controls):
    cells = screen[screen.obs["target_gene"] == "non-targeting"]
    source = controls[cells.obs["source_cell"].astype(str).to_numpy()]
    assert (cells.X != source.X).nnz == 0
    assert (cells.obs["cell_type"].astype(str).to_numpy() == source.obs["cell_type"].to_numpy()).all()


def test_zeros_of_the_source_cell_stay_zero_and_the_rest_changes_by_one_factor_a_gene(screen, controls):
    gene = str(screen.uns["simulation"]["genes"][0])
    cells = group(screen, gene, "two")
    x = cells.X.toarray()
    source = controls[cells.obs["source_cell"].astype(str).to_numpy()].X.toarray()
    assert np.array_equal(x == 0, source == 0)
    factor = np.expm1(x) / np.where(source > 0, np.expm1(source), np.nan)
    assert np.nanmax(np.nanstd(factor[:, :59], axis=0) / np.nanmean(factor[:, :59], axis=0)) < 1e-4


def test_the_target_itself_falls_to_a_fifth(screen, controls):
    gene = str(screen.uns["simulation"]["genes"][3])
    cells = group(screen, gene, "one")
    source = controls[cells.obs["source_cell"].astype(str).to_numpy()]
    ratio = np.expm1(cells[:, gene].X.toarray()).sum() / np.expm1(source[:, gene].X.toarray()).sum()
    assert ratio == pytest.approx(0.2, abs=1e-4)


def test_the_stored_truth_is_the_mean_shift_that_the_cells_show(screen, controls):
    truth = screen.uns["simulation"]
    for row in range(0, 24, 5):
        gene, context = truth["perturbations"][row], truth["contexts"][row]
        start = controls[controls.obs["cell_type"] == context].X.toarray()
        cells = group(screen, gene, context).X.toarray()
        shift = cells.mean(axis=0) - start.mean(axis=0)
        error = cells.std(axis=0) / np.sqrt(300)
        assert np.abs(shift - truth["effects"][row])[:59].max() < 5 * error.max()
        assert pearson_delta([shift], [truth["effects"][row]])[0] > 0.9


def test_genes_of_one_family_have_more_alike_effects(screen):
    truth = screen.uns["simulation"]
    family = dict(zip(truth["genes"], truth["families"]))
    for context in ("one", "two"):
        here = truth["contexts"] == context
        effects = truth["effects"][here] - truth["effects"][here].mean(axis=0)
        labels = np.array([family[p] for p in truth["perturbations"][here]])
        r = np.corrcoef(effects)
        same = (labels[:, None] == labels) & ~np.eye(len(labels), dtype=bool)
        assert r[same].mean() > r[labels[:, None] != labels].mean() + 0.3


def test_an_effect_differs_between_cell_types(screen):
    truth = screen.uns["simulation"]
    one, two = (truth["effects"][truth["contexts"] == c] for c in ("one", "two"))
    r = pearson_delta(one, two)
    assert 0.2 < r.mean() < 0.95


def test_the_same_seed_gives_the_same_cells_and_another_gives_others(controls):
    options = {"n_families": 2, "family_size": 2, "cells_per_group": 5, "controls_per_context": 5}
    first, again, other = (simulate_screen(controls, **options, seed=seed) for seed in (1, 1, 2))
    assert (first.X != again.X).nnz == 0
    assert list(first.obs["target_gene"]) == list(again.obs["target_gene"])
    assert simulate_proteins(first, 1) == simulate_proteins(again, 1)
    assert (first.X != other.X).nnz > 0


def test_an_undetected_gene_is_not_perturbed(screen):
    assert "G59" not in screen.uns["simulation"]["genes"]


def test_each_perturbed_gene_has_one_protein_of_its_family(screen):
    records = [r.splitlines() for r in simulate_proteins(screen, 7).split(">")[1:]]
    proteins = {header.split("GN=")[1]: sequence for header, sequence in records}
    truth = screen.uns["simulation"]
    assert list(proteins) == truth["genes"].tolist()
    assert all("simulated" in header for header, _ in records)
    assert all(80 <= len(s) <= 250 and set(s) <= set("ACDEFGHIKLMNPQRSTVWY") for s in proteins.values())
    letters = [np.array(list(s)) for s in proteins.values()]
    family = truth["families"]
    for i in range(12):
        for j in range(i):
            if family[i] == family[j]:
                # each keeps 60 to 85 % of the ancestor: the two share at least 20 %, and far more than chance
                assert len(letters[i]) == len(letters[j])
                assert (letters[i] == letters[j]).mean() > 0.3


def test_cells_that_do_not_declare_their_scale_are_refused(controls):
    undeclared = controls.copy()
    del undeclared.uns["stateshift"]
    with pytest.raises(StateshiftError, match="log-normalised control cells that say so"):
        simulate_screen(undeclared)


def test_a_misspelt_column_is_refused_with_a_suggestion(controls):
    with pytest.raises(StateshiftError, match=r"`celltype` \(did you mean `cell_type`\?\)"):
        simulate_screen(controls, cell_type="celltype")


def test_more_genes_than_are_detected_are_refused(controls):
    with pytest.raises(StateshiftError, match="64 genes are to be perturbed and 59 of 60"):
        simulate_screen(controls)


def test_no_cells_at_all_are_refused(controls):
    with pytest.raises(StateshiftError, match="no control cells"):
        simulate_screen(controls[:0].copy())
