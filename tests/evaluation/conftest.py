"""A small world of two contexts with known effects, its truth and predictions of it."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

CONTEXTS = ("K562", "RPE1")


@dataclass
class World:
    """Twenty genes, six perturbations of the first six genes, two contexts, 12 cells a group."""

    genes: list[str]
    effects: dict[tuple[str, str], np.ndarray]
    truth: ad.AnnData

    def predicted(self, fraction: float = 1.0, noise: float = 0.05, seed: int = 1) -> ad.AnnData:
        """A prediction by the contract, holding a fraction of each true effect and two baselines."""
        rng = np.random.default_rng(seed)
        is_control = (self.truth.obs["gene"] == "ctrl").to_numpy()
        X, obs = [self.truth.X[is_control].toarray()], [self.truth.obs[is_control][["gene", "cell_line"]]]
        for (context, perturbation), effect in self.effects.items():
            base = self.truth.X[is_control & (self.truth.obs["cell_line"] == context).to_numpy()].toarray()
            X.append(np.clip(base + fraction * effect + rng.normal(0, noise, base.shape), 0, None))
            obs.append(pd.DataFrame({"gene": perturbation, "cell_line": context}, index=range(len(base))))
        obs = pd.concat(obs, ignore_index=True).rename(columns={"gene": "target_gene", "cell_line": "context"})
        obs.index = obs.index.astype(str)
        obs["is_control"] = obs["target_gene"] == "ctrl"
        obs["route"] = np.where(obs["is_control"], "control", "neural")
        pairs = list(self.effects)
        mean = np.mean(list(self.effects.values()), axis=0)
        return ad.AnnData(
            X=csr_matrix(np.vstack(X).astype(np.float32)),
            obs=obs,
            var=pd.DataFrame(index=self.genes),
            uns={
                "stateshift": {
                    "scale": "log1p",
                    "control": "ctrl",
                    "model": "state_tiny",
                    "simulated": True,
                    "baselines": {
                        "context": np.array([c for c, _ in pairs]),
                        "target_gene": np.array([p for _, p in pairs]),
                        "effects": {
                            "control": np.zeros((len(pairs), 20), dtype=np.float32),
                            "mean": np.tile(mean, (len(pairs), 1)).astype(np.float32),
                        },
                    },
                }
            },
        )


@pytest.fixture
def world() -> World:
    """Truth cells with a seed; columns by convention."""
    rng = np.random.default_rng(0)
    genes = [f"G{i:02d}" for i in range(20)]
    shared = rng.normal(0, 0.3, 20)
    effects, X, obs = {}, [], []
    for context in CONTEXTS:
        base = rng.uniform(1.5, 3.0, 20)
        for perturbation in ("ctrl", *genes[:6]):
            effect = np.zeros(20) if perturbation == "ctrl" else shared + rng.normal(0, 0.4, 20)
            if perturbation != "ctrl":
                effects[context, perturbation] = effect
            X.append(np.clip(base + effect + rng.normal(0, 0.2, (12, 20)), 0, None))
            obs.append(pd.DataFrame({"gene": perturbation, "cell_line": context}, index=range(12)))
    obs = pd.concat(obs, ignore_index=True)
    obs.index = obs.index.astype(str)
    X = csr_matrix(np.vstack(X).astype(np.float32))
    uns = {"log1p": {"base": None}}
    return World(genes, effects, ad.AnnData(X=X, obs=obs, var=pd.DataFrame(index=genes), uns=uns))
