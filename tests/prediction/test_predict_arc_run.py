import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stateshift.errors import StateshiftError
from stateshift.prediction import predict

ASSETS = Path(__file__).parents[1] / "assets" / "transition"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(ASSETS / "arc_run.npz", allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture
def cells(golden, tmp_path) -> Path:
    obs = pd.DataFrame({name: golden[name] for name in ("cell_type", "target_gene", "batch")}, dtype="category")
    obs.index = [f"cell{i}" for i in range(len(obs))]
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(12)])
    ad.AnnData(golden["X"], obs=obs, var=var, uns={"log1p": {}}).write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


@pytest.mark.parametrize("source", ["arc_run", "arc_run/checkpoints/final.ckpt"])
def test_a_run_of_arc_state_predicts_what_arc_state_predicts(golden, cells, tmp_path, caplog, source):
    adata = ad.read_h5ad(predict(ASSETS / source, cells=cells, perturb="G1,G3", output=tmp_path / "out.h5ad"))
    for context in ("A549", "K562"):
        for perturbation in ("G1", "G3"):
            rows = (adata.obs["context"] == context) & (adata.obs["target_gene"] == perturbation)
            expected = golden[f"predicted:{context}:{perturbation}"]
            np.testing.assert_allclose(adata[rows].X.toarray(), expected, atol=1e-5)
            assert expected.std() > 0.1
    about = adata.uns["stateshift"]
    assert "baselines" not in about
    assert (about["run"], about["model"]) == (Path(source).name, "arc_state")
    assert "a run of arc-state holds no effects of its training cells: no baselines" in caplog.text


def test_what_needs_training_effects_is_refused(cells, tmp_path):
    for asked, named in (({"model": "ridge"}, "--model ridge"), ({"missing": "fallback"}, "--missing fallback")):
        with pytest.raises(StateshiftError, match=f"holds no effects of its training cells, which {named} needs"):
            predict(ASSETS / "arc_run", cells=cells, perturb="G1", output=tmp_path / "out.h5ad", **asked)
    with pytest.raises(StateshiftError, match="records no splits, and so no `test`: name genes with --perturb"):
        predict(ASSETS / "arc_run", cells=cells, split="test", output=tmp_path / "out.h5ad")


def test_an_unknown_gene_and_an_unknown_batch_are_refused_where_arc_state_puts_the_control_and_the_first(
    cells, tmp_path
):
    with pytest.raises(StateshiftError, match="No feature vector for G9"):
        predict(ASSETS / "arc_run", cells=cells, perturb="G9", output=tmp_path / "out.h5ad")
    adata = ad.read_h5ad(cells)
    adata.obs["batch"] = adata.obs["batch"].astype(str).replace("b1", "b7")
    adata.write_h5ad(cells)
    with pytest.raises(StateshiftError, match="are of batch `b7`, which it was not trained on"):
        predict(ASSETS / "arc_run", cells=cells, perturb="G1", output=tmp_path / "out.h5ad")


def test_cells_that_lack_genes_of_the_run_are_refused(cells, tmp_path):
    ad.read_h5ad(cells)[:, :10].write_h5ad(tmp_path / "few.h5ad")
    with pytest.raises(StateshiftError, match="lacks 2 of the 12 that are needed: GENE10, GENE11"):
        predict(ASSETS / "arc_run", cells=tmp_path / "few.h5ad", perturb="G1", output=tmp_path / "out.h5ad")


def test_the_run_of_arc_state_is_left_as_it_was(cells, tmp_path):
    arc = Path(shutil.copytree(ASSETS / "arc_run", tmp_path / "arc"))
    before = {path: path.read_bytes() for path in arc.rglob("*") if path.is_file()}
    predict(arc, cells=cells, perturb="G1", output=tmp_path / "out.h5ad")
    assert {path: path.read_bytes() for path in arc.rglob("*") if path.is_file()} == before
