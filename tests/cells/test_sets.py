import numpy as np
import pytest

from stateshift.cells import load_cells, read_experiment
from stateshift.cells.sets import CellSets
from stateshift.errors import StateshiftError
from stateshift.feature_table import FeatureTable


@pytest.fixture
def served(screen):
    cells = load_cells(read_experiment(screen.toml))
    features = FeatureTable.load(screen.table)
    return cells, lambda **kwargs: CellSets(
        cells, ~cells.is_control, features, **{"set_size": 10, "batch_size": 4, "seed": 0, **kwargs}
    )


def rows_of(cells, X: np.ndarray) -> list[int]:
    index = {row.tobytes(): i for i, row in enumerate(cells.X.toarray())}
    return [index[row.tobytes()] for row in X]


def test_every_cell_is_served_once_an_epoch_and_short_sets_are_masked(served):
    cells, make = served
    seen = []
    for batch in make():
        mask = batch["mask"].numpy()
        seen += rows_of(cells, batch["pert_cell_emb"].numpy()[mask])
        assert (batch["pert_cell_emb"].numpy()[~mask] == 0).all()
        assert batch["pert_emb"].shape == (len(batch["pert_name"]), 6)
    assert sorted(seen) == np.flatnonzero(~cells.is_control).tolist()


def test_controls_come_from_the_cells_own_context_and_batch(served):
    cells, make = served
    obs = cells.obs
    for batch in make():
        mask = batch["mask"].numpy()
        for b in range(len(mask)):
            perturbed = rows_of(cells, batch["pert_cell_emb"].numpy()[b][mask[b]])
            control = rows_of(cells, batch["ctrl_cell_emb"].numpy()[b][mask[b]])
            assert cells.is_control[control].all()
            assert len(set(control)) == len(control)
            for p, c in zip(perturbed, control):
                assert obs["context"].iloc[p] == obs["context"].iloc[c]
                assert obs["batch"].iloc[p] == obs["batch"].iloc[c]


def test_epochs_differ_and_seeds_repeat(served):
    _, make = served
    sets = make()
    first, second = [b["pert_cell_emb"] for b in sets], [b["pert_cell_emb"] for b in sets]
    again = [b["pert_cell_emb"] for b in make()]
    assert all((a == b).all() for a, b in zip(first, again))
    assert not all(a.shape == b.shape and (a == b).all() for a, b in zip(first, second))


def test_unshuffled_sets_are_the_same_every_time(served):
    _, make = served
    sets = make(shuffle=False)
    for a, b in zip(sets, sets):
        assert (a["ctrl_cell_emb"] == b["ctrl_cell_emb"]).all()


def test_the_length_is_the_number_of_batches(served):
    _, make = served
    assert len(make()) == len(list(make())) == -(-15 * 3 // 4)


def test_a_perturbation_without_a_vector_is_an_error_not_zeros(screen):
    cells = load_cells(read_experiment(screen.toml))
    features = FeatureTable.load(screen.table).subset(["G1", "G2", "G3"])
    with pytest.raises(StateshiftError, match="No feature vector for G4"):
        CellSets(cells, ~cells.is_control, features, set_size=10, batch_size=4, seed=0)
