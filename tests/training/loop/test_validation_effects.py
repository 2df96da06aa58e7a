import anndata as ad
import numpy as np

from stateshift.effects.conformal import load_held_out
from stateshift.prediction import predict
from stateshift.run import open_run
from stateshift.training import train

FAST = [
    "model.hidden=16", "model.ffn=16", "model.heads=2", "model.layers=1", "model.set_size=24", "training.max_steps=6",
    "training.val_every=3", "training.lr=1e-2", "data.by_batch=false",
]  # fmt: skip


def test_a_run_keeps_the_effects_that_its_best_network_predicts_of_validation_pairs(screen, tmp_path):
    run = train(screen.toml, FAST, pert_features=screen.table, output_dir=screen.folder, name="run")
    held, genes = load_held_out(open_run(run).validation_file)
    assert (held.perturbations, held.contexts) == (["G3"], ["K562"])
    cells = ad.read_h5ad(screen.cells)
    assert genes == cells.var_names.tolist()

    def mean(perturbation):
        of = (cells.obs.cell_type == "K562") & (cells.obs.target_gene == perturbation)
        return cells[of].X.toarray().mean(axis=0)

    np.testing.assert_allclose(held.true[0], mean("G3") - mean("non-targeting"), atol=1e-4)
    made = predict(run, cells=screen.cells, split="val", output=tmp_path / "p.h5ad")
    effects = ad.read_h5ad(made).uns["stateshift"]["intervals"]["effects"]
    np.testing.assert_allclose(held.predicted, effects, atol=0.05)
    assert np.corrcoef(held.predicted[0], effects[0])[0, 1] > 0.99


def test_cells_kept_back_of_training_groups_are_no_validation_of_anything_new(screen):
    screen.write_toml('[training]\nmade = "train"\n')
    run = train(screen.toml, FAST, pert_features=screen.table, output_dir=screen.folder, name="run")
    assert not open_run(run).validation_file.exists()
