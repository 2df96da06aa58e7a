"""What all tests share: real data, one thread a process, and a small screen."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# numba's threads are OpenMP's, and a process that has any can't be forked: some tests fork one to kill it
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data for trials, or a skip that says so."""
    folder = Path(os.environ.get("STATESHIFT_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real data for trials are not here ({folder}); set STATESHIFT_SHARED_DATA to their folder")
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tests run several processes at once: one thread each keeps them from fighting."""
    import torch

    torch.set_num_threads(1)


@dataclass
class Screen:
    """A made screen on disk: cells, feature table, experiment TOML, and the effects it was made with."""

    folder: Path
    cells: Path
    table: Path
    toml: Path
    effects: dict[str, np.ndarray]

    def write_toml(self, text: str) -> Path:
        """Replace the experiment's split tables."""
        self.toml.write_text(f'[datasets]\nmade = "{self.cells}"\n{text}')
        return self.toml


def make_cells(
    path: Path,
    *,
    contexts: Sequence[str] = ("A549", "K562", "T98G"),
    perturbations: Sequence[str] = ("G1", "G2", "G3", "G4", "G1+G2"),
    n_genes: int = 20,
    n_cells: int = 24,
    n_batches: int = 2,
    seed: int = 0,
    counts: bool = False,
) -> dict[str, np.ndarray]:
    """Write an h5ad of cells with known log1p effects; controls and batches in every context."""
    import anndata as ad
    import pandas as pd
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(seed)
    genes = [f"GENE{i}" for i in range(n_genes)]
    effects = {p: np.zeros(n_genes) for p in ("non-targeting", *perturbations)}
    for i, p in enumerate(perturbations):
        effects[p][i % n_genes] = 1.0
    effects = {
        p: sum((effects.get(g, e) for g in p.split("+")), np.zeros(n_genes)) if "+" in p else e
        for p, e in effects.items()
    }
    blocks, rows = [], []
    for c, context in enumerate(contexts):
        base = 1.0 + 0.5 * np.sin(np.arange(n_genes) + c)
        for p in ("non-targeting", *perturbations):
            x = np.clip(base + effects[p] + 0.2 * rng.standard_normal((n_cells, n_genes)), 0, None)
            blocks.append(rng.poisson(np.expm1(x) * 5) if counts else x)
            rows += [(context, p, f"b{i % n_batches}") for i in range(n_cells)]
    obs = pd.DataFrame(rows, columns=["cell_type", "target_gene", "batch"], dtype="category")
    obs.index = [f"cell{i}" for i in range(len(obs))]
    order = rng.permutation(len(obs))
    X = csr_matrix(np.concatenate(blocks).astype(np.float32))
    adata = ad.AnnData(X[order], obs=obs.iloc[order], var=pd.DataFrame(index=genes))
    if not counts:
        adata.uns["log1p"] = {"base": None}
    adata.write_h5ad(path)
    return effects


@pytest.fixture(scope="session")
def cell_maker() -> Callable[..., dict[str, np.ndarray]]:
    """`make_cells`, for tests that need other cells."""
    return make_cells


def make_screen(folder: Path) -> Screen:
    """Three contexts × five perturbations × 24 cells; T98G is the zero-shot test, G4 few-shot tests in K562."""
    from stateshift.feature_table import FeatureTable

    cells, table = folder / "cells.h5ad", folder / "features.pt"
    effects = make_cells(cells)
    vectors = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    FeatureTable(["G1", "G2", "G3", "G4"], vectors, {"source": "made"}).save(table)
    made = Screen(folder, cells, table, folder / "made.toml", effects)
    made.write_toml(
        '[training]\nmade = "train"\n[zeroshot]\n"made.T98G" = "test"\n'
        '[fewshot."made.K562"]\nval = ["G3"]\ntest = ["G4"]\n'
    )
    return made


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    """A `make_screen` of the test's own."""
    return make_screen(tmp_path)


@pytest.fixture(scope="session")
def lasting_screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    """A `make_screen` for what several tests rest on and none changes."""
    return make_screen(tmp_path_factory.mktemp("screen"))


def make_two_way_screen(
    folder: Path, *, told: bool = True, n_targets: int = 30, val: bool = True, n_val: int = 10
) -> Path:
    """Two contexts × targets × 16 cells, features of two sources; the experiment TOML.

    A target moves four genes up or down, the other way round in the second context, so that what contexts share tells
    nothing of a new target. Its first feature tells which way, or has nothing to do with it.
    """
    import anndata as ad
    import pandas as pd

    from stateshift.feature_table import FeatureTable

    rng = np.random.default_rng(0)
    targets = [f"T{i}" for i in range(n_targets)]
    way = rng.permutation(np.resize([1.0, -1.0], n_targets))
    first = way if told else np.random.default_rng(9).permutation(way)
    blocks, rows = [], []
    for sign, context in ((1, "A"), (-1, "B")):
        base = 2.0 + np.cos(np.arange(12) * (1 if context == "A" else 3))
        for target, feature in [("non-targeting", 0.0), *zip(targets, way)]:
            effect = np.where(np.arange(12) < 4, 0.6 * sign * feature, 0.0)
            n = 64 if target == "non-targeting" else 16
            blocks.append(np.clip(base + effect + 0.1 * rng.standard_normal((n, 12)), 0, None))
            rows += [(context, target)] * n
    obs = pd.DataFrame(rows, columns=["cell_type", "target_gene"], dtype="category")
    obs.index = [f"cell{i}" for i in range(len(obs))]
    adata = ad.AnnData(
        np.concatenate(blocks).astype(np.float32), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(12)])
    )
    adata.uns["log1p"] = {"base": None}
    adata.write_h5ad(folder / "cells.h5ad")
    vectors = np.concatenate([first[:, None], rng.standard_normal((n_targets, 2))], axis=1)
    vectors[::7, 1:] = 0
    parts = [
        {"source": "known", "columns": [0, 1], "lacks": []},
        {"source": "noise", "columns": [1, 3], "lacks": targets[::7]},
    ]
    FeatureTable(targets, vectors, {"source": "fusion", "parts": parts}).save(folder / "features.pt")
    toml = folder / "made.toml"
    split = '[training]\nmade = "train"\n'
    for context in ("A", "B"):
        declared = f"val = {targets[:10] + targets[12 : n_val + 2]}\n" if val else ""
        split += f'[fewshot."made.{context}"]\n{declared}test = {targets[10:12]}\n'
    toml.write_text(f'[datasets]\nmade = "cells.h5ad"\n{split}[features]\ntable = "features.pt"\n')
    return toml


@pytest.fixture(scope="session")
def two_way_maker() -> Callable[..., Path]:
    """`make_two_way_screen`."""
    return make_two_way_screen


@pytest.fixture
def two_way_screen(tmp_path: Path) -> Callable[..., Path]:
    """`make_two_way_screen` in a folder of its own."""
    return lambda **options: make_two_way_screen(tmp_path, **options)
