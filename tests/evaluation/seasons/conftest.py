"""A small panel as counts: perturbations of named genes, controls, a prediction that holds part of each effect."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

CONTROL = "non-targeting"
SIZES = {"g0": 4, "g1": 2, "g2": 3, "g3": 40, "g4": 60, "g5": 50, "g6": 50, CONTROL: 90}
GENES = 240


@dataclass
class Panel:
    """Whole counts of the same groups on both sides; the prediction's controls differ from the truth's."""

    truth: ad.AnnData
    predicted: ad.AnnData

    def log1p(self) -> Panel:
        """Both sides as log1p of counts brought to 1e4 a cell, float32."""
        return Panel(*(_log1p(side) for side in self.sides))

    def of_genes_in_controls(self) -> Panel:
        """Both sides cut to the genes that both sides' controls express, and one that nothing does."""
        seen = [side.X[(side.obs["target_gene"] == CONTROL).to_numpy()].sum(axis=0).A1 > 0 for side in self.sides]
        kept = np.logical_and(*seen)
        kept[7] = True
        return Panel(*(side[:, kept].copy() for side in self.sides))

    @property
    def sides(self) -> tuple[ad.AnnData, ad.AnnData]:
        return self.truth, self.predicted

    def without_controls(self) -> ad.AnnData:
        """The prediction as the challenge of 2026 wants it."""
        return self.predicted[self.predicted.obs["target_gene"] != CONTROL].copy()


def _log1p(side: ad.AnnData) -> ad.AnnData:
    X = side.X.toarray()
    X = np.log1p(X / np.maximum(X.sum(axis=1, keepdims=True), 1) * 1e4).astype(np.float32)
    return ad.AnnData(X=csr_matrix(X), obs=side.obs.copy(), var=side.var.copy())


@pytest.fixture
def panel() -> Panel:
    """A third of the genes respond to each perturbation; one gene is never seen, one has no cell without it."""
    rng = np.random.default_rng(4)
    labels = np.repeat(list(SIZES), list(SIZES.values()))
    base = rng.gamma(0.7, 2, GENES)
    base[7], base[8] = 0, 40
    effects = {name: rng.normal(0, 1.2, GENES) * (rng.random(GENES) < 0.3) * (name != CONTROL) for name in SIZES}
    depth = rng.uniform(0.6, 1.6, (len(labels), 1))

    def drawn(share: float) -> ad.AnnData:
        mean = depth * np.stack([base * np.exp(share * effects[label]) for label in labels])
        obs = pd.DataFrame({"target_gene": labels}, index=[str(i) for i in range(len(labels))])
        X = csr_matrix(rng.poisson(mean).astype(np.float32))
        return ad.AnnData(X=X, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(GENES)]))

    return Panel(drawn(1.0), drawn(0.6))
