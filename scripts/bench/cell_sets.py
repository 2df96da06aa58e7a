"""Cells a second that reach the model: ours beside cell-load, in one process, on the same simulated file.

    python scripts/bench/cell_sets.py
Sets of 64, 16 a batch, each with matched controls and perturbation features of 5,120. Rows: 2,000 variable genes from
obsm `X_hvg` (dense), and all 18,080 genes from X (CSR). cell-load reads each cell from HDF5; it is timed with its
batch-matched and its random controls, and with its option for consecutive reads. Ours is timed in memory and
from the cache on disk. Padding isn't counted; cells that stand in two sets of an epoch are, on
both sides. Turns alternate; ratios are taken turn by turn.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

SET_SIZE, SETS, WIDTH = 64, 16, 5120
THEIR_WAYS = {
    "cell-load, batch controls": {"basal_mapping_strategy": "batch"},
    "cell-load, random controls": {"basal_mapping_strategy": "random"},
    "cell-load, consecutive": {"basal_mapping_strategy": "batch", "use_consecutive_loading": True},
}


def main(
    cells: Annotated[int, typer.Option(help="Simulated cells in each file.")] = 20_000,
    turns: Annotated[int, typer.Option(help="Timings of each way, for the spread.")] = 5,
    folder: Annotated[Path | None, typer.Option(help="Where the files are made, or lie from an earlier run.")] = None,
) -> None:
    """Print one Markdown table."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary)
        place.mkdir(parents=True, exist_ok=True)
        print(
            f"| genes | way | cells/s, median of {turns} | least | most | {' | '.join(f'/ {w}' for w in THEIR_WAYS)} |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for genes, embedding in ((2_000, "X_hvg"), (18_080, None)):
            toml = _files(place, cells, genes)
            ways = {
                **{name: _theirs(toml, embedding, options) for name, options in THEIR_WAYS.items()},
                "stateshift, in memory": _ours(toml, embedding, place, memory_gb=64),
                "stateshift, on disk": _ours(toml, embedding, place, memory_gb=0),
            }
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(turns):
                for name, batches in ways.items():
                    rates[name].append(_rate(batches, seconds=6 if name in THEIR_WAYS else 2))
            for name, measured in rates.items():
                row = [
                    f"{genes:,}",
                    name,
                    f"{np.median(measured):,.0f}",
                    f"{min(measured):,.0f}",
                    f"{max(measured):,.0f}",
                ]
                print(f"| {' | '.join(row + [_ratio(measured, rates[way], name) for way in THEIR_WAYS])} |")


def _ratio(ours: list[float], theirs: list[float], name: str) -> str:
    """Median and range of the turns' ratios; nothing for their own rows."""
    ratios = np.array(ours) / np.array(theirs)
    return "" if name in THEIR_WAYS else f"{np.median(ratios):.1f} ({ratios.min():.1f}–{ratios.max():.1f})"


def _files(place: Path, cells: int, genes: int) -> Path:
    """A simulated experiment, its log1p expression in X and, dense, in obsm; features as wide as ESM2's."""
    import anndata as ad
    import scanpy as sc

    from stateshift.cells.simulate import simulate_experiment
    from stateshift.feature_table import FeatureTable

    path = place / f"genes_{genes}.h5ad"
    toml = path.with_suffix(".toml")
    if toml.is_file():
        return toml
    simulate_experiment(place / f"counts_{genes}.h5ad", cells=cells, genes=genes)
    adata = ad.read_h5ad(place / f"counts_{genes}.h5ad")
    # cell-load's consecutive reads need the cells of a group side by side
    adata = adata[adata.obs.sort_values(["batch", "cell_type", "target_gene"], kind="stable").index].copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.uns["stateshift"] = {"scale": "log1p_1e4", "simulated": True}
    if genes <= 2_000:
        adata.obsm["X_hvg"] = adata.X.toarray()
        adata.var["highly_variable"] = True
    adata.write_h5ad(path)
    targets = sorted(set(adata.obs["target_gene"]))
    vectors = np.random.default_rng(0).standard_normal((len(targets), WIDTH)).astype(np.float32)
    FeatureTable(targets, vectors, {"source": "random"}).save(path.with_suffix(".features.pt"))
    toml.write_text(f'[datasets]\nsimulated = "{path.resolve()}"\n[training]\nsimulated = "train"\n')
    return toml


def _theirs(toml: Path, embedding: str | None, options: dict[str, Any]) -> Any:
    from cell_load.data_modules import PerturbationDataModule

    module = PerturbationDataModule(
        str(toml),
        batch_size=SETS,
        num_workers=0,
        pert_col="target_gene",
        batch_col="batch",
        cell_type_key="cell_type",
        control_pert="non-targeting",
        embed_key=embedding,
        output_space="gene",
        cell_sentence_len=SET_SIZE,
        perturbation_features_file=str(toml.with_suffix(".features.pt")),
        **options,
    )
    module.setup()
    return _again_and_again(module.train_dataloader())


def _again_and_again(loader: Any) -> Any:
    while True:
        yield from loader


def _ours(toml: Path, embedding: str | None, place: Path, memory_gb: float) -> Any:
    from stateshift.cells import Storage, read_all
    from stateshift.cells.sets import CellSets
    from stateshift.feature_table import FeatureTable

    columns = {"embedding": embedding} if embedding else None
    _, cells, split = read_all(toml, columns, storage=Storage(memory_gb, place / "cache"))
    features = FeatureTable.load(toml.with_suffix(".features.pt"))
    return iter(CellSets(cells, split == "train", features, set_size=SET_SIZE, batch_size=SETS, seed=0))


def _rate(batches: Any, seconds: float) -> float:
    """Perturbed cells a second, each with its control; a first batch isn't timed."""
    next(batches)
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        batch = next(batches)
        n += int(batch["mask"].sum()) if "mask" in batch else len(batch["pert_cell_emb"])
    return n / (time.perf_counter() - start)


if __name__ == "__main__":
    typer.run(main)
