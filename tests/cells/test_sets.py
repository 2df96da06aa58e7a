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
    index = {row.tobytes(): i for i, row in enumerate(cells.X.csr().toarray())}
    return [index[row.tobytes()] for row in X]


def test_sets_of_groups_that_are_large_enough_are_full_and_repeat_no_cell(served):
    cells, make = served
    seen = []
    for batch in make(shuffle=False):
        assert batch["mask"].all()
        for one_set in batch["pert_cell_emb"].numpy():
            rows = rows_of(cells, one_set)
            assert len(set(rows)) == 10
            seen += rows
        assert batch["pert_emb"].shape == (len(batch["pert_name"]), 6)
    assert sorted(set(seen)) == np.flatnonzero(~cells.is_control).tolist()
    assert len(seen) == 15 * 30, "24 cells make three sets of ten, six cells served twice"


def test_a_group_smaller_than_a_set_is_masked_not_repeated(served):
    cells, make = served
    seen = []
    for batch in make(shuffle=False, set_size=50):
        mask = batch["mask"].numpy()
        assert mask.sum(axis=1).tolist() == [24] * len(mask)
        seen += rows_of(cells, batch["pert_cell_emb"].numpy()[mask])
        assert (batch["pert_cell_emb"].numpy()[~mask] == 0).all()
        assert (batch["ctrl_cell_emb"].numpy()[~mask] == 0).all()
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
        seen = {i for b in epoch for i in rows_of(cells, b["pert_cell_emb"].numpy()[b["mask"].numpy()])}
        assert sorted(seen) == np.flatnonzero(~cells.is_control).tolist()
    assert not torch.equal(batches[0]["pert_cell_emb"], batches[n]["pert_cell_emb"])


def test_a_batch_depends_on_seed_and_number_alone(served):
    _, make = served
    ninth_to_twentieth = list(itertools.islice(make(), 8, 20))
    for a, b in zip(ninth_to_twentieth, make(first_batch=8)):
        assert torch.equal(a["pert_cell_emb"], b["pert_cell_emb"])
        assert torch.equal(a["ctrl_cell_emb"], b["ctrl_cell_emb"])
    assert not torch.equal(next(iter(make(seed=1)))["ctrl_cell_emb"], next(iter(make()))["ctrl_cell_emb"])


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_serve_the_same_batches_in_the_same_order(served, workers):
    from torch.utils.data import DataLoader

    _, make = served
    loader = DataLoader(make(first_batch=2), batch_size=None, num_workers=workers)
    for ours, theirs in itertools.islice(zip(make(first_batch=2), loader), 8):
        assert ours["pert_name"] == theirs["pert_name"]
        assert torch.equal(ours["ctrl_cell_emb"], theirs["ctrl_cell_emb"])
    loader = DataLoader(make(shuffle=False), batch_size=None, num_workers=workers)
    assert [b["pert_name"] for b in loader] == [b["pert_name"] for b in make(shuffle=False)]


def test_ranks_share_the_batches_of_an_epoch(served):
    _, make = served
    alone = [b["pert_name"] for b in itertools.islice(make(), 12)]
    shared = [[b["pert_name"] for b in itertools.islice(make(rank=r, ranks=3), 4)] for r in range(3)]
    assert [names for turn in zip(*shared) for names in turn] == alone


def test_sets_of_one_batch_where_that_is_asked_for(served):
    cells, make = served
    for batch in make(by_batch=True, shuffle=False):
        for one_set, mask in zip(batch["pert_cell_emb"].numpy(), batch["mask"].numpy()):
            assert cells.obs["batch"].iloc[rows_of(cells, one_set[mask])].nunique() == 1


def test_cells_of_a_batch_without_controls_are_counted_and_get_their_contexts(served):
    cells, make = served
    lost = cells.is_control & (cells.obs["batch"] == "b1").to_numpy() & (cells.obs["context"] == "K562").to_numpy()
    cells.obs.loc[lost, "perturbation"] = "G1"
    sets = make(shuffle=False)
    unmatched = (cells.obs["batch"] == "b1") & (cells.obs["context"] == "K562") & ~cells.is_control
    assert sets.n_unmatched == unmatched.sum() > 0
    for batch in sets:
        for b, context in enumerate(batch["cell_type"]):
            controls = rows_of(cells, batch["ctrl_cell_emb"].numpy()[b][batch["mask"].numpy()[b]])
            assert set(cells.obs["context"].iloc[controls]) == {context}
            assert cells.is_control[controls].all()


def test_control_sets_are_marked_and_carry_no_features(served):
    cells, _ = served
    sets = CellSets(
        cells, cells.is_control, FeatureTable(["G1"], np.ones((1, 6), np.float32), {}),
        set_size=8, batch_size=2, seed=0, shuffle=False,
    )  # fmt: skip
    for batch in sets:
        assert batch["is_control"].all()
        assert (batch["pert_emb"] == 0).all()
        assert set(batch["pert_name"]) == {"non-targeting"}


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


def test_batches_are_served_by_the_place_of_their_name_where_a_model_tells_them_apart(served):
    cells, make = served
    assert "batch" not in next(iter(make()))
    for batch in make(set_size=50, batch_names=["b1", "b0"]):
        mask = batch["mask"].numpy()
        rows = rows_of(cells, batch["pert_cell_emb"].numpy()[mask])
        assert [["b1", "b0"][i] for i in batch["batch"].numpy()[mask]] == cells.obs["batch"].iloc[rows].tolist()
        assert (batch["batch"].numpy()[~mask] == 0).all()
        break


def test_cells_of_a_batch_that_the_model_does_not_know_are_refused(served):
    with pytest.raises(StateshiftError, match="no training cell is of b0: leave those cells out of the split"):
        served[1](batch_names=["b1"])
