"""Time and memory of the challenge's scores, natively and by its own packages, on simulated counts.

    python scripts/bench/scoring.py 2025                       # small; cell-eval's profile vcc beside score_2025
    python scripts/bench/scoring.py 2025 --perturbations 50 --cells 200 --controls 2000 --genes 18080 --rounds 1
    python scripts/bench/scoring.py 2026 --perturbations 30 --cells 400 --controls 1000 --genes 1000
    python scripts/bench/scoring.py 2026 --perturbations 300 --cells 400 --controls 18400 --genes 18533 --alone --rounds 0

Each side has a process of its own and scores the same files again and again, in turns with the other: first once, where
what isn't compiled yet is compiled, then --rounds times. Reading is counted, imports are not. Beside the seconds on the
clock stand those of the processor, which other work on the machine doesn't spoil. With --alone the package isn't run, and
2026 measures its anchors too.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

CONTROL = "non-targeting"
KEY = "target_gene"
PACKAGES = {"2025": "cell_eval", "2026": "cell_eval2"}


def main(
    season: Annotated[str, typer.Argument(help="2025 or 2026.")],
    perturbations: Annotated[int, typer.Option()] = 8,
    cells: Annotated[int, typer.Option(help="Of each perturbation.")] = 100,
    controls: Annotated[int, typer.Option()] = 400,
    genes: Annotated[int, typer.Option()] = 1000,
    threads: Annotated[int, typer.Option()] = 1,
    rounds: Annotated[int, typer.Option(help="Warm calls of each side, after its first.")] = 3,
    alone: Annotated[bool, typer.Option("--alone", help="Without the package.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Where the files lie or are to lie; default a temporary one.")
    ] = None,
    side: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Print seconds and the peak of each side, and their ratio."""
    if side:
        serve(season, side, folder, threads, alone)
        return
    if season not in PACKAGES:
        raise typer.BadParameter("the season is 2025 or 2026.")
    if not alone and find_spec(PACKAGES[season]) is None:
        raise SystemExit(
            f"{PACKAGES[season]} is not installed, to be scored beside: pip install 'stateshift[official]', or --alone."
        )
    with tempfile.TemporaryDirectory() as place:
        folder = folder or Path(place)
        for which, share in (("truth", 1.0), ("predicted", 0.6)):
            if not (folder / f"{which}.h5ad").exists():
                simulate(folder / f"{which}.h5ad", (perturbations, cells, controls, genes), share, season)
        options = [season, "--folder", str(folder), "--threads", str(threads), *(["--alone"] if alone else [])]
        found = in_turns([sys.executable, __file__, *options], ["ours"] if alone else ["package", "ours"], rounds + 1)
    print(f"{perturbations} perturbations × {cells} cells, {controls:,} controls, {genes:,} genes, {threads} thread(s)")
    told = {name: summarised(calls) for name, calls in found.items()}
    for name, row in told.items():
        print(f"  {name:8}", "   ".join(f"{what} {value:.2f}" for what, value in row.items()), found[name][0]["values"])
    if not alone:
        for what in told["ours"]:
            print(f"  {what:18} {told['package'][what] / told['ours'][what]:8.2f} × ours")


def in_turns(command: list[str], sides: list[str], calls: int) -> dict[str, list[dict]]:
    """What each side's process says of each of its calls, the sides by turns."""
    running = {
        side: subprocess.Popen([*command, "--side", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for side in sides
    }
    found = {side: [] for side in sides}
    for _ in range(calls):
        for side, process in running.items():
            process.stdin.write("\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"The side `{side}` ended early, for what stands above.")
            found[side].append(json.loads(line))
    for process in running.values():
        process.stdin.close()
        process.wait()
    return found


def summarised(calls: list[dict]) -> dict[str, float]:
    """The first call, the median of the others, and the peak of all."""
    row = {"first s": calls[0]["seconds"], "first CPU s": calls[0]["cpu"]}
    if len(calls) > 1:
        row |= {
            f"warm {said}": float(np.median([c[k] for c in calls[1:]]))
            for said, k in (("s", "seconds"), ("CPU s", "cpu"))
        }
    return row | {"peak GB": calls[-1]["gigabytes"]}


def serve(season: str, side: str, folder: Path, threads: int, alone: bool) -> None:
    """Score once for every line that comes in, and say what it took."""
    import warnings

    import anndata  # noqa: F401  (both sides read with it, and imports don't count)

    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    run = {"2025": {"ours": ours_2025, "package": cell_eval}, "2026": {"ours": ours_2026, "package": cell_eval2}}
    run[season][side](None, None, threads, alone)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        values = run[season][side](folder / "predicted.h5ad", folder / "truth.h5ad", threads, alone)
        said = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
        said["gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(said | {"values": {k: round(float(v), 4) for k, v in values.items()}}), flush=True)


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
        write_elem(file, "X", csr_matrix((0, genes), dtype=np.float32), dataset_kwargs={"chunks": (2**16,)})
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


# without files a side only imports what it runs
def ours_2025(predicted: Path | None, truth: Path, threads: int, alone: bool) -> dict:
    """DES, PDS and MAE by score_2025, which also scores the baseline."""
    from stateshift.evaluation.seasons import score_2025

    if predicted is None:
        return {}
    means = score_2025(predicted, truth, threads=threads).means
    return {name: float(means[name]) for name in ("des", "pds_l1", "mae")}


def cell_eval(predicted: Path | None, truth: Path, threads: int, alone: bool) -> dict:
    """The same by cell-eval's profile vcc."""
    from cell_eval import MetricsEvaluator

    if predicted is None:
        return {}
    with tempfile.TemporaryDirectory() as place:
        evaluator = MetricsEvaluator(
            str(predicted), str(truth), control_pert=CONTROL, pert_col=KEY, num_threads=threads, outdir=place
        )
        table = evaluator.compute(profile="vcc", write_csv=False, break_on_error=True)[1]
    means = table.row(table["statistic"].to_list().index("mean"), named=True)
    return {"des": means["overlap_at_N"], "pds_l1": means["discrimination_score_l1"], "mae": means["mae"]}


def ours_2026(predicted: Path | None, truth: Path, threads: int, alone: bool) -> dict:
    """The six members; with their anchors where asked for."""
    import pandas as pd

    from stateshift.evaluation.seasons import CELL_EVAL2_NAMES, score_2026

    if predicted is None:
        return {}
    ends = pd.DataFrame({"baseline": 0.0, "replicate": 1.0}, index=list(CELL_EVAL2_NAMES))
    ends.loc[["mse", "lfc_nmae"]] = [1.0, 0.0]
    return score_2026(predicted, truth, anchors=None if alone else ends, threads=threads).members["value"].to_dict()


def cell_eval2(predicted: Path | None, truth: Path, threads: int, alone: bool) -> dict:
    """The same by cell-eval2's preset vcc2026."""
    from dataclasses import replace

    import anndata as ad
    from cell_eval2 import compute_metrics
    from cell_eval2.config import EvalConfig
    from cell_eval2.run import aggregate_metrics

    from stateshift.evaluation.seasons import CELL_EVAL2_NAMES

    if predicted is None:
        return {}
    config = replace(EvalConfig.from_preset("vcc2026"), pert_col=KEY, num_threads=threads)
    rows = compute_metrics(ad.read_h5ad(predicted), ad.read_h5ad(truth), config=config)
    means = dict(aggregate_metrics(rows).select("metric", "mean").iter_rows())
    return {ours: means[theirs] for ours, theirs in CELL_EVAL2_NAMES.items()}


if __name__ == "__main__":
    typer.run(main)
