"""Every way a matrix can lie in a file gives the cells that anndata reads, in memory and mapped."""

import json
import os

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from stateshift.cells import Storage, load_cells, read_all, read_cells, read_experiment
from stateshift.cells.matrix import stored as stored_module
from stateshift.cells.matrix.expression import DiskPart, Part
from stateshift.errors import InputProblems, StateshiftError
from stateshift.training import check_experiment

LAYOUTS = {"dense": np.asarray, "csr": csr_matrix, "csc": csc_matrix}


def mapped(folder) -> Storage:
    """A budget that nothing fits."""
    return Storage(memory_gb=0, cache=folder / "cache")


def write(screen, layout: str, suffix: str = ".h5ad", counts: bool = False) -> ad.AnnData:
    """The screen's cells in another layout, as h5ad or zarr."""
    adata = ad.read_h5ad(screen.cells)
    X = adata.X.toarray()
    if counts:
        X = np.random.default_rng(0).poisson(np.expm1(X) * 3).astype(np.float64)
        del adata.uns["log1p"]
    adata.X = LAYOUTS[layout](X)
    path = screen.folder / f"written{suffix}"
    adata.write_zarr(path) if suffix == ".zarr" else adata.write_h5ad(path)
    screen.toml.write_text(f'[datasets]\nmade = "{path}"\n[training]\nmade = "train"\n')
    return adata


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_in_any_store_gives_the_same_cells(screen, layout, suffix, in_memory, monkeypatch):
    monkeypatch.setattr(stored_module, "VALUES_AT_ONCE", 1000)
    adata = write(screen, layout, suffix)
    storage = Storage() if in_memory else mapped(screen.folder)
    cells = load_cells(read_experiment(screen.toml), storage)
    assert isinstance(cells.X.parts[0], Part if in_memory else DiskPart)
    np.testing.assert_array_equal(
        cells.X.csr().toarray(), np.asarray(adata.X.todense() if layout != "dense" else adata.X, np.float32)
    )
    rows = [5, 400, 5, 0]
    np.testing.assert_array_equal(cells.X.dense(rows), cells.X.csr().toarray()[rows])
    assert cells.obs["perturbation"].tolist() == adata.obs["target_gene"].astype(str).tolist()


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_counts_on_chosen_genes_are_scanpys_log1p_of_those_genes(screen, layout, in_memory, monkeypatch):
    import scanpy as sc

    monkeypatch.setattr(stored_module, "VALUES_AT_ONCE", 1000)
    monkeypatch.setattr("stateshift.cells.matrix.filling.VALUES_AT_ONCE", 1000)
    adata = write(screen, layout, counts=True)
    genes = ["GENE11", "GENE2", "GENE5", "GENE19"]
    cells = read_cells(
        screen.folder / "written.h5ad", genes=genes, storage=Storage() if in_memory else mapped(screen.folder)
    )
    reference = ad.AnnData(csr_matrix(adata[:, genes].X))
    sc.pp.normalize_total(reference, target_sum=1e4)
    sc.pp.log1p(reference)
    assert cells.scale == "log1p_1e4"
    np.testing.assert_allclose(cells.X.csr().toarray(), reference.X.toarray(), rtol=1e-6)


def test_an_obsm_array_is_read_in_place_of_x_with_the_names_of_its_genes(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.var["highly_variable"] = np.arange(20) % 3 == 0
    adata.obsm["X_hvg"] = adata.X.toarray()[:, adata.var["highly_variable"]]
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(len(adata), 4)).astype(np.float32)
    adata.write_h5ad(screen.cells)
    cells = read_cells(screen.cells, {"embedding": "X_hvg"})
    assert cells.genes == ["GENE0", "GENE3", "GENE6", "GENE9", "GENE12", "GENE15", "GENE18"]
    assert cells.scale == "log1p"
    np.testing.assert_array_equal(cells.X.dense([7]), adata.obsm["X_hvg"][[7]])
    latent = read_cells(screen.cells, {"embedding": "X_pca"})
    assert (latent.scale, latent.genes) == ("embedding", ["X_pca_0", "X_pca_1", "X_pca_2", "X_pca_3"])
    np.testing.assert_array_equal(latent.X.csr().toarray(), adata.obsm["X_pca"])
    with pytest.raises(StateshiftError, match=r"obsm has no `X_hgv` \(did you mean `X_hvg`\?\)"):
        read_cells(screen.cells, {"embedding": "X_hgv"})


