"""A run on `X_hvg` hands in every gene of the season's list."""

from __future__ import annotations

import io
import tarfile

import anndata as ad
import numpy as np
import pytest
import zstandard
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from stateshift.challenge import export_run
from stateshift.cli.main import app
from stateshift.prediction import predict
from stateshift.training import train

VARIABLE = 40
SMALL = [
    "training.max_steps=2", "training.val_every=2", "model.hidden=8", "model.ffn=8", "model.heads=2", "model.layers=1",
    "model.encoder_layers=1", "model.decoder_layers=1", "model.set_size=8", "data.batch_size=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, makings, season_maker):
    """A season's pack whose H1 cells are on 10,000 counts and have 40 variable genes in `obsm`; a run on these."""
    import scanpy as sc

    changes = {"genes = 18_080": f"genes = {len(makings.genes)}"}
    folder = season_maker(tmp_path_factory.mktemp("variable"), "2025", makings, changes)
    for name in ("competition_train.h5", "competition_val_template.h5ad"):
        path = folder / "competition_support_set" / name
        cells = ad.read_h5ad(path)
        labels = cells.obs["target_gene"].astype(str).to_numpy()
        cells.X = csr_matrix(makings.counts("ARC_H1", labels if name.endswith(".h5") else np.repeat("x", len(labels))))
        sc.pp.normalize_total(cells, target_sum=1e4)
        sc.pp.log1p(cells)
        cells.var["highly_variable"] = np.arange(cells.n_vars) >= cells.n_vars - VARIABLE
        cells.obsm["X_hvg"] = cells[:, cells.var["highly_variable"]].X.toarray()
        cells.write_h5ad(path)
    (folder / "variable.toml").write_text(
        '[datasets]\nh1 = "competition_support_set/competition_train.h5"\n[training]\nh1 = "train"\n'
        '[columns]\nembedding = "X_hvg"\nbatch = "batch_var"\n'
        '[features]\ntable = "competition_support_set/ESM2_pert_features.pt"\n'
    )
    train(folder / "variable.toml", SMALL, output_dir=folder / "runs", name="variable")
    return folder


def opened(vcc):
    with tarfile.open(vcc) as tar:
        packed = tar.extractfile("pred.h5ad.zst").read()
    plain = vcc.with_suffix(".inside.h5ad")
    plain.write_bytes(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read())
    return ad.read_h5ad(plain)


def test_a_prediction_says_which_genes_the_network_models_and_passes_the_seasons_checks(folder, makings):
    pack = folder / "competition_support_set"
    template = pack / "competition_val_template.h5ad"
    predict(
        folder / "runs" / "variable",
        cells=template,
        perturb=list(makings.to_predict),
        output=folder / "p.h5ad",
        n_cells=10,
    )
    predicted = ad.read_h5ad(folder / "p.h5ad", backed="r")
    assert predicted.var["modelled_by"].value_counts().to_dict() == {
        "effect": len(makings.genes) - VARIABLE,
        "network": VARIABLE,
    }
    words = ["--genes", pack / "gene_names.csv", "--pert-counts", template]
    done = CliRunner().invoke(
        app, ["challenge", "validate", str(folder / "p.h5ad"), "--season", str(folder / "rules.toml"), *map(str, words)]
    )
    assert done.exit_code == 0, done.output


def test_the_runs_file_holds_every_gene_of_the_list_and_cell_eval_takes_it_as_it_is(folder, makings, tmp_path):
    pack = folder / "competition_support_set"
    template = pack / "competition_val_template.h5ad"
    done = export_run(
        folder / "runs" / "variable", season=folder / "rules.toml", cells=template, genes=pack / "gene_names.csv",
        pert_counts=template, output=tmp_path / "v.vcc",
    )  # fmt: skip
    inside = opened(done.path)
    assert inside.var_names.tolist() == makings.genes
    of_target = inside[inside.obs["target_gene"] == makings.to_predict[0]].X.toarray()
    of_controls = inside[inside.obs["target_gene"] == "non-targeting"].X.toarray()
    assert (of_target.mean(axis=0) != of_controls.mean(axis=0)).mean() > 0.95
    prep = pytest.importorskip("cell_eval._cli._prep", reason="the official extra is not installed")
    theirs = tmp_path / "theirs.vcc"
    prep.strip_anndata(inside.copy(), str(theirs), makings.genes, encoding=32, exp_gene_dim=len(makings.genes))
    np.testing.assert_array_equal(opened(theirs).X.toarray(), inside.X.toarray())
