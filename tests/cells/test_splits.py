import itertools

import numpy as np
import pytest

from stateshift.cells import (
    assign_splits,
    held_out_genes,
    load_cells,
    read_experiment,
    seen_elsewhere,
    split_counts,
    splits,
)
from stateshift.cells.splits import split_groups
from stateshift.errors import InputProblems

TABLES = {
    "zero-shot test": '[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "test"\n',
    "zero-shot val and test": '[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "test"\n"made.A549" = "val"\n',
    "few-shot": '[training]\nmade = "train"\n[fewshot."made.K562"]\nval = ["G3"]\ntest = ["G4", "G1+G2"]\n',
    "few-shot in a dataset that does not train": '[fewshot."made.K562"]\ntest = ["G4"]\n',
    "zero-shot train": '[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "train"\n',
}


@pytest.mark.parametrize("table", TABLES)
def test_splits_are_cell_loads_index_for_index(screen, table):
    from cell_load.data_modules import PerturbationDataModule

    screen.write_toml(TABLES[table])
    cells = load_cells(read_experiment(screen.toml))
    split = assign_splits(read_experiment(screen.toml), cells)
    module = PerturbationDataModule(
        str(screen.toml), pert_col="target_gene", batch_col="batch", cell_type_key="cell_type",
        control_pert="non-targeting", num_workers=0,
    )  # fmt: skip
    module.setup()
    for name in ("train", "val", "test"):
        subsets = getattr(module, f"{name}_datasets")
        theirs = sorted(set(itertools.chain.from_iterable(s.indices for s in subsets)))
        theirs = [i for i in theirs if not cells.is_control[i]]
        assert np.flatnonzero(split == name).tolist() == theirs


def test_counts_are_by_context_and_perturbation(screen):
    cells = load_cells(read_experiment(screen.toml))
    counts = split_counts(cells, assign_splits(read_experiment(screen.toml), cells))
    assert counts["val"] == {"K562": {"G3": 24}}
    assert counts["test"]["K562"] == {"G4": 24}
    assert set(counts["test"]["T98G"]) == {"G1", "G2", "G3", "G4", "G1+G2"}


def test_misspelt_cell_types_and_genes_are_refused_with_suggestions(screen):
    screen.write_toml(
        '[training]\nmade = "train"\n[zeroshot]\n"made.T98g" = "test"\n[fewshot."made.K562"]\ntest = ["G44"]\n'
    )
    experiment = read_experiment(screen.toml)
    with pytest.raises(InputProblems) as caught:
        assign_splits(experiment, load_cells(experiment))
    assert "no cell of made is a `T98g` (did you mean `T98G`?)" in str(caught.value)
    assert "test: `G44` is not perturbed there (did you mean `G4`?)" in str(caught.value)


def test_a_gene_whose_guides_are_the_labels_is_told_how_they_become_genes(screen):
    screen.write_toml('[training]\nmade = "train"\n[fewshot."made.K562"]\ntest = ["G4"]\n')
    experiment = read_experiment(screen.toml)
    cells = load_cells(experiment)
    cells.obs["perturbation"] = cells.obs["perturbation"].replace({"G4": "G4_1", "G3": "G4_2"})
    with pytest.raises(InputProblems) as caught:
        assign_splits(experiment, cells)
    assert "`G4` is not perturbed there, but guides of it are (G4_1, G4_2)" in str(caught.value)
    assert "stateshift data prepare --guide-separator _" in str(caught.value)


def test_splits_that_leave_nothing_to_train_on_are_refused(screen):
    screen.write_toml('[zeroshot]\n"made.T98G" = "test"\n')
    experiment = read_experiment(screen.toml)
    with pytest.raises(InputProblems, match="the splits leave nothing to train on"):
        assign_splits(experiment, load_cells(experiment))


def test_a_test_split_without_perturbed_cells_is_refused(screen):
    import anndata as ad

    adata = ad.read_h5ad(screen.cells)
    adata[~((adata.obs.cell_type == "T98G") & (adata.obs.target_gene != "non-targeting"))].write_h5ad(screen.cells)
    experiment = read_experiment(screen.toml)
    with pytest.raises(InputProblems, match="`made.T98G` has no perturbed cells"):
        assign_splits(experiment, load_cells(experiment))


def test_a_context_without_controls_is_named(screen):
    import anndata as ad

    adata = ad.read_h5ad(screen.cells)
    adata[~((adata.obs.cell_type == "A549") & (adata.obs.target_gene == "non-targeting"))].write_h5ad(screen.cells)
    experiment = read_experiment(screen.toml)
    with pytest.raises(InputProblems, match=r"no control cells \(`non-targeting`\) in cells\.h5ad: A549"):
        assign_splits(experiment, load_cells(experiment))


def test_a_listed_single_may_carry_the_control_as_the_data_does(screen):
    import anndata as ad

    adata = ad.read_h5ad(screen.cells)
    adata.obs["target_gene"] = adata.obs["target_gene"].cat.rename_categories(
        {"G4": "G4+ctrl", "non-targeting": "ctrl"}
    )
    adata.write_h5ad(screen.cells)
    screen.write_toml('[training]\nmade = "train"\n[fewshot."made.K562"]\ntest = ["G4+ctrl"]\n')
    experiment = read_experiment(screen.toml)
    cells = load_cells(experiment)
    assert split_counts(cells, assign_splits(experiment, cells))["test"] == {"K562": {"G4": 24}}
    screen.write_toml('[training]\nmade = "train"\n[fewshot."made.K562"]\nval = ["G4"]\ntest = ["G4+ctrl"]\n')
    with pytest.raises(InputProblems, match=r"puts G4 into val, as G4, and into test, as G4\+ctrl"):
        assign_splits(read_experiment(screen.toml), cells)