def test_names_of_an_obsm_arrays_genes_are_read_where_the_file_lists_them(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.obsm["X_few"] = adata.X.toarray()[:, [4, 2]]
    adata.uns["stateshift"] = {"scale": "log1p_1e4", "embedding_genes": {"X_few": np.array(["GENE4", "GENE2"])}}
    adata.write_h5ad(screen.cells)
    cells = read_cells(screen.cells, {"embedding": "X_few"})
    assert (cells.genes, cells.scale) == (["GENE4", "GENE2"], "log1p_1e4")


def test_an_obsm_of_another_length_is_refused(screen):
    with h5py.File(screen.cells, "r+") as handle:
        handle["obsm"].create_dataset("X_hvg", data=np.zeros((431, 3), np.float32))
    with pytest.raises(StateshiftError, match="obsm `X_hvg` has 431 rows, and obs has 432"):
        read_cells(screen.cells, {"embedding": "X_hvg"})


def test_byte_strings_are_read_as_text(screen):
    with h5py.File(screen.cells, "r+") as handle:
        for name in ("cell_type", "target_gene"):
            codes = handle["obs"][name]["codes"][:]
            names = [n.encode() for n in handle["obs"][name]["categories"].asstr()[:]]
            del handle["obs"][name]
            handle["obs"].create_dataset(name, data=np.array(names)[codes])
            handle["obs"][name].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    cells = read_cells(screen.cells)
    assert set(cells.obs["context"]) == {"A549", "K562", "T98G"}
    assert cells.is_control.sum() == 72


def test_names_and_labels_that_pandas_3_writes_as_nullable_strings_are_read(screen):
    adata = ad.read_h5ad(screen.cells)
    before = read_cells(screen.cells)
    adata.obs.index, adata.var.index = adata.obs_names.astype("string"), adata.var_names.astype("string")
    with ad.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad(screen.cells)
    with h5py.File(screen.cells) as file:
        assert set(file["obs"][file["obs"].attrs["_index"]]) == {"mask", "values"}
    after = read_cells(screen.cells)
    assert after.obs.index.tolist() == before.obs.index.tolist()
    assert after.genes == before.genes


def test_unused_categories_make_no_groups(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.add_categories(["HepG2"])
    adata.write_h5ad(screen.cells)
    assert set(read_all(screen.toml)[1].obs["context"]) == {"A549", "K562", "T98G"}


def test_a_zarr_store_that_unpickles_is_not_read(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.write_zarr(screen.folder / "cells.zarr")
    meta = screen.folder / "cells.zarr" / "obs" / "evil" / ".zarray"
    meta.parent.mkdir()
    meta.write_text(json.dumps({"zarr_format": 2, "filters": [{"id": "pickle"}], "dtype": "|O", "shape": [1]}))
    with pytest.raises(StateshiftError, match="declares a pickled array"):
        read_cells(screen.folder / "cells.zarr")


def test_zarr_stores_are_found_by_name_by_glob_and_in_a_folder(screen):
    adata = ad.read_h5ad(screen.cells)
    (screen.folder / "stores").mkdir()
    for name in "ab":
        adata.write_zarr(screen.folder / "stores" / f"{name}.zarr")
    for pattern in ("stores", "stores/*.zarr", "stores/{a,b}.zarr"):
        screen.toml.write_text(f'[datasets]\nmade = "{screen.folder}/{pattern}"\n[training]\nmade = "train"\n')
        assert [f.name for f in read_experiment(screen.toml).datasets["made"]] == ["a.zarr", "b.zarr"]


def test_sparse_arrays_whose_ends_do_not_fit_are_called_damaged(screen):
    with h5py.File(screen.cells, "r+") as handle:
        handle["X"]["indptr"][5] = 10**6
    with pytest.raises(StateshiftError, match="X is damaged: its indptr doesn't fit its values"):
        read_cells(screen.cells)


class TestCache:
    def test_it_is_built_once_and_used_again(self, screen, caplog):
        storage = mapped(screen.folder)
        with caplog.at_level("INFO", logger="stateshift"):
            first = read_cells(screen.cells, storage=storage)
            again = read_cells(screen.cells, storage=storage)
        assert sum("converted to" in r.getMessage() for r in caplog.records) == 1
        np.testing.assert_array_equal(first.X.csr().toarray(), again.X.csr().toarray())

    def test_the_same_content_under_another_name_is_the_same_entry(self, screen):
        import shutil

        storage = mapped(screen.folder)
        read_cells(screen.cells, storage=storage)
        shutil.copy(screen.cells, screen.folder / "copy.h5ad")
        read_cells(screen.folder / "copy.h5ad", storage=storage)
        assert len([p for p in storage.cache.iterdir() if (p / "index.json").is_file()]) == 1

    def test_a_file_that_changed_after_it_was_cached_is_read_anew(self, screen):
        storage = mapped(screen.folder)
        before = read_cells(screen.cells, storage=storage).X.csr().toarray()
        stat = os.stat(screen.cells)
        with h5py.File(screen.cells, "r+") as handle:
            handle["X"]["data"][:] = handle["X"]["data"][:] / 2
        os.utime(screen.cells, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert os.stat(screen.cells).st_size == stat.st_size
        after = read_cells(screen.cells, storage=storage).X.csr().toarray()
        np.testing.assert_allclose(after, before / 2)

    def test_a_file_that_changes_while_it_is_read_is_refused(self, screen, monkeypatch):
        from stateshift.cells import loading

        real = loading.fill_arrays

        def fill_and_touch(*args):
            filled = real(*args)
            os.utime(screen.cells)
            return filled

        monkeypatch.setattr(loading, "fill_arrays", fill_and_touch)
        with pytest.raises(StateshiftError, match="changed while it was read"):
            read_cells(screen.cells, storage=mapped(screen.folder))
        assert not list((screen.folder / "cache").glob("*.part"))

    def test_a_build_that_was_killed_is_built_again(self, screen):
        import signal
        import subprocess
        import sys

        storage = mapped(screen.folder)
        code = (
            "import os, signal\n"
            "from pathlib import Path\n"
            "from stateshift.cells import Storage, loading, read_cells\n"
            "real = loading.fill_arrays\n"
            "def fill_and_die(*args):\n"
            "    real(*args)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "loading.fill_arrays = fill_and_die\n"
            f"read_cells({str(screen.cells)!r}, storage=Storage(0, Path({str(storage.cache)!r})))\n"
        )
        killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        left = list(storage.cache.glob("*.part"))
        assert len(left) == 1
        cells = read_cells(screen.cells, storage=storage)
        np.testing.assert_array_equal(cells.X.csr().toarray(), ad.read_h5ad(screen.cells).X.toarray())
        assert not list(storage.cache.glob("*.part"))

    def test_an_entry_cut_short_is_built_again(self, screen):
        storage = mapped(screen.folder)
        whole = read_cells(screen.cells, storage=storage).X.csr().toarray()
        (entry,) = (p for p in storage.cache.iterdir() if (p / "index.json").is_file())
        os.truncate(entry / "data", 100)
        np.testing.assert_array_equal(read_cells(screen.cells, storage=storage).X.csr().toarray(), whole)

    def test_two_gene_lists_are_two_entries(self, screen):
        storage = mapped(screen.folder)
        for genes in (["GENE1", "GENE2"], ["GENE2", "GENE1"]):
            assert read_cells(screen.cells, genes=genes, storage=storage).genes == genes
        one, other = (
            read_cells(screen.cells, genes=g, storage=storage).X.csr().toarray()
            for g in (["GENE1", "GENE2"], ["GENE2", "GENE1"])
        )
        np.testing.assert_array_equal(one, other[:, ::-1])

    def test_a_full_disk_is_said_before_anything_is_written(self, screen, monkeypatch):
        import shutil

        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 10))
        with pytest.raises(StateshiftError, match=r"0\.0 GB free, .*cells\.h5ad needs up to .* --cache DIR"):
            read_cells(screen.cells, storage=mapped(screen.folder))

    def test_a_scale_that_cannot_be_told_leaves_no_entry(self, screen):
        adata = ad.read_h5ad(screen.cells)
        del adata.uns["log1p"]
        adata.write_h5ad(screen.cells)
        with pytest.raises(StateshiftError, match="its scale can't be told"):
            read_cells(screen.cells, storage=mapped(screen.folder))
        assert not [p for p in (screen.folder / "cache").iterdir() if p.is_dir() and p.name != "sources"]


def test_training_on_mapped_cells_is_training_in_memory(screen):
    from stateshift.training import train

    shape = ["model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=8"]
    small = [*shape, "training.max_steps=4", "training.val_every=4"]
    runs = [
        train(
            screen.toml, [*small, *more], pert_features=screen.table, output_dir=screen.folder, name=name, cache=cache
        )
        for name, more, cache in (
            ("memory", [], None),
            ("mapped", ["data.memory_gb=0"], screen.folder / "cache"),
            ("workers", ["data.num_workers=2"], None),
        )
    ]
    tables = [pd.read_csv(run / "metrics.csv") for run in runs]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])
    assert (tables[0]["control_shift"][0], len(tables[0])) == (0, 2)
    assert tables[0]["control_shift"][1] > 0


