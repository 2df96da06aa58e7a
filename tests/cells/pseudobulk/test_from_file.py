import anndata as ad
import numpy as np
import pytest

from stateshift.cells import Storage, estimate_effects, estimate_effects_file, read_all, read_cells, read_effects
from stateshift.errors import StateshiftError


def test_the_cells_of_one_file_become_a_file_of_effects(screen, tmp_path):
    table = estimate_effects_file(screen.cells, tmp_path / "effects.h5ad")
    direct = estimate_effects(read_cells(screen.cells))
    np.testing.assert_array_equal(table.shrunk, direct.shrunk)
    np.testing.assert_array_equal(read_effects(tmp_path / "effects.h5ad").shrunk, direct.shrunk)


def test_a_split_of_an_experiment_is_what_training_sees(screen, tmp_path):
    table = estimate_effects_file(screen.toml, tmp_path / "train.h5ad", split="train")
    _, cells, split = read_all(screen.toml)
    np.testing.assert_array_equal(table.effects, estimate_effects(cells, split == "train").effects)
    pairs = set(zip(table.contexts, table.perturbations))
    assert ("K562", "G4") not in pairs
    assert "T98G" not in table.contexts
    assert "T98G" in read_effects(tmp_path / "train.h5ad").control_means
    assert len(estimate_effects_file(screen.toml, tmp_path / "all.h5ad")) == 15


def test_columns_seed_and_storage_are_handed_on(screen, tmp_path):
    adata = ad.read_h5ad(screen.cells)
    adata.obs = adata.obs.rename(columns={"target_gene": "guide", "batch": "lane"})
    adata.write_h5ad(tmp_path / "other.h5ad")
    columns = {"perturbation": "guide", "batch": "lane"}
    storage = Storage(memory_gb=0, cache=tmp_path / "cache")
    table = estimate_effects_file(
        tmp_path / "other.h5ad", tmp_path / "e.h5ad", columns=columns, seed=3, storage=storage
    )
    direct = estimate_effects(read_cells(screen.cells), seed=3)
    np.testing.assert_array_equal(table.reliability, direct.reliability)
    np.testing.assert_array_equal(table.effects, direct.effects)
    assert any((tmp_path / "cache").iterdir())


def test_what_cannot_be_done_is_refused_before_the_cells_are_read(screen, tmp_path):
    made = tmp_path / "effects.h5ad"
    for source, output, how, said in [
        (screen.cells, made, {"split": "train"}, "has no splits, an experiment TOML has"),
        (screen.toml, made, {"split": "tran"}, r"no cell is in the split `tran` \(did you mean `train`\?\)"),
        (screen.toml, tmp_path / "e.csv", {}, "effects are written as .h5ad"),
        (screen.cells, screen.cells, {}, "exists already"),
        (screen.cells, screen.cells, {"overwrite": True}, "both the cells and the --output"),
        (tmp_path / "none.h5ad", made, {}, "there is no such file"),
    ]:
        with pytest.raises(StateshiftError, match=said):
            estimate_effects_file(source, output, **how)
    assert not made.exists()


def test_cells_that_are_all_control_have_no_effect_to_estimate(screen, tmp_path):
    adata = ad.read_h5ad(screen.cells)
    adata[adata.obs["target_gene"] == "non-targeting"].write_h5ad(tmp_path / "controls.h5ad")
    with pytest.raises(StateshiftError, match=r"all cells are control \(`non-targeting`\)"):
        estimate_effects_file(tmp_path / "controls.h5ad", tmp_path / "e.h5ad")
