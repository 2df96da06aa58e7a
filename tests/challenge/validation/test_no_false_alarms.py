"""No alarm is raised on files that the seasons' packaging tools accept, however such files come."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from stateshift.challenge import export_submission, validate
from stateshift.challenge.seasons import competition_folder

GENES = [f"G{i:02d}" for i in range(30)]


def dressed(cells, rng):
    """The same prediction in one of the ways that files come in."""
    layout = rng.integers(4)
    X = cells.X.toarray()
    kinds = [np.float32, np.float64] + ([np.int32, np.int64, np.uint16] if (np.rint(X) == X).all() else [])
    X = X.astype(kinds[rng.integers(len(kinds))])
    cells.X = [X, csr_matrix(X), csc_matrix(X), np.asfortranarray(X)][layout]
    if rng.random() < 0.5:
        cells = cells[:, rng.permutation(cells.n_vars)].copy()
    cells = cells[rng.permutation(cells.n_obs)].copy()
    names = cells.obs["target_gene"].astype(str)
    cells.obs["target_gene"] = names if rng.random() < 0.5 else pd.Categorical(names, [*sorted(set(names)), "unused"])
    if rng.random() < 0.5:
        cells.obs["cell_type"] = "H1"
        cells.obs["guide_id"] = rng.integers(9, size=cells.n_obs)
        cells.obs["score"] = np.where(rng.random(cells.n_obs) < 0.3, np.nan, 1.0)
        cells.layers["other"] = cells.X.copy()
        cells.obsm["X_pca"] = rng.random((cells.n_obs, 2))
        cells.var["symbol"] = cells.var_names
        cells.uns["log1p"] = {"base": None} if rng.random() < 0.5 else {}
    if rng.random() < 0.3:
        cells.raw = cells
    return cells


def random_cells(season, rng):
    labels = ["non-targeting", "G01", "G02", "G03"] if season == "2025" else ["G01", "G02", "G03"]
    obs = [(c, t) for c in ("A", "B")[: 1 + (season == "2026")] for t in labels for _ in range(4)]
    counts = rng.poisson(rng.gamma(1.5, 4.0, (len(obs), 30)))
    counts[:, 0] += 1
    if season == "2025" and rng.random() < 0.6:
        counts = np.log1p(counts / counts.sum(1, keepdims=True) * rng.choice([1e4, 5e4, 137.0]))
    table = pd.DataFrame(obs, columns=["context", "target_gene"], index=[f"cell {i}" for i in range(len(obs))])
    X = csr_matrix(counts.astype(np.float32))
    return ad.AnnData(X, obs=table[["target_gene"] if season == "2025" else ["target_gene", "context"]],
                      var=pd.DataFrame(index=GENES))  # fmt: skip


def checker(season, bundle, folder):
    """What validator finds in `predicted.h5ad`, which is exported where that is nothing."""
    rules = (competition_folder() / season / "rules.toml").read_text().replace("each = 400", "each = 4")
    (folder / "rules.toml").write_text(rules.replace("18_080", "30").replace("18_533", "30"))
    (bundle / "gene_names.csv").write_text("\n".join(GENES))
    given = {
        "genes": bundle / "gene_names.csv",
        "pert_counts": bundle / "pert_counts.csv",
        "season": folder / "rules.toml",
    }

    def check():
        outcome = validate(folder / "predicted.h5ad", **given)
        if outcome.passed:
            done = export_submission(folder / "predicted.h5ad", output=folder / "o.vcc", overwrite=True, **given)
            assert done.cells == (16 if season == "2025" else 24)
        return [*outcome.problems, *outcome.warnings]

    return check


def test_no_alarm_is_raised_on_files_that_cell_eval_prep_accepts(bundle, tmp_path, monkeypatch):
    prep = pytest.importorskip("cell_eval._cli._prep", reason="the official extra is not installed")
    monkeypatch.setattr("subprocess.run", lambda *args, **options: None)
    check = checker("2025", bundle, tmp_path)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        cells = dressed(random_cells("2025", rng), rng)
        cells.write_h5ad(tmp_path / "predicted.h5ad")
        prep.strip_anndata(
            ad.read_h5ad(tmp_path / "predicted.h5ad"), str(tmp_path / "x.vcc"), GENES, encoding=32, exp_gene_dim=30
        )
        assert check() == [], seed


def test_no_alarm_is_raised_on_files_that_vcc_prep_accepts(bundle, tmp_path):
    prep = pytest.importorskip("vcc.prep", reason="the official extra is not installed")
    check = checker("2026", bundle, tmp_path)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        cells = dressed(random_cells("2026", rng), rng)
        cells.write_h5ad(tmp_path / "predicted.h5ad")
        (bundle / "gene_names.csv").write_text("gene_name\n" * (seed % 2) + "\n".join(GENES))
        prep.run_prep(
            input_path=str(tmp_path / "predicted.h5ad"), output_path=str(tmp_path / "x.vcc"), dry_run=True,
            genes_path=str(bundle / "gene_names.csv"), perts_path=str(bundle / "pert_counts.csv"),
            required_contexts=("A", "B"), cells_per_pert=4, expected_gene_dim=30,
        )  # fmt: skip
        assert check() == [], seed
