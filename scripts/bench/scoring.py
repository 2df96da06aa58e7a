"""Time and memory of the challenge's scores, natively and by its own packages, on simulated counts.

    python scripts/bench/scoring.py 2025                       # small; cell-eval's profile vcc beside score_2025
    python scripts/bench/scoring.py 2025 --perturbations 50 --cells 200 --controls 2000 --genes 18080
    python scripts/bench/scoring.py 2026 --perturbations 30 --cells 400 --controls 1000 --genes 1000
    python scripts/bench/scoring.py 2026 --perturbations 300 --cells 400 --controls 18400 --genes 18533 --alone

Each side runs in a process of its own, which is warmed up on a few cells first: compilation isn't counted, reading is.
With --alone the package isn't run, and 2026 measures its anchors too.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

CONTROL = "non-targeting"
KEY = "target_gene"


def main(
    season: Annotated[str, typer.Argument(help="2025 or 2026.")],
    perturbations: Annotated[int, typer.Option()] = 8,
    cells: Annotated[int, typer.Option(help="Of each perturbation.")] = 100,
    controls: Annotated[int, typer.Option()] = 400,
    genes: Annotated[int, typer.Option()] = 1000,
    threads: Annotated[int, typer.Option()] = 1,
    alone: Annotated[bool, typer.Option("--alone", help="Without the package.")] = False,
    side: Annotated[str, typer.Option(hidden=True)] = "",
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print seconds and the peak of each side, and their ratio."""
    if side:
        print(json.dumps(measured(season, side, folder, threads, alone)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, size in (("", (perturbations, cells, controls, genes)), ("few_", (4, 60, 100, 200))):
            for which, share in (("truth", 1.0), ("predicted", 0.6)):
                simulate(folder / f"{name}{which}.h5ad", size, share, season)
        found = {}
        for name in ("ours",) if alone else ("package", "ours"):
            options = [season, "--side", name, "--folder", place, "--threads", str(threads)]
            command = [sys.executable, __file__, *options, *(["--alone"] if alone else [])]
            found[name] = json.loads(
                subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            )
    print(f"{perturbations} perturbations × {cells} cells, {controls:,} controls, {genes:,} genes, {threads} thread(s)")
    for name, row in found.items():
        print(f"  {name:8} {row['seconds']:8.1f} s   peak {row['gigabytes']:.2f} GB   {row['values']}")
    if not alone:
        ratio = [found["package"][k] / found["ours"][k] for k in ("seconds", "gigabytes")]
        print(f"  {ratio[0]:.1f} × faster, {1 / ratio[1]:.2f} × the memory")


def simulate(path: Path, size: tuple[int, int, int, int], share: float, season: str) -> None:
    """Counts (2026) or their log1p of 1e4 (2025) as an h5ad, written group by group; the effects are scaled by `share`."""
    import anndata as ad
    import h5py
    import pandas as pd
    from anndata.io import sparse_dataset, write_elem
    from scipy.sparse import csr_matrix

    perturbations, cells, controls, genes = size
    base = np.random.default_rng(0).lognormal(-1.5, 1.6, genes)
    names = [f"g{i}" for i in range(perturbations)]
    groups = [CONTROL] * controls + [name for name in names for _ in range(cells)]
    blocks = [(CONTROL, min(400, controls - at)) for at in range(0, controls, 400)] + [(name, cells) for name in names]
    obs = pd.DataFrame({KEY: pd.Categorical(groups)}, index=[str(i) for i in range(len(groups))])
    var = pd.DataFrame(index=[f"g{j}" for j in range(genes)])
    empty = csr_matrix((len(groups), genes), dtype=np.float32)
    ad.AnnData(X=empty, obs=obs, var=var).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["X"]
        write_elem(file, "X", csr_matrix((0, genes), dtype=np.float32), dataset_kwargs={"chunks": (2**18,)})
        X = sparse_dataset(file["X"])
        for at, (name, n) in enumerate(blocks):
            # both sides have the same controls
            rng = np.random.default_rng([at, int(name != CONTROL and share * 10)])
            effect = share * effect_of(name, genes)
            drawn = csr_matrix(rng.poisson(rng.lognormal(0, 0.3, (n, 1)) * base * np.exp(effect)).astype(np.float32))
            if season == "2025":
                scale = 1e4 / np.maximum(drawn.sum(axis=1).A1, 1)
                drawn.data = np.log1p(drawn.data * np.repeat(scale, np.diff(drawn.indptr))).astype(np.float32)
            X.append(drawn)


def effect_of(name: str, genes: int) -> np.ndarray:
    """A fifth of the genes respond, by perturbation; natural logarithm."""
    if name == CONTROL:
        return np.zeros(genes)
    rng = np.random.default_rng(int(name[1:]))
    return rng.normal(0, 1, genes) * (rng.random(genes) < 0.2)


def measured(season: str, side: str, folder: Path, threads: int, alone: bool) -> dict:
    """Seconds, peak and means of one side, after a run on a few cells."""
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    run = {"2025": {"ours": ours_2025, "package": cell_eval}, "2026": {"ours": ours_2026, "package": cell_eval2}}[
        season
    ][side]
    run(folder / "few_predicted.h5ad", folder / "few_truth.h5ad", threads, False)
    start = time.perf_counter()
    values = run(folder / "predicted.h5ad", folder / "truth.h5ad", threads, alone)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "gigabytes": peak, "values": {k: round(v, 4) for k, v in values.items()}}


def ours_2025(predicted: Path, truth: Path, threads: int, alone: bool) -> dict:
    """DES, PDS and MAE by score_2025, which also scores the baseline."""
    from stateshift.evaluation.seasons import score_2025

    means = score_2025(predicted, truth, threads=threads).means
    return {name: float(means[name]) for name in ("des", "pds_l1", "mae")}


def cell_eval(predicted: Path, truth: Path, threads: int, alone: bool) -> dict:
    """The same by cell-eval's profile vcc."""
    from cell_eval import MetricsEvaluator

    with tempfile.TemporaryDirectory() as place:
        evaluator = MetricsEvaluator(
            str(predicted), str(truth), control_pert=CONTROL, pert_col=KEY, num_threads=threads, outdir=place
        )
        table = evaluator.compute(profile="vcc", write_csv=False, break_on_error=True)[1]
    means = table.row(table["statistic"].to_list().index("mean"), named=True)
    return {"des": means["overlap_at_N"], "pds_l1": means["discrimination_score_l1"], "mae": means["mae"]}


def ours_2026(predicted: Path, truth: Path, threads: int, alone: bool) -> dict:
    """The six members; with their anchors where asked for."""
    import pandas as pd

    from stateshift.evaluation.seasons import CELL_EVAL2_NAMES, score_2026

    ends = pd.DataFrame({"baseline": 0.0, "replicate": 1.0}, index=list(CELL_EVAL2_NAMES))
    ends.loc[["mse", "lfc_nmae"]] = [1.0, 0.0]
    return score_2026(predicted, truth, anchors=None if alone else ends, threads=threads).members["value"].to_dict()


def cell_eval2(predicted: Path, truth: Path, threads: int, alone: bool) -> dict:
    """The same by cell-eval2's preset vcc2026."""
    from dataclasses import replace

    import anndata as ad
    from cell_eval2 import compute_metrics
    from cell_eval2.config import EvalConfig
    from cell_eval2.run import aggregate_metrics

    from stateshift.evaluation.seasons import CELL_EVAL2_NAMES

    config = replace(EvalConfig.from_preset("vcc2026"), pert_col=KEY, num_threads=threads)
    rows = compute_metrics(ad.read_h5ad(predicted), ad.read_h5ad(truth), config=config)
    means = dict(aggregate_metrics(rows).select("metric", "mean").iter_rows())
    return {ours: means[theirs] for ours, theirs in CELL_EVAL2_NAMES.items()}


if __name__ == "__main__":
    typer.run(main)