def test_indices_beyond_the_matrix_are_called_damage_not_read_as_other_cells(screen):
    with h5py.File(screen.cells, "r+") as handle:
        handle["X"]["indices"][4] = 20
    for read in (lambda: read_cells(screen.cells), lambda: read_cells(screen.cells, genes=["GENE1"])):
        with pytest.raises(StateshiftError, match="X is damaged: it holds indices beyond its 20 places"):
            read()
    with pytest.raises(InputProblems, match="X is damaged"):
        check_experiment(screen.toml)


@pytest.mark.parametrize("kind", [csr_matrix, csc_matrix])
def test_two_values_for_one_place_are_refused(screen, kind):
    adata = ad.read_h5ad(screen.cells)
    X = kind(adata.X.toarray())
    X.indices[1] = X.indices[0]
    adata.X = X
    adata.write_h5ad(screen.cells)
    with pytest.raises(StateshiftError, match=r"X holds two values for one place: run X\.sum_duplicates"):
        read_cells(screen.cells)


def test_unsorted_columns_are_read_as_they_are(screen):
    adata = ad.read_h5ad(screen.cells)
    whole = adata.X.toarray()
    X = adata.X
    for i in range(X.shape[0]):
        row = slice(X.indptr[i], X.indptr[i + 1])
        X.indices[row], X.data[row] = X.indices[row][::-1].copy(), X.data[row][::-1].copy()
    adata.write_h5ad(screen.cells)
    np.testing.assert_array_equal(read_cells(screen.cells).X.csr().toarray(), whole)


