import itertools

import numpy as np
import pytest
import torch

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
    for batch in make(shuffle=False):
        mask = batch["mask"].numpy()
        seen += rows_of(cells, batch["pert_cell_emb"].numpy()[mask])
        assert (batch["pert_cell_emb"].numpy()[~mask] == 0).all()
        assert batch["pert_emb"].shape == (len(batch["pert_name"]), 6)
    assert sorted(seen) == np.flatnonzero(~cells.is_control).tolist()


def test_controls_come_from_the_cells_own_context_and_batch(served):
    cells, make = served
    obs = cells.obs
    for batch in make(shuffle=False):
        mask = batch["mask"].numpy()
        for b in range(len(mask)):
            perturbed = rows_of(cells, batch["pert_cell_emb"].numpy()[b][mask[b]])
            control = rows_of(cells, batch["ctrl_cell_emb"].numpy()[b][mask[b]])
            assert cells.is_control[control].all()
            assert len(set(control)) == len(control)
            for p, c in zip(perturbed, control):
                assert obs["context"].iloc[p] == obs["context"].iloc[c]
                assert obs["batch"].iloc[p] == obs["batch"].iloc[c]


def test_shuffled_epochs_serve_every_cell_and_differ(served):
    cells, make = served
    sets = make()
    n = sets.batches_an_epoch
    batches = list(itertools.islice(sets, 2 * n))
    for epoch in (batches[:n], batches[n:]):
        seen = [i for b in epoch for i in rows_of(cells, b["pert_cell_emb"].numpy()[b["mask"].numpy()])]
        assert sorted(seen) == np.flatnonzero(~cells.is_control).tolist()
    assert not torch.equal(batches[0]["pert_cell_emb"], batches[n]["pert_cell_emb"])


def test_a_batch_depends_on_seed_and_number_alone(served):
    _, make = served
    ninth_to_twentieth = list(itertools.islice(make(), 8, 20))
    for a, b in zip(ninth_to_twentieth, make(first_batch=8)):
        assert torch.equal(a["pert_cell_emb"], b["pert_cell_emb"])
        assert torch.equal(a["ctrl_cell_emb"], b["ctrl_cell_emb"])
    assert not torch.equal(next(iter(make(seed=1)))["ctrl_cell_emb"], next(iter(make()))["ctrl_cell_emb"])


def test_unshuffled_sets_are_the_same_every_time(served):
    _, make = served
    sets = make(shuffle=False)
    for a, b in zip(sets, sets):
        assert (a["ctrl_cell_emb"] == b["ctrl_cell_emb"]).all()


def test_a_perturbation_without_a_vector_is_an_error_not_zeros(screen):
    cells = load_cells(read_experiment(screen.toml))
    features = FeatureTable.load(screen.table).subset(["G1", "G2", "G3"])
    with pytest.raises(StateshiftError, match="No feature vector for G4"):
        CellSets(cells, ~cells.is_control, features, set_size=10, batch_size=4, seed=0)
