from stateshift.cells import check_experiment


def test_a_check_counts_what_training_would_use(screen):
    text = screen.toml.read_text()
    screen.toml.write_text(text + f'[features]\ntable = "{screen.table}"\n')
    found = check_experiment(screen.toml)
    assert (found.n_cells, found.n_genes, found.n_controls) == (432, 20, 72)
    assert found.genes == ["G1", "G2", "G3", "G4"]
    assert found.uncovered == []
    assert found.notes == []
    assert found.columns["cells.h5ad"].perturbation == "target_gene"


def test_a_check_notes_that_nothing_will_be_tested(screen):
    screen.write_toml('[training]\nmade = "train"\n')
    assert len(check_experiment(screen.toml).notes) == 2