def test_a_perturbation_of_one_file_may_be_absent_from_another(tmp_path, cell_maker):
    cell_maker(tmp_path / "one.h5ad", contexts=["K562"], perturbations=["G1", "G2"])
    cell_maker(tmp_path / "two.h5ad", contexts=["K562"], perturbations=["G2", "G3"], seed=1)
    (tmp_path / "made.toml").write_text(
        f'[datasets]\nmade = "{tmp_path}/*.h5ad"\n[fewshot."made.K562"]\ntest = ["G1"]\nval = ["G3"]\n'
    )
    experiment = read_experiment(tmp_path / "made.toml")
    cells = load_cells(experiment)
    counts = split_counts(cells, assign_splits(experiment, cells))
    assert counts == {"train": {"K562": {"G2": 48}}, "val": {"K562": {"G3": 24}}, "test": {"K562": {"G1": 24}}}


def test_groups_are_counted_by_file_and_split(screen):
    experiment = read_experiment(screen.toml)
    cells = load_cells(experiment)
    groups = split_groups(cells, assign_splits(experiment, cells))
    assert len(groups) == 18
    assert groups["cells"].tolist() == [24] * 18
    assert groups["split"].value_counts().to_dict() == {"train": 8, "test": 6, "control": 3, "val": 1}
    assert (groups[groups.perturbation == "non-targeting"]["split"] == "control").all()
    assert (groups[groups.context == "T98G"]["split"].isin(["test", "control"])).all()


def test_genes_that_training_never_perturbs_are_held_out_those_of_trained_doubles_and_contexts_are_not(screen):
    assert held_out_genes(read_experiment(screen.toml)) == []
    screen.write_toml(
        '[training]\nmade = "train"\n'
        + "".join(f'[fewshot."made.{context}"]\ntest = ["G3", "G1"]\n' for context in ("K562", "A549", "T98G"))
    )
    assert held_out_genes(read_experiment(screen.toml)) == ["G3"]


def test_one_double_in_both_orders_is_refused(screen, cell_maker):
    cell_maker(screen.cells, perturbations=("G1+G2", "G2+G1", "G3"))
    screen.write_toml('[training]\nmade = "train"\n')
    experiment = read_experiment(screen.toml)
    with pytest.raises(InputProblems, match=r"G1\+G2 and G2\+G1 are the same genes: give them one name in obs"):
        assign_splits(experiment, load_cells(experiment))


def test_a_double_listed_in_the_other_order_is_the_datas_own(screen):
    screen.write_toml('[training]\nmade = "train"\n[fewshot."made.K562"]\ntest = ["G2+G1"]\n')
    experiment = read_experiment(screen.toml)
    cells = load_cells(experiment)
    assert split_counts(cells, assign_splits(experiment, cells))["test"] == {"K562": {"G1+G2": 24}}


def test_what_is_held_out_and_trains_or_validates_elsewhere_is_said_however_it_is_spelt(screen):
    K562, A549 = '[fewshot."made.K562"]\ntest = ["G3", " G2 + G1"]\n', '[fewshot."made.A549"]\nval = ["G3"]\n'
    screen.write_toml(f'[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "val"\n{K562}{A549}')
    experiment = read_experiment(screen.toml)
    cells = load_cells(experiment)
    assert seen_elsewhere(experiment, cells, assign_splits(experiment, cells)) == [
        "G1+G2, held out for test in K562, trains as G1 in A549, G1 in K562, G1+G2 in A549, G2 in A549 and 1 more.",
        "G3, held out for test in K562, helps to choose the model: in val as G3 in A549, G3 in T98G.",
    ]


def test_many_held_out_perturbations_have_one_sentence(screen, monkeypatch):
    monkeypatch.setattr(splits, "FEW", 1)
    screen.write_toml('[training]\nmade = "train"\n[fewshot."made.K562"]\ntest = ["G1", "G3"]\n')
    experiment = read_experiment(screen.toml)
    cells = load_cells(experiment)
    assert seen_elsewhere(experiment, cells, assign_splits(experiment, cells)) == [
        "G1 and 1 more, held out for test in K562, train elsewhere, as G1 in A549 and 1 more."
    ]


def test_a_control_and_several_names_in_one_text_are_told(screen):
    screen.write_toml('[training]\nmade = "train"\n[fewshot."made.K562"]\ntest = ["non-targeting", "G1, G3"]\n')
    experiment = read_experiment(screen.toml)
    with pytest.raises(InputProblems) as caught:
        assign_splits(experiment, load_cells(experiment))
    assert "`non-targeting` is the control, which serves training, val and test alike" in caught.value.problems[0]
    assert 'is not perturbed there: each name is a text of its own, ["G1", "G3"].' in caught.value.problems[1]


def test_doubles_with_another_separator_in_obs_are_refused_with_the_right_form(screen, cell_maker):
    cell_maker(screen.cells, perturbations=("G1", "G2", "G1_G2", "HLA_A", "G3_like"))
    screen.write_toml('[training]\nmade = "train"\n')
    experiment = read_experiment(screen.toml)
    with pytest.raises(InputProblems) as caught:
        assign_splits(experiment, load_cells(experiment))
    assert "obs: `G1_G2` names known genes: a double is written `G1+G2`." in str(caught.value)
    assert len(caught.value.problems) == 1
