"""Predictions to hand in: small ones by the contract, made from a seed."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix


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
