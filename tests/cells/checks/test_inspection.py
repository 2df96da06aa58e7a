import pytest

from stateshift.errors import InputProblems
from stateshift.training import check_experiment


def test_a_check_counts_what_training_would_use(screen):
    text = screen.toml.read_text()
    screen.toml.write_text(text + f'[features]\ntable = "{screen.table}"\n')
    found = check_experiment(screen.toml)
    assert (found.n_cells, found.n_genes, found.n_controls) == (432, 20, 72)
    assert found.genes == ["G1", "G2", "G3", "G4"]
    assert found.uncovered == []
    assert found.notes == [
        "G3, held out for val in K562, trains as G3 in A549.",
        "G4, held out for test in K562, trains as G4 in A549.",
        "4 of 4 perturbed genes are not measured, no var_name is theirs: G1, G2, G3, G4.",
        "Old and new symbols of one gene were not looked for, only spellings: HGNC's table is not here "
        "(stateshift data get hgnc).",
    ]
    assert found.files[0].columns.perturbation == "target_gene"


def test_a_check_notes_that_nothing_will_be_tested(screen):
    screen.write_toml('[training]\nmade = "train"\n')
    assert check_experiment(screen.toml).notes[:2] == [
        "No test split is declared: a run trains on everything, and nothing can be scored afterwards.",
        "No validation split is declared: a tenth of the training cells chooses the checkpoint; of a model that starts from "
        "a backbone (model=anchored), pairs that are held back whole.",
    ]


def test_doubles_that_hold_a_held_out_gene_are_noted(screen):
    screen.write_toml('[training]\nmade = "train"\n[fewshot."made.K562"]\ntest = ["G1"]\n')
    assert (
        "G1, held out for test in K562, trains as G1 in A549, G1 in T98G, G1+G2 in A549, G1+G2 in K562 and 1 more."
        in (check_experiment(screen.toml).notes)
    )
    screen.write_toml('[fewshot."made.K562"]\ntest = ["G1"]\n')
    assert (
        check_experiment(screen.toml)
        .notes[0]
        .startswith("Cell types of made that no table names are left out (A549, T98G); made = ")
    )


def test_problems_of_the_toml_the_files_and_the_splits_come_together(screen):
    (screen.folder / "broken.h5ad").write_text("no hdf5")
    screen.toml.write_text(
        f'[datasets]\nmade = "{screen.cells}"\nbroken = "{screen.folder}/broken.h5ad"\ngone = "gone.h5ad"\n'
        '[training]\nmade = "train"\nbroken = "train"\nmadee = "train"\n'
        '[zeroshot]\n"made.T98" = "test"\n"broken.x" = "test"\n[features]\ntable = "no.pt"\n'
    )
    with pytest.raises(InputProblems) as caught:
        check_experiment(screen.toml)
    said = str(caught.value)
    for part in (
        "dataset `madee`",
        "gone.h5ad",
        "broken.h5ad can't be read",
        "did you mean `T98G`",
        "no.pt",
    ):
        assert part in said
    assert "5 problems" in said
