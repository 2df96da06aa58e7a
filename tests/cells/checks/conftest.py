"""Experiments with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stateshift.errors import InputProblems
from stateshift.training import check_experiment

GENES = [f"GENE{i}" for i in range(30)]
CONTROL = "non-targeting"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, so that nothing of this machine's is found there."""
    monkeypatch.setenv("STATESHIFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def write_file(tmp_path: Path) -> Callable[..., Path]:
    """Write NAME.h5ad of groups (cell type, perturbation[, cells[, batch]]) with random log1p values."""

    def write(
        name: str,
        groups: Iterable[tuple],
        genes: list[str] = GENES,
        names: list[str] | None = None,
        seed: int = 0,
        change: Callable[[ad.AnnData], None] | None = None,
    ) -> Path:
        full = [(*g, 12, "b1")[: max(len(g), 2)] + (12, "b1")[len(g) - 2 :] for g in groups]
        rows = [(c, p, b) for c, p, n, b in full for _ in range(n)]
        obs = pd.DataFrame(rows, columns=["cell_type", "target_gene", "batch"], dtype="category")
        obs.index = names or [f"{name}-{i}" for i in range(len(obs))]
        values = np.random.default_rng(seed).poisson(1.5, (len(obs), len(genes))).astype(np.float32)
        adata = ad.AnnData(values, obs, pd.DataFrame(index=genes))
        if change is not None:
            change(adata)
        path = tmp_path / f"{name}.h5ad"
        adata.write_h5ad(path)
        return path

    return write


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[[str], Path]:
    """Write the TOML's split tables; the datasets are the files that were written, by their names."""

    def write(tables: str) -> Path:
        files = sorted(tmp_path.glob("*.h5ad"))
        datasets = "".join(f'{f.stem} = "{f}"\n' for f in files)
        path = tmp_path / "made.toml"
        path.write_text(f"[datasets]\n{datasets}{tables}")
        return path

    return write


@pytest.fixture
def problems() -> Callable[[Path], list[str]]:
    """What a check refuses."""

    def refused(path: Path) -> list[str]:
        with pytest.raises(InputProblems) as caught:
            check_experiment(path)
        return caught.value.problems

    return refused


@pytest.fixture
def notes() -> Callable[[Path], list[str]]:
    """What a check finds worth knowing."""
    return lambda path: check_experiment(path).notes
