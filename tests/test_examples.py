"""The experiment files that we ship are read as they stand."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.cells import check_experiment, read_experiment
from stateshift.feature_table import FeatureTable
from stateshift.training import compose_config

STARTER = Path(__file__).resolve().parents[1] / "configs" / "examples" / "starter.toml"


@pytest.fixture
def starter(tmp_path, monkeypatch) -> Path:
    """The starter TOML beside the files that it names, each with three genes perturbed and controls."""
    (tmp_path / "screens").mkdir()
    perturbations = ["non-targeting", "STAT1", "TP53", "KLF1", "MYC"]
    for cell_type in ("jurkat", "k562", "rpe1"):
        obs = pd.DataFrame(
            {"target_gene": np.repeat(perturbations, 3), "cell_type": cell_type, "batch": "1"},
            index=[f"{cell_type}{i}" for i in range(15)],
        )
        counts = csr_matrix(np.random.default_rng(0).poisson(2.0, (15, 6)).astype(np.float32))
        adata = anndata.AnnData(counts, obs, pd.DataFrame(index=[f"G{i}" for i in range(6)]))
        adata.write_h5ad(tmp_path / "screens" / f"{cell_type}.h5ad")
    FeatureTable(["STAT1", "TP53", "KLF1", "MYC"], np.eye(4)).save(tmp_path / "ESM2_pert_features.pt")
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(STARTER, tmp_path))


def test_the_starter_experiment_splits_its_cells_as_its_comments_say(starter):
    found = check_experiment(starter)
    assert found.n_cells == 45
    assert found.counts["train"] == {"jurkat": {"MYC": 3}, "k562": {"MYC": 3}}
    assert found.counts["val"] == {"jurkat": {"STAT1": 3}, "k562": {"STAT1": 3}}
    assert found.counts["test"]["rpe1"] == {"KLF1": 3, "MYC": 3, "STAT1": 3, "TP53": 3}
    assert found.counts["test"]["k562"] == {"KLF1": 3, "TP53": 3}
    assert found.uncovered == []


def test_the_starter_experiment_names_a_model_and_overrides_that_exist(starter):
    run = read_experiment(starter).run
    config = compose_config([f"model={run['model']}", *run["overrides"]])
    assert config["model"]["name"] == "state_tiny"
    assert config["training"]["max_steps"] == 2000
