import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.prediction import predict
from stateshift.prediction.effects import predict_effects
from stateshift.prediction.prepared import Asked

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
    with pytest.raises(StateshiftError, match="no effect model can be fitted beside it"):
        predict_effects(ASSETS / "arc_run", Asked(cells, perturb="G1"), beside=["ridge"])
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


@pytest.fixture
def decoded(tmp_path) -> tuple[dict[str, np.ndarray], Path]:
    """What arc-state decodes of a run on X_hvg to every gene, and the cells it read."""
    with np.load(ASSETS / "arc_run_all.npz", allow_pickle=False) as stored:
        golden = dict(stored)
    obs = pd.DataFrame({name: golden[name] for name in ("cell_type", "target_gene", "batch")}, dtype="category")
    obs.index = [f"cell{i}" for i in range(len(obs))]
    adata = ad.AnnData(golden["X"], obs=obs, var=pd.DataFrame(index=[f"GENE{i}" for i in range(20)]), uns={"log1p": {}})
    adata.obsm["X_hvg"] = golden["X"][:, -12:]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return golden, tmp_path / "cells.h5ad"


def test_a_run_with_a_gene_decoder_reads_x_hvg_and_predicts_every_gene_as_arc_state_does(decoded, tmp_path, caplog):
    golden, cells = decoded
    adata = ad.read_h5ad(predict(ASSETS / "arc_run_all", cells=cells, perturb="G1,G3", output=tmp_path / "out.h5ad"))
    assert adata.var_names.tolist() == [f"GENE{i}" for i in range(20)]
    assert set(adata.var["modelled_by"]) == {"decoder"}
    for context in ("A549", "K562"):
        for perturbation in ("G1", "G3"):
            rows = (adata.obs["context"] == context) & (adata.obs["target_gene"] == perturbation)
            expected = golden[f"predicted:{context}:{perturbation}"]
            np.testing.assert_allclose(adata[rows].X.toarray(), expected, atol=1e-5)
            assert expected.std(axis=0).max() > 0.1
    controls = (golden["target_gene"] == "non-targeting") & (golden["cell_type"] == "K562")
    passed = adata[(adata.obs["context"] == "K562") & adata.obs["is_control"]].X.toarray()
    np.testing.assert_array_equal(passed, golden["X"][controls])
    assert "the run doesn't name the genes of obsm `X_hvg`: its columns are taken in their order" in caplog.text


def test_cells_without_the_x_hvg_that_a_run_of_arc_state_reads_or_with_another_are_refused(decoded, tmp_path):
    adata = ad.read_h5ad(decoded[1])
    ask = {"perturb": "G1", "output": tmp_path / "out.h5ad"}
    adata.obsm["X_hvg"] = adata.obsm["X_hvg"][:, :10]
    adata.write_h5ad(tmp_path / "narrow.h5ad")
    with pytest.raises(StateshiftError, match="obsm `X_hvg` has 10 columns, and the run was trained on 12"):
        predict(ASSETS / "arc_run_all", cells=tmp_path / "narrow.h5ad", **ask)
    del adata.obsm["X_hvg"]
    adata.write_h5ad(tmp_path / "bare.h5ad")
    with pytest.raises(StateshiftError, match=r"obsm has no `X_hvg` \(there are none\)\.$"):
        predict(ASSETS / "arc_run_all", cells=tmp_path / "bare.h5ad", **ask)
    ad.read_h5ad(decoded[1])[:, :18].copy().write_h5ad(tmp_path / "few.h5ad")
    with pytest.raises(StateshiftError, match="lacks 2 of the 20 that are needed: GENE18, GENE19"):
        predict(ASSETS / "arc_run_all", cells=tmp_path / "few.h5ad", **ask)


def test_a_run_of_arc_state_on_named_variable_genes_reads_them_from_x_hvg_by_name(golden, cells, tmp_path, caplog):
    arc = Path(shutil.copytree(ASSETS / "arc_run", tmp_path / "arc"))
    stored = torch.load(arc / "checkpoints" / "final.ckpt", weights_only=True)
    stored["hyper_parameters"]["embed_key"] = "X_hvg"
    torch.save(stored, arc / "checkpoints" / "final.ckpt")
    adata = ad.read_h5ad(cells)
    order = np.random.default_rng(0).permutation(12)
    adata.obsm["X_hvg"] = adata.X[:, order]
    adata.uns["stateshift"] = {"embedding_genes": {"X_hvg": adata.var_names[order].to_numpy(dtype=object)}}
    adata.X = adata.X * 0.5
    adata.write_h5ad(tmp_path / "hvg.h5ad")
    out = ad.read_h5ad(predict(arc, cells=tmp_path / "hvg.h5ad", perturb="G1", output=tmp_path / "out.h5ad"))
    rows = (out.obs["context"] == "K562") & (out.obs["target_gene"] == "G1")
    np.testing.assert_allclose(out[rows].X.toarray(), golden["predicted:K562:G1"], atol=1e-5)
    assert "it models its 12 genes alone, and stores no effects: no other gene is predicted" in caplog.text