def test_counts_and_log1p_with_genes_left_out_are_not_one_scale(screen, cell_maker):
    cell_maker(screen.folder / "a.h5ad", n_cells=4, counts=True, n_genes=20)
    cell_maker(screen.folder / "b.h5ad", n_cells=4, counts=True, n_genes=40)
    b = ad.read_h5ad(screen.folder / "b.h5ad")
    X = b.X.toarray()
    b.X = csr_matrix(np.log1p(X / X.sum(axis=1, keepdims=True) * 1e4))
    b.write_h5ad(screen.folder / "b.h5ad")
    screen.toml.write_text(f'[datasets]\nd = "{screen.folder}/{{a,b}}.h5ad"\n[training]\nd = "train"\n')
    for read in (read_all, check_experiment):
        with pytest.raises(
            InputProblems, match=r"a\.h5ad would be brought to 1e4 over the 20 genes used, and b\.h5ad was"
        ):
            read(screen.toml)


def test_a_cell_without_counts_on_the_genes_used_is_found_by_check_too(screen):
    adata = write(screen, "csr", counts=True)
    X = adata.X.toarray()
    X[3, :5] = 0
    X[3, 5:] = 1
    adata.X = csr_matrix(X)
    adata.write_h5ad(screen.folder / "written.h5ad")
    (screen.folder / "genes.txt").write_text("GENE0\nGENE1\nGENE2\n")
    screen.toml.write_text(screen.toml.read_text() + '[columns]\ngenes = "genes.txt"\n')
    for read in (read_all, check_experiment):
        with pytest.raises(InputProblems, match="1 cells hold no counts at all"):
            read(screen.toml)


