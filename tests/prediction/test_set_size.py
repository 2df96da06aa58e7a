"""Prediction deals control cells to sets of the size that the model was trained with."""

import anndata as ad
import pytest

from stateshift.prediction import predict
from stateshift.training import train
from stateshift.transition import TransitionModel

S = 8


@pytest.fixture
def sets_of(screen, tmp_path, monkeypatch):
    """Shapes (B, S) of the sets that a real prediction of so many control cells gives to the model."""
    words = ["model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", f"model.set_size={S}"]
    words += ["training.max_steps=2", "training.val_every=2", "training.accelerator=cpu"]
    run = train(screen.toml, words, pert_features=screen.table, output_dir=screen.folder, name="run")
    stored = ad.read_h5ad(screen.cells)
    controls = stored[(stored.obs.cell_type == "K562") & (stored.obs.target_gene == "non-targeting")]
    forward, seen = TransitionModel.forward, []

    def watched(self, batch):
        seen.append(tuple(batch["ctrl_cell_emb"].shape[:2]))
        return forward(self, batch)

    monkeypatch.setattr(TransitionModel, "forward", watched)

    def predicted(n):
        seen.clear()
        controls[:n].write_h5ad(tmp_path / "c.h5ad")
        made = predict(run, cells=tmp_path / "c.h5ad", perturb=["G4"], output=tmp_path / "p.h5ad", overwrite=True)
        assert (~ad.read_h5ad(made).obs.is_control).sum() == n
        return list(seen)

    return predicted


@pytest.mark.parametrize(("n", "sets"), [(24, (3, S)), (17, (3, S)), (8, (1, S)), (5, (1, 5))])
def test_sets_are_those_of_training_and_only_too_few_cells_make_a_smaller_one(sets_of, n, sets):
    assert sets_of(n) == [sets]
