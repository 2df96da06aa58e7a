"""The experiment files that we ship are read as they stand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.cells import read_experiment
from stateshift.feature_table import FeatureTable
from stateshift.prediction import predict
from stateshift.run import RunDirectory
from stateshift.training import check_experiment, compose_config

REPOSITORY = Path(__file__).resolve().parents[1]
STARTER = REPOSITORY / "configs" / "examples" / "starter.toml"
ESM = STARTER.with_name("esm_genetic_example.toml")


def write_cells(path: Path, cell_type: str, perturbations: list[str], seed: int = 0) -> None:
    """Three cells of each perturbation, six genes."""
    obs = pd.DataFrame(
        {"target_gene": np.repeat(perturbations, 3), "cell_type": cell_type, "batch": "1"},
        index=[f"{cell_type}{i}" for i in range(3 * len(perturbations))],
    )
    counts = csr_matrix(np.random.default_rng(seed).poisson(2.0, (len(obs), 6)).astype(np.float32))
    anndata.AnnData(counts, obs, pd.DataFrame(index=[f"G{i}" for i in range(6)])).write_h5ad(path)


@pytest.fixture
def starter(tmp_path, monkeypatch) -> Path:
    """The starter TOML beside the files that it names, each with three genes perturbed and controls."""
    (tmp_path / "screens").mkdir()
    perturbations = ["non-targeting", "STAT1", "TP53", "KLF1", "MYC"]
    for cell_type in ("jurkat", "k562", "rpe1"):
        write_cells(tmp_path / "screens" / f"{cell_type}.h5ad", cell_type, perturbations)
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


def test_the_esm_example_trains_by_its_script_and_predicts_a_gene_that_its_screen_does_not_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATESHIFT_CACHE", str(tmp_path / "cache"))
    write_cells(tmp_path / "screen.h5ad", "k562", ["non-targeting", "STAT1", "GATA1", "KLF1", "MYC"])
    (tmp_path / "human.fasta").write_text(
        "".join(
            f">sp|P{i}|{g} x GN={g}\n{'MKTAYIAKQR'[i:] * (i + 2)}\n"
            for i, g in enumerate(("STAT1", "GATA1", "KLF1", "MYC", "TP53"))
        )
    )
    example = ESM.read_text()
    assert 'checkpoint = "esm2_t33_650M_UR50D"' in example
    # the demo model in place of a published one, which would be fetched; and a training as short as can be
    example = example.replace('"esm2_t33_650M_UR50D"', '"stateshift-demo-esm2"').replace(
        "max_steps=20000", "max_steps=2"
    )
    (tmp_path / ESM.name).write_text(example)
    assert check_experiment(ESM.name).counts["val"] == {"k562": {"GATA1": 3}}
    words = ["--config", ESM.name, "--output_dir", "out", "--batch_size", "2"]
    script = REPOSITORY / "scripts" / "train_esm_perturbation.py"
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "out" / "esm_genetic_example_esm_state"
    assert RunDirectory(run).config()["data"]["batch_size"] == 2
    predict(run, cells="screen.h5ad", perturb="TP53", output="predicted.h5ad")
    made = anndata.read_h5ad("predicted.h5ad")
    assert (made.obs["target_gene"] == "TP53").sum() == 3