def test_what_uns_says_of_x_is_not_said_of_an_obsm_array(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.var["highly_variable"] = np.arange(20) < 5
    adata.obsm["X_hvg"] = np.round(adata.X.toarray()[:, :5] * 2)
    adata.uns["stateshift"] = {"scale": "log1p_1e4"}
    del adata.uns["log1p"]
    adata.write_h5ad(screen.cells)
    assert read_cells(screen.cells, {"embedding": "X_hvg"}).scale == "log1p_1e4"
    assert np.expm1(read_cells(screen.cells, {"embedding": "X_hvg"}).X.dense([0])).sum() == pytest.approx(1e4, rel=1e-4)


def test_a_pickle_named_in_consolidated_metadata_and_links_are_refused(screen):
    adata = ad.read_h5ad(screen.cells)
    store = screen.folder / "cells.zarr"
    adata.write_zarr(store)
    (store / ".zmetadata").write_text(json.dumps({"metadata": {"obs/x/.zarray": {"filters": [{"id": "pickle"}]}}}))
    with pytest.raises(StateshiftError, match="declares a pickled array"):
        read_cells(store)
    (store / ".zmetadata").unlink()
    (store / "linked").symlink_to(screen.folder)
    with pytest.raises(StateshiftError, match="is a link inside a zarr store"):
        read_cells(store)


def test_labels_and_matrix_of_two_states_of_a_file_are_refused(screen, monkeypatch):
    from stateshift.cells import loading

    real = loading.fill_arrays

    def fill_and_touch(*args):
        os.utime(screen.cells)
        return real(*args)

    monkeypatch.setattr(loading, "fill_arrays", fill_and_touch)
    with pytest.raises(StateshiftError, match=r"cells\.h5ad changed while it was read"):
        read_cells(screen.cells)


def test_an_obsm_array_without_gene_names_is_told_and_takes_no_scale(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.obsm["X_hvg"] = adata.X.toarray()[:, :3]
    adata.write_h5ad(screen.cells)
    screen.write_toml('[training]\nmade = "train"\n[columns]\nembedding = "X_hvg"\n')
    assert any("obsm `X_hvg` names no genes" in note for note in check_experiment(screen.toml).notes)
    with pytest.raises(StateshiftError, match="a scale is declared, and obsm `X_hvg` names no genes"):
        read_cells(screen.cells, {"embedding": "X_hvg", "scale": "log1p"})
    adata.uns["stateshift"] = {"embedding_genes": {"X_hvg": ["GENE0", "GENE1"]}}
    adata.write_h5ad(screen.cells)
    with pytest.raises(StateshiftError, match="names 2 genes of obsm `X_hvg`, which has 3 columns"):
        read_cells(screen.cells, {"embedding": "X_hvg"})


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_log1p_of_other_totals_declared_to_1e4_is_what_its_counts_give(screen, layout, in_memory):
    adata = write(screen, layout, counts=True)
    storage = Storage() if in_memory else mapped(screen.folder)
    genes = screen.folder / "genes.txt"
    genes.write_text("\n".join(adata.var_names[:15]))
    chosen = f'[columns]\ngenes = "{genes}"\n'
    screen.toml.write_text(screen.toml.read_text() + chosen)
    of_counts = load_cells(read_experiment(screen.toml), storage).X.csr().toarray()
    counts = adata.X if layout == "dense" else adata.X.toarray()
    adata.X = LAYOUTS[layout](np.log1p(counts * np.linspace(0.5, 8, len(counts))[:, None]).astype(np.float32))
    adata.write_h5ad(screen.folder / "written.h5ad")
    screen.toml.write_text(screen.toml.read_text() + 'scale = "to_1e4"\n')
    cells = load_cells(read_experiment(screen.toml), storage)
    np.testing.assert_allclose(cells.X.csr().toarray(), of_counts, rtol=1e-5)
    assert (cells.scale, check_experiment(screen.toml).scale) == ("log1p_1e4", "log1p_1e4")
