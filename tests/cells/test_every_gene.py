"""X behind an obsm array: read beside it, held against it, and refused where a run couldn't predict from both."""

import anndata as ad
import numpy as np
import pytest
from scipy.sparse import csc_matrix

from stateshift.cells import Storage, read_all
from stateshift.cells.matrix.expression import DiskPart, Part
from stateshift.cells.sets import CellSets
from stateshift.errors import InputProblems
from stateshift.feature_table import FeatureTable
from stateshift.training import check_experiment

HVG = [f"GENE{i}" for i in range(0, 20, 2)]


@pytest.fixture
def change(screen):
    """Put every second gene into X_hvg and noise into X_pca, then change the cells and the experiment."""
    plain = screen.toml.read_text()

    def changed(edit=lambda adata: None, columns='embedding = "X_hvg"', files=1):
        adata = ad.read_h5ad(screen.cells)
        if "X_hvg" not in adata.obsm:
            adata.obsm["X_hvg"] = adata[:, HVG].X.toarray()
            adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(len(adata), 4)).astype(np.float32)
            adata.uns["stateshift"] = {"embedding_genes": {"X_hvg": np.array(HVG, dtype=object)}}
        edit(adata)
        adata.write_h5ad(screen.cells)
        screen.toml.write_text(f"{plain}\n[columns]\n{columns}\n")
        return screen

    return changed


def problems_of(screen) -> str:
    """What training refuses, which the check refuses in the same words."""
    with pytest.raises(InputProblems) as trained:
        read_all(screen.toml)
    with pytest.raises(InputProblems) as checked:
        check_experiment(screen.toml)
    assert checked.value.problems == trained.value.problems
    return "\n".join(trained.value.problems)


def test_every_gene_lies_beside_an_array_and_in_its_sets(change):
    screen = change()
    _, cells, split = read_all(screen.toml)
    stored = ad.read_h5ad(screen.cells)
    assert cells.genes == HVG
    assert cells.every_gene.genes == [f"GENE{i}" for i in range(20)]
    np.testing.assert_array_equal(cells.every_gene.X.csr().toarray(), stored.X.toarray())
    features, shape = FeatureTable.load(screen.table), {"set_size": 8, "batch_size": 3, "seed": 0}
    plain = next(iter(CellSets(cells, split == "train", features, **shape)))
    batch = next(iter(CellSets(cells, split == "train", features, **shape, every_gene=True)))
    assert "pert_cell_counts" not in plain
    for side in ("pert", "ctrl"):
        np.testing.assert_array_equal(batch[f"{side}_cell_emb"], plain[f"{side}_cell_emb"])
        assert batch[f"{side}_cell_counts"].shape == (3, 8, 20)
        np.testing.assert_allclose(batch[f"{side}_cell_counts"][..., ::2], batch[f"{side}_cell_emb"])
    assert read_all(screen.toml, every_gene=False)[1].every_gene is None


def test_an_array_stays_in_memory_where_every_gene_has_to_be_read_from_disk(change, tmp_path):
    screen = change()
    found = check_experiment(screen.toml)
    assert found.n_every_gene == 20
    assert found.loaded_bytes == 432 * 10 * 4
    assert found.every_gene_bytes > 432 * 20 * 4
    _, cells, _ = read_all(screen.toml, storage=Storage(1.1 * found.loaded_bytes / 1e9, tmp_path / "cache"))
    assert isinstance(cells.X.parts[0], Part)
    assert isinstance(cells.every_gene.X.parts[0], DiskPart)
    np.testing.assert_array_equal(cells.every_gene.X.dense([5, 3]), ad.read_h5ad(screen.cells).X[[5, 3]].toarray())


def test_x_may_hold_counts_beside_a_log1p_array(change):
    def counts(adata):
        X = np.rint(np.expm1(adata.X.toarray()) * 40)
        log1p = np.log1p(X * (1e4 / X.sum(axis=1, keepdims=True)))
        adata.X, adata.obsm["X_hvg"] = csc_matrix(X), log1p[:, ::2].astype(np.float32)
        del adata.uns["log1p"]

    screen = change(counts, 'embedding = "X_hvg"\nscale = "log1p_1e4"')
    _, cells, _ = read_all(screen.toml)
    assert (cells.scale, cells.every_gene.scale) == ("log1p_1e4", "log1p_1e4")
    np.testing.assert_allclose(cells.every_gene.X.dense([7])[:, ::2], cells.X.dense([7]), rtol=1e-5)
    assert check_experiment(screen.toml).scale == "log1p_1e4"


