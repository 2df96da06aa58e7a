"""A folder as `stateshift evaluate` leaves it: cells of two contexts, a run, and names that mean harm."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.evaluation import evaluate, write_report
from stateshift.feature_table import FeatureTable
from stateshift.files import sha256

HARM = "</script><img src=x onerror=window.harmed=1>"
GENES = [*(f"G{i:02d}" for i in range(28)), "<b>G28</b>", r"$\frac{G29$"]
PERTURBATIONS = [*GENES[:7], HARM]
CONTEXTS = ("K562", "RPE1")
LEVEL = 0.9


def cells(effects, rng, n, noise):
    """Cells (log1p) of every pair, controls first, with the columns of the prediction contract."""
    X, obs = [], []
    for context in CONTEXTS:
        base = 2.0 + 0.5 * CONTEXTS.index(context) + np.linspace(0, 1, len(GENES))
        for perturbation in ("ctrl", *PERTURBATIONS):
            mean = base + effects.get((context, perturbation), 0)
            X.append(np.clip(mean + rng.normal(0, noise, (n, len(GENES))), 0, None))
            obs.append(pd.DataFrame({"target_gene": perturbation, "context": context}, index=range(n)))
    obs = pd.concat(obs, ignore_index=True)
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(csr_matrix(np.vstack(X).astype(np.float32)), obs, pd.DataFrame(index=GENES))
    adata.uns["log1p"] = {"base": None}
    return adata


def two_sides():
    """Prediction by the contract, with intervals and two baselines, and truth."""
    rng = np.random.default_rng(3)
    effects = {(c, p): rng.normal(0, 0.6, len(GENES)) for c in CONTEXTS for p in PERTURBATIONS}
    truth = cells(effects, rng, 20, 0.3)
    near = {pair: 0.7 * effect + rng.normal(0, 0.2, len(GENES)) for pair, effect in effects.items()}
    predicted = cells(near, rng, 15, 0.2)
    is_control = (predicted.obs["target_gene"] == "ctrl").to_numpy()
    predicted.obs["is_control"] = is_control
    predicted.obs["route"] = np.where(is_control, "control", "neural")
    predicted.obs["nearest_gene"] = np.where(is_control, "", "G01")
    predicted.obs["nearest"] = np.where(is_control, np.nan, 0.5)
    contexts, targets = (np.array(names) for names in zip(*effects))
    shape = len(effects), len(GENES)
    regime = np.where(contexts == "RPE1", "J", "T")
    mean = np.tile(np.mean(list(effects.values()), axis=0), (len(effects), 1))
    predicted.uns["stateshift"] = {
        "scale": "log1p", "control": "ctrl", "model": "state_tiny", "run": "first", "simulated": True,
        "baselines": {
            "context": contexts, "target_gene": targets, "genes": np.array(GENES),
            "effects": {"control": np.zeros(shape, np.float32), "mean": mean.astype(np.float32)},
        },
        "intervals": {
            "level": LEVEL, "context": contexts, "target_gene": targets, "regime": regime, "genes": np.array(GENES),
            "effects": np.array(list(near.values()), np.float32), "half_widths": np.full(shape, 0.5, np.float32),
            "of_mean": np.full(shape, 0.9, np.float32), "calibration": {},
        },
    }  # fmt: skip
    return predicted, truth


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory):
    """predicted.h5ad, truth.h5ad, sets.gmt, scores/ and runs/first/."""
    folder = tmp_path_factory.mktemp("report") / "world"
    folder.mkdir()
    predicted, truth = two_sides()
    predicted.write_h5ad(folder / "predicted.h5ad")
    truth.write_h5ad(folder / "truth.h5ad")
    (folder / "sets.gmt").write_text(f"rare\t\tG07\tG08\ncommon{HARM}\t\tG07\tG08\tG09\tG10\n")
    evaluate(folder / "predicted.h5ad", folder / "truth.h5ad", output=folder / "scores")
    run = folder / "runs" / "first"
    run.mkdir(parents=True)
    (run / "genes.txt").write_text("".join(f"{gene}\n" for gene in GENES))
    splits = {"train": {"K562": {"G10": 40, "G11": 40}}, "test": {"RPE1": {"G01": 20}}}
    (run / "splits.json").write_text(json.dumps(splits))
    (run / "experiment.toml").write_text('[datasets]\nscreen = "truth.h5ad"\n')
    (run / "config.yaml").write_text("model:\n  name: state_tiny\ntraining:\n  max_steps: 200\n")
    (run / "metrics.csv").write_text("step,val_loss,train_loss\n0,3.0,\n100,2.0,2.2\n200,2.5,1.9\n")
    rng = np.random.default_rng(0)
    about = {"source": "gene_sets", "lookup": "sets.gmt", "lookup_sha256": sha256(folder / "sets.gmt")}
    FeatureTable(GENES[:20], rng.normal(size=(20, 5)), about).save(run / "features.pt")
    return folder


@pytest.fixture(scope="session")
def world_page(world_folder, tmp_path_factory):
    """The page of that folder."""
    return write_report(world_folder, tmp_path_factory.mktemp("page") / "report.html")
