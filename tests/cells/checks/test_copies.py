import anndata as ad
import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

GROUPS = [(c, p) for c in ("K562", "A549") for p in ("non-targeting", "G1", "G2")]
NAMES = [f"AAAC{i}-1" for i in range(72)]
LEAK = '[training]\none = "train"\n[zeroshot]\n"two.K562" = "test"\n"two.A549" = "val"\n'


def log1p(adata):
    adata.X = np.log1p(1e4 * adata.X / adata.X.sum(axis=1, keepdims=True))
    adata.uns["log1p"] = {}


def test_the_same_cells_in_a_training_and_a_held_out_file_are_refused(write_file, experiment, problems):
    write_file("one", GROUPS, names=NAMES)
    write_file("two", GROUPS, names=NAMES)
    assert problems(experiment(LEAK)) == [
        "one.h5ad of one and two.h5ad of two hold the same cells, 48 of which train in one and are held out in the other "
        "(AAAC12-1, AAAC13-1 and 46 more): leave one of the files out, or give both the same splits."
    ]


@pytest.mark.parametrize("store", [csr_matrix, csc_matrix, np.asarray])
def test_normalised_and_regrouped_copies_are_recognised(write_file, experiment, problems, tmp_path, store):
    write_file("one", GROUPS, names=NAMES, change=lambda adata: setattr(adata, "X", csr_matrix(adata.X)))
    write_file("two", GROUPS, names=NAMES, change=log1p)
    copy = ad.read_h5ad(tmp_path / "two.h5ad")
    copy = copy[np.random.default_rng(0).permutation(72)[:50], ::-1].copy()
    copy.X = store(copy.X)
    copy.write_h5ad(tmp_path / "two.h5ad")
    assert [p for p in problems(experiment(LEAK)) if "one.h5ad of one and two.h5ad of two hold the same cells" in p]


def test_barcodes_that_meet_by_chance_are_other_cells(write_file, experiment, notes):
    write_file("one", GROUPS, names=NAMES)
    write_file("two", GROUPS, names=NAMES, seed=1)
    assert not [n for n in notes(experiment(LEAK)) if "same cells" in n]


def test_copies_that_both_train_are_noted(write_file, experiment, notes):
    write_file("one", GROUPS, names=NAMES)
    write_file("two", GROUPS, names=NAMES)
    assert (
        "one.h5ad of one and two.h5ad of two hold the same cells (72 names in common, AAAC0-1, AAAC1-1 and 70 more): they "
        "count twice." in notes(experiment('[training]\none = "train"\ntwo = "train"\n'))
    )


def test_one_file_under_two_names_can_not_train_and_test(write_file, tmp_path, problems):
    path = write_file("one", GROUPS)
    toml = tmp_path / "made.toml"
    toml.write_text(
        f'[datasets]\na = "{path}"\nb = "{path}"\n[training]\na = "train"\n[zeroshot]\n"b.K562" = "test"\n"b.A549" = "test"\n'
    )
    assert "one.h5ad of a and one.h5ad of b hold the same cells, 48 of which train in one" in problems(toml)[0]


def test_repeated_cell_names_are_noted(write_file, experiment, notes):
    write_file("one", GROUPS, names=["twice", "twice", *NAMES[2:]])
    assert (
        "one.h5ad: 1 obs_names repeat others (twice); cells are told apart by their rows, adata.obs_names_make_unique() gives "
        "each a name." in notes(experiment('[training]\none = "train"\n'))
    )
