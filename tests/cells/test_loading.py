import anndata as ad
import numpy as np
import pytest

from stateshift.cells import load_cells, perturbed_genes, read_all, read_cells, read_experiment
from stateshift.errors import InputProblems, StateshiftError
from stateshift.training import check_experiment


def two_files(screen, cell_maker, change) -> None:
    """A second file, changed, in the same dataset."""
    cell_maker(screen.folder / "a.h5ad", n_cells=4)
    cell_maker(screen.folder / "b.h5ad", n_cells=4, seed=3)
    adata = ad.read_h5ad(screen.folder / "b.h5ad")
    change(adata).write_h5ad(screen.folder / "b.h5ad")
    screen.toml.write_text(f'[datasets]\nd = "{screen.folder}/{{a,b}}.h5ad"\n[training]\nd = "train"\n')


def test_cells_come_with_five_string_columns(screen):
    cells = load_cells(read_experiment(screen.toml))
    assert cells.X.shape == (3 * 6 * 24, 20)
    assert list(cells.obs.columns) == ["dataset", "file", "context", "perturbation", "batch"]
    assert cells.is_control.sum() == 3 * 24
    assert (cells.control, cells.scale) == ("non-targeting", "log1p")
    stored = ad.read_h5ad(screen.cells)
    np.testing.assert_array_equal(cells.X.csr().toarray(), stored.X.toarray())


def test_files_with_reordered_genes_are_aligned_by_symbol(screen, cell_maker):
    two_files(screen, cell_maker, lambda adata: adata[:, ::-1].copy())
    cells = load_cells(read_experiment(screen.toml))
    b = ad.read_h5ad(screen.folder / "b.h5ad")
    rows = (cells.obs["file"] == "b.h5ad").to_numpy()
    np.testing.assert_array_equal(cells.X.dense(rows), b[:, cells.genes].X.toarray())


def test_files_of_different_genes_are_cut_to_those_they_share_and_it_is_noted(screen, cell_maker):
    two_files(screen, cell_maker, lambda adata: adata[:, 2:][:, ::-1].copy())
    cells = load_cells(read_experiment(screen.toml))
    assert cells.genes == [f"GENE{i}" for i in range(2, 20)]
    a, b = (ad.read_h5ad(screen.folder / f"{name}.h5ad")[:, cells.genes].X.toarray() for name in "ab")
    np.testing.assert_array_equal(cells.X.csr().toarray(), np.concatenate([a, b]).astype(np.float32))
    note = "the 18 that all share are used: a.h5ad leaves out 2 of its 20 genes (GENE0, GENE1)"
    assert any(note in n for n in check_experiment(screen.toml).notes)


def test_a_list_of_genes_is_the_axis_and_has_to_be_measured(screen, cell_maker):
    two_files(screen, cell_maker, lambda adata: adata[:, 2:].copy())
    (screen.folder / "genes.txt").write_text("GENE7\nGENE3\n")
    text = screen.toml.read_text()
    screen.toml.write_text(text + '[columns]\ngenes = "genes.txt"\n')
    assert load_cells(read_experiment(screen.toml)).genes == ["GENE7", "GENE3"]
    (screen.folder / "genes.txt").write_text("GENE7\nGENE1\n")
    with pytest.raises(
        InputProblems, match=r"b\.h5ad measures 18 genes and lacks 1 of the 2 listed in genes\.txt: GENE1"
    ):
        load_cells(read_experiment(screen.toml))


def test_files_that_share_no_gene_are_refused(screen, cell_maker):
    def rename(adata):
        adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
        return adata

    two_files(screen, cell_maker, rename)
    with pytest.raises(InputProblems, match=r"the files share no gene: a\.h5ad has GENE0, .* ENSG0"):
        load_cells(read_experiment(screen.toml))


def test_files_on_two_scales_are_refused(screen, cell_maker):
    def to_counts(adata):
        del adata.uns["log1p"]
        adata.X = np.ceil(adata.X.toarray())
        return adata

    two_files(screen, cell_maker, to_counts)
    with pytest.raises(InputProblems, match="files differ in scale: a.h5ad is log1p, b.h5ad is log1p_1e4"):
        load_cells(read_experiment(screen.toml))


def test_a_control_named_otherwise_in_one_file_is_still_control(screen, cell_maker):
    def rename(adata):
        adata.obs["target_gene"] = adata.obs["target_gene"].cat.rename_categories({"non-targeting": "ctrl"})
        return adata

    two_files(screen, cell_maker, rename)
    cells = load_cells(read_experiment(screen.toml))
    assert cells.is_control.sum() == 2 * 3 * 4


def test_cells_without_a_perturbation_are_counted_and_refused(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.obs.iloc[[3, 5], adata.obs.columns.get_loc("target_gene")] = np.nan
    adata.write_h5ad(screen.cells)
    with pytest.raises(StateshiftError, match="obs `target_gene` is empty in 2 cells"):
        load_cells(read_experiment(screen.toml))


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("", "is empty in 24 cells"),
        ("G3 ", r"labels with spaces around them \('G3 '\): strip them"),
        ("G2+G1", "G1.G2 and G2.G1 are the same"),
    ],
)
def test_labels_that_would_make_a_group_of_their_own_are_refused(screen, label, told):
    adata = ad.read_h5ad(screen.cells)
    names = adata.obs["target_gene"].astype(str).to_numpy()
    names[np.flatnonzero(names == "G3")[:24]] = label
    adata.obs["target_gene"] = names
    adata.write_h5ad(screen.cells)
    with pytest.raises(InputProblems, match=told):
        read_all(screen.toml)


