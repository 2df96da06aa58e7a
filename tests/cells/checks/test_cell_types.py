import pytest

GROUPS = [("non-targeting",), ("G1",), ("G2",)]


def groups(*cell_types):
    return [(c, *g) for c in cell_types for g in GROUPS]


@pytest.mark.parametrize("other", ["k562", "K-562", "K_562"])
def test_a_cell_type_that_trains_under_another_spelling_is_refused(write_file, experiment, problems, other):
    write_file("one", groups("K562", "A549"))
    write_file("two", groups(other, "T98G"), seed=1)
    path = experiment('[training]\none = "train"\ntwo = "train"\n[zeroshot]\n"one.K562" = "test"\n')
    told = {"K562": "`K562` (one.h5ad) is in test", other: f"`{other}` (two.h5ad) is in train"}
    first, second = sorted(told)
    assert problems(path) == [
        f"obs cell types `{first}` and `{second}` read like one cell type, in several splits: {told[first]}; {told[second]}. "
        "Give them one name in obs, or names further apart where they are two."
    ]


def test_spellings_that_are_both_held_and_trained_are_refused(write_file, experiment, problems):
    write_file("one", groups("K562", "k562"))
    path = experiment(
        '[training]\none = "train"\n[fewshot."one.K562"]\ntest = ["G1"]\n[fewshot."one.k562"]\ntest = ["G2"]\n'
    )
    assert "`K562` (one.h5ad) is in test, train; `k562` (one.h5ad) is in test, train" in problems(path)[0]


def test_spellings_that_both_train_are_noted(write_file, experiment, notes):
    write_file("one", groups("K562", "k562", "A549"))
    path = experiment('[training]\none = "train"\n[zeroshot]\n"one.A549" = "test"\n')
    assert (
        "Cell types `K562` and `k562` read like one and are taken for 2: give them one name in obs where they are the same."
        in notes(path)
    )


def test_marker_signs_make_other_cell_types(write_file, experiment, notes):
    write_file("one", groups("CD4+ T", "CD4- T", "CD4 T"))
    path = experiment('[training]\none = "train"\n[zeroshot]\n"one.CD4+ T" = "test"\n')
    assert not [n for n in notes(path) if "read like" in n]


def test_a_spelling_with_a_space_at_its_end_is_refused(write_file, experiment, problems):
    write_file("one", groups("K562 ", "A549"))
    path = experiment('[training]\none = "train"\n')
    assert problems(path) == [
        "one.h5ad: obs `cell_type` holds labels with spaces around them ('K562 '): strip them, "
        'adata.obs["cell_type"] = adata.obs["cell_type"].astype(str).str.strip().'
    ]
