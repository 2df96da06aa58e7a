"""Predictions to hand in: small ones by the contract, made from a seed."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from stateshift.challenge.seasons import competition_folder


def make_prediction(genes, perturbations=("G01", "G02", "G03"), cells=4, scale="log1p", control="ctrl", context="H1"):
    """Log1p cells of a few perturbations and as many controls each, in the prediction's contract."""
    rng = np.random.default_rng(0)
    labels = np.repeat([control, *perturbations], cells)
    counts = rng.poisson(rng.gamma(1.0, 2.0, size=len(genes)), size=(len(labels), len(genes)))
    counts[:, 0] += 1
    X = counts if scale == "counts" else np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    obs = pd.DataFrame({"target_gene": labels, "context": context}, index=[f"cell{i}" for i in range(len(labels))])
    obs["is_control"] = obs["target_gene"] == control
    obs["route"] = np.where(obs["is_control"], "control", "neural")
    return ad.AnnData(
        X=csr_matrix(X.astype(np.float32)),
        obs=obs,
        var=pd.DataFrame(index=list(genes)),
        uns={"stateshift": {"scale": scale, "control": control, "model": "state_tiny"}},
    )


@pytest.fixture
def make():
    """`make_prediction`, for tests that vary it."""
    return make_prediction


@pytest.fixture
def genes():
    """Thirty symbols."""
    return [f"G{i:02d}" for i in range(30)]


@pytest.fixture
def gene_file(genes, tmp_path):
    """The thirty symbols as the season has them: reversed, no header."""
    path = tmp_path / "gene_names.csv"
    path.write_text("\n".join(reversed(genes)) + "\n")
    return path


def make_zero_shot(genes, contexts=("A", "B"), targets=("G01", "G02", "G03"), cells=4, controls=6):
    """Whole counts of targets in several contexts and their controls, each context with its own mean expression."""
    rng = np.random.default_rng(1)
    rows, obs = [], []
    for context in contexts:
        mean = rng.gamma(1.0, 3.0, len(genes)) + 0.2
        for label in ("non-targeting", *targets):
            n = controls if label == "non-targeting" else cells
            counts = rng.poisson(mean * (1 if n == controls else rng.lognormal(0, 0.2, len(genes))), (n, len(genes)))
            counts[:, 0] += 1
            rows.append(counts)
            obs += [(context, label)] * n
    table = pd.DataFrame(obs, columns=["context", "target_gene"], index=[f"c{i}" for i in range(len(obs))])
    X = csr_matrix(np.concatenate(rows).astype(np.float32))
    uns = {"stateshift": {"scale": "counts", "control": "non-targeting"}}
    return ad.AnnData(X=X, obs=table, var=pd.DataFrame(index=list(genes)), uns=uns)


@pytest.fixture
def zero_shot():
    """`make_zero_shot`, for tests that vary it."""
    return make_zero_shot


@pytest.fixture
def bundle(genes, tmp_path):
    """The season's lists of thirty genes, three targets and two contexts, as 2026's bundle has them."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "gene_names.csv").write_text("\n".join(reversed(genes)) + "\n")
    (folder / "pert_counts.csv").write_text("target_gene\nG01\nG02\nG03\n")
    (folder / "manifest.json").write_text(json.dumps({"contexts": ["A", "B"], "panel_id": "p1"}))
    return folder


@pytest.fixture
def rules_2026(tmp_path):
    """2026's rules for thirty genes, and four cells of each target."""
    text = (competition_folder() / "2026" / "rules.toml").read_text()
    path = tmp_path / "small_2026.toml"
    path.write_text(text.replace("18_533", "30").replace("each = 400", "each = 4"))
    return path