def test_a_file_that_braces_name_and_that_is_not_there_is_a_problem(screen, cell_maker):
    cell_maker(screen.folder / "a.h5ad", n_cells=2)
    screen.toml.write_text(f'[datasets]\nd = "{screen.folder}/{{a,b}}.h5ad"\n[training]\nd = "train"\n')
    with pytest.raises(InputProblems, match=r"b\.h5ad is not there"):
        read_experiment(screen.toml)


def test_two_matches_of_one_stem_are_a_problem(screen, cell_maker):
    for folder in ("x", "y"):
        (screen.folder / folder).mkdir()
        cell_maker(screen.folder / folder / "a.h5ad", n_cells=2)
    screen.toml.write_text(f'[datasets]\nd = "{screen.folder}/*/a.h5ad"\n[training]\nd = "train"\n')
    with pytest.raises(InputProblems, match="has the file name of another match"):
        read_experiment(screen.toml)


def test_files_of_one_name_in_two_folders_stay_apart(screen, cell_maker):
    for folder, seed in (("x", 0), ("y", 1)):
        (screen.folder / folder).mkdir()
        cell_maker(screen.folder / folder / "a.h5ad", n_cells=4, seed=seed)
    screen.toml.write_text(
        f'[datasets]\nd = "{screen.folder}/x/a.h5ad"\ne = "{screen.folder}/y/a.h5ad"\n[training]\nd = "train"\ne = "train"\n'
    )
    assert load_cells(read_experiment(screen.toml)).obs["file"].nunique() == 2


@pytest.mark.parametrize("content", [b"", b"not an hdf5 file at all", None])
def test_a_truncated_or_foreign_file_is_one_sentence(screen, content):
    whole = screen.cells.read_bytes()
    screen.cells.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(StateshiftError, match=r"cells\.h5ad can't be read as an AnnData file"):
        read_cells(screen.cells)


def test_hdf5_that_is_no_anndata_says_what_it_lacks(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5ad", "w") as handle:
        handle["data"] = np.zeros(3)
    with pytest.raises(StateshiftError, match="is no AnnData file: it has no obs, var, X"):
        read_cells(tmp_path / "x.h5ad")


def test_repeated_gene_names_are_refused_by_name(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.var_names = ["GENE0", *adata.var_names[:-1]]
    adata.write_h5ad(screen.cells)
    with pytest.raises(StateshiftError, match="var_names hold GENE0 more than once"):
        read_cells(screen.cells)


def test_perturbed_genes_split_doubles_and_leave_the_control_out(screen):
    assert perturbed_genes(screen.toml) == ["G1", "G2", "G3", "G4"]


def test_a_narrower_gene_table_names_what_is_missing(screen):
    genes = [f"GENE{i}" for i in range(20)]
    with pytest.raises(StateshiftError, match=r"has 20 genes and lacks 1 of the 21 that are needed: ACTB"):
        read_cells(screen.cells, genes=[*genes, "ACTB"])


def test_counts_are_normalised_on_the_genes_wanted_whatever_else_was_measured(tmp_path, cell_maker):
    cell_maker(tmp_path / "wide.h5ad", counts=True, n_genes=30)
    wide = ad.read_h5ad(tmp_path / "wide.h5ad")
    genes = wide.var_names[:20].tolist()
    wide[:, genes].write_h5ad(tmp_path / "narrow.h5ad")
    cut = read_cells(tmp_path / "wide.h5ad", genes=genes)
    np.testing.assert_array_equal(cut.X.csr().toarray(), read_cells(tmp_path / "narrow.h5ad").X.csr().toarray())


def test_two_conventional_controls_have_to_be_told_apart(screen):
    adata = ad.read_h5ad(screen.cells)
    adata.obs["target_gene"] = adata.obs["target_gene"].cat.rename_categories({"G3": "ctrl"})
    adata.write_h5ad(screen.cells)
    with pytest.raises(InputProblems, match="`target_gene` holds non-targeting and ctrl: name the one that is control"):
        read_cells(screen.cells)


def test_singles_written_with_the_control_are_singles(screen):
    adata = ad.read_h5ad(screen.cells)
    names = {"G3": "G3+non-targeting", "G4": "non-targeting+G4"}
    adata.obs["target_gene"] = adata.obs["target_gene"].cat.rename_categories(names)
    adata.write_h5ad(screen.cells)
    assert set(read_cells(screen.cells).obs["perturbation"]) == {"non-targeting", "G1", "G2", "G3", "G4", "G1+G2"}
    assert perturbed_genes(screen.toml) == ["G1", "G2", "G3", "G4"]


def test_the_order_of_datasets_is_that_of_the_toml_in_every_process(screen, cell_maker):
    import subprocess
    import sys

    names = ["zeta", "alpha", "mid"]
    for name in names:
        cell_maker(screen.folder / f"{name}.h5ad", n_cells=4)
    lines = "".join(f'{n} = "{screen.folder}/{n}.h5ad"\n' for n in names)
    screen.toml.write_text(f"[datasets]\n{lines}[training]\n" + "".join(f'{n} = "train"\n' for n in names))
    code = f"from stateshift.cells import read_experiment; print(list(read_experiment({str(screen.toml)!r}).datasets))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert done.stdout.strip() == str(names), done.stderr
