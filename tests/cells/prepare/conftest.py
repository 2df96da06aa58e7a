"""A made raw screen: counts, real knock-down of the targets, mitochondrial genes, two contexts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

TARGETS = [f"T{i}" for i in range(6)]
GENES = [*TARGETS, *(f"G{i}" for i in range(292)), "MT-ND1", "MT-CO1"]


def make_raw(
    perturbations: tuple[str, ...] = (*TARGETS, "T0+T1"),
    *,
    contexts: tuple[str, ...] = ("K562", "RPE1"),
    n_cells: int = 40,
    seed: int = 0,
) -> ad.AnnData:
    """Counts of cells whose targets fall to a tenth; T5 doesn't, T0 does in the double and T1 too."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(2, 20, len(GENES))
    blocks, rows = [], []
    for c, context in enumerate(contexts):
        of_context = base * np.exp(0.3 * np.sin(np.arange(len(GENES)) + 5 * c))
        for name in ("non-targeting", *perturbations):
            mean = of_context.copy()
            for gene in name.split("+"):
                if gene in TARGETS[:5]:
                    mean[GENES.index(gene)] *= 0.1
            depth = rng.uniform(0.7, 1.4, (n_cells, 1))
            blocks.append(rng.poisson(mean * depth))
            rows += [(context, name, f"b{i % 3}") for i in range(n_cells)]
    obs = pd.DataFrame(rows, columns=["cell_line", "gene", "batch"])
    obs["note"] = np.arange(len(obs))
    order = rng.permutation(len(obs))
    X = csr_matrix(np.concatenate(blocks).astype(np.float32))[order]
    obs = obs.iloc[order].set_index(pd.Index([f"cell{i}" for i in range(len(obs))]))
    return ad.AnnData(X, obs=obs, var=pd.DataFrame(index=GENES))


@pytest.fixture
def raw_maker() -> Callable[..., ad.AnnData]:
    """`make_raw`, for tests that need other cells."""
    return make_raw


@pytest.fixture
def raw_file(tmp_path: Path) -> Path:
    """`make_raw` on disk."""
    path = tmp_path / "raw.h5ad"
    make_raw().write_h5ad(path)
    return path