def test_an_array_that_is_not_x_is_refused_with_the_gene_and_the_way_out(change):
    def scaled(adata):
        adata.obsm["X_hvg"] = adata.obsm["X_hvg"] * 1.5

    sentence = problems_of(change(scaled))
    assert "cells.h5ad: obsm `X_hvg` isn't X on its genes: GENE0 in row 0 is" in sentence
    assert "make the array anew from X (stateshift data prepare)" in sentence


def test_the_genes_of_an_array_alone_are_used_where_they_are_listed(change, tmp_path):
    (tmp_path / "genes.txt").write_text("\n".join(HVG))

    def scaled(adata):
        adata.obsm["X_hvg"] = adata.obsm["X_hvg"] * 1.5

    screen = change(scaled, f'embedding = "X_hvg"\ngenes = "{tmp_path / "genes.txt"}"')
    _, cells, _ = read_all(screen.toml)
    assert (cells.genes, cells.every_gene) == (HVG, None)


def test_listed_genes_beyond_an_arrays_are_those_that_are_predicted(change, tmp_path):
    (tmp_path / "genes.txt").write_text("GENE3\nGENE4\nGENE2\nGENE5")
    screen = change(columns=f'embedding = "X_hvg"\ngenes = "{tmp_path / "genes.txt"}"')
    _, cells, _ = read_all(screen.toml)
    assert (cells.genes, cells.every_gene.genes) == (["GENE4", "GENE2"], ["GENE3", "GENE4", "GENE2", "GENE5"])
    (tmp_path / "genes.txt").write_text("GENE2\nGENE99")
    assert "lacks 1 of the 2 listed in genes.txt: GENE99" in problems_of(screen)


def test_genes_of_an_array_that_x_lacks_are_named(change):
    def renamed(adata):
        adata.var_names = ["OTHER4" if gene == "GENE4" else gene for gene in adata.var_names]

    assert "obsm `X_hvg` holds 1 genes that X doesn't: GENE4. Beside obsm `X_hvg`" in problems_of(change(renamed))


def test_an_embedding_without_genes_in_x_is_refused(change):
    def negative(adata):
        adata.X = adata.X.toarray() - 1

    sentence = problems_of(change(negative, 'embedding = "X_pca"'))
    assert "X holds negative values" in sentence
    screen = change(columns='embedding = "X_pca"')
    bare = ad.AnnData(np.zeros((432, 0), np.float32), obs=ad.read_h5ad(screen.cells).obs)
    bare.obsm["X_pca"] = np.ones((432, 4), np.float32)
    bare.write_h5ad(screen.cells)
    assert "X of cells.h5ad holds no genes. Beside obsm `X_pca`, a run predicts every gene of X" in problems_of(screen)


def test_two_files_with_other_variable_genes_are_refused_by_name(change):
    screen = change()
    adata = ad.read_h5ad(screen.cells)
    other = ["GENE1", *HVG[1:]]
    adata.obsm["X_hvg"] = adata[:, other].X.toarray()
    adata.uns["stateshift"] = {"embedding_genes": {"X_hvg": np.array(other, dtype=object)}}
    adata.write_h5ad(screen.folder / "more.h5ad")
    text = screen.toml.read_text().replace(f'made = "{screen.cells}"', f'made = "{screen.folder}/{{cells,more}}.h5ad"')
    screen.toml.write_text(text)
    sentence = problems_of(screen)
    assert "the files hold other genes in obsm `X_hvg`, 9 in common" in sentence
    assert "cells.h5ad leaves out 1 of its 10 genes (GENE0)" in sentence
    assert "more.h5ad leaves out 1 of its 10 genes (GENE1)" in sentence


def test_perturbed_genes_are_looked_for_in_every_gene(change):
    def measured(adata):
        adata.var_names = [*adata.var_names[:16], "G1", "G2", "G3", "G4"]

    notes = check_experiment(change(measured, 'embedding = "X_pca"').toml).notes
    assert not any("are not measured" in note for note in notes)
    assert any("the network gives the 20 genes of X" in note for note in notes)
