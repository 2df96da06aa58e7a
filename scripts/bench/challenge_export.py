"""Time and memory of a season's file at its real size, on simulated cells; and of cell-eval's packaging beside it.

    python scripts/bench/challenge_export.py file FOLDER --lists LISTS             # 2025: 50 targets, 98,927 cells × 18,080
    python scripts/bench/challenge_export.py file FOLDER --lists LISTS --share 0.2 --beside   # a fifth of it, and cell-eval
    python scripts/bench/challenge_export.py run FOLDER --targets 300              # 2026: a context from a run, killed and resumed

LISTS holds gene_names_2025.csv, pert_counts_validation_2025.csv and control_mean_variance_2025.csv. Cells are simulated: negative
binomial about the published means of control cells, each target with an invented effect. Every side has a process of
its own, whose seconds and peak are told; imports are counted.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

CONTROL, CONTROLS, BLOCK = "non-targeting", 38_176, 256
OURS = """
from stateshift.challenge import export_submission
export_submission({source!r}, season="2025", genes={genes!r}, pert_counts={counts!r}, output={output!r}, overwrite=True)
"""
THEIRS = """
import anndata as ad, polars as pl
from cell_eval._cli._prep import strip_anndata
genes = pl.read_csv({genes!r}, has_header=False).to_series(0).cast(str).to_list()
strip_anndata(ad.read_h5ad({source!r}), {output!r}, genes, encoding=32)
"""
MEASURED = "\nimport resource, json\nprint('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)\n"
app = typer.Typer()


@app.command()
def file(
    folder: Path,
    lists: Annotated[Path, typer.Option()],
    share: Annotated[float, typer.Option(help="Of the cells.")] = 1.0,
    depth: Annotated[float, typer.Option(help="Median counts of a cell.")] = 50_000,
    beside: Annotated[bool, typer.Option("--beside", help="cell-eval prep too, in turns.")] = False,
    turns: Annotated[int, typer.Option()] = 1,
) -> None:
    """A prediction file to a .vcc."""
    if beside and find_spec("cell_eval") is None:
        raise SystemExit("cell-eval is not installed, to be run beside: pip install 'stateshift[official]'.")
    folder.mkdir(parents=True, exist_ok=True)
    genes, counts = lists / "gene_names_2025.csv", lists / "pert_counts_validation_2025.csv"
    source = folder / f"predicted_{share:g}.h5ad"
    if not source.exists():
        n, values = simulate_prediction(source, genes, counts, lists / "control_mean_variance_2025.csv", share, depth)
        print(f"{n:,} cells, {values / n:,.0f} genes a cell, {source.stat().st_size / 1e9:.1f} GB", flush=True)
    told: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(turns):
        for name, program in (("ours", OURS), ("cell-eval prep", THEIRS))[: 1 + beside]:
            output = folder / f"{name.split()[0]}.vcc"
            text = program.format(source=str(source), genes=str(genes), counts=str(counts), output=str(output))
            told.setdefault(name, []).append(measured([sys.executable, "-c", text + MEASURED]))
            print(f"{name}: {told[name][-1][0]:.0f} s, {told[name][-1][1]:.0f} s of the processor, "
                  f"peak {told[name][-1][2]:.2f} GB, {output.stat().st_size / 1e9:.2f} GB written", flush=True)  # fmt: skip
    if beside:
        ratios = [theirs[0] / ours[0] for ours, theirs in zip(told["ours"], told["cell-eval prep"])]
        memory = [ours[2] / theirs[2] for ours, theirs in zip(told["ours"], told["cell-eval prep"])]
        print(
            f"× {np.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) as fast, {np.median(memory):.2f} of its peak"
        )


@app.command()
def run(
    folder: Path,
    targets: Annotated[int, typer.Option()] = 300,
    controls: Annotated[int, typer.Option()] = 18_400,
    genes: Annotated[int, typer.Option()] = 18_000,
    cells: Annotated[int, typer.Option(help="Of each target.")] = 400,
    depth: Annotated[float, typer.Option()] = 20_000,
    model: Annotated[str, typer.Option()] = "stack",
    killed: Annotated[bool, typer.Option("--killed", help="Kill it half-way once, resume, and compare.")] = False,
) -> None:
    """A small run's predictions of one context straight to a .vcc."""
    from stateshift.cells.simulate import simulate_experiment
    from stateshift.challenge.seasons import competition_folder
    from stateshift.feature_table import FeatureTable
    from stateshift.training import train

    logging.basicConfig(level=logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "run").exists():
        toml = simulate_experiment(folder / "sim.h5ad", contexts=3, targets=40, cells=4000, genes=genes)
        table = FeatureTable.load(folder / "sim.features.pt")
        rng = np.random.default_rng(0)
        new = [f"NEW{i:03d}" for i in range(targets)]
        vectors = np.concatenate([table.vectors, rng.standard_normal((targets, table.width)).astype(np.float32)])
        FeatureTable([*table.genes, *new], vectors, {"source": "simulated"}).save(folder / "all.features.pt")
        fast = ["model.hidden=16", "model.heads=2", "model.layers=1", "training.max_steps=2", "training.val_every=2"]
        train(toml, fast, pert_features=folder / "all.features.pt", output_dir=folder, name="run")
        (folder / "pert_counts.csv").write_text("target_gene\n" + "\n".join(new) + "\n")
        names = (folder / "run" / "genes.txt").read_text()
        (folder / "gene_names.csv").write_text(names)
        (folder / "manifest.json").write_text(json.dumps({"contexts": ["NEW"]}))
        rules = (competition_folder() / "2026" / "rules.toml").read_text()
        rules = rules.replace("18_533", str(len(names.split()))).replace("each = 400", f"each = {cells}")
        (folder / "rules.toml").write_text(rules)
        simulate_controls(folder / "controls.h5ad", names.split(), controls, depth)
    command = [
        str(Path(sys.executable).with_name("stateshift")), "challenge", "export", str(folder / "run"), "--season", str(folder / "rules.toml"),
        "--genes", str(folder / "gene_names.csv"), "--pert-counts", str(folder / "pert_counts.csv"), "--cells",
        str(folder / "controls.h5ad"), "--model", model, "--overwrite", "-o", str(folder / "one.vcc"),
    ]  # fmt: skip
    seconds, processor, peak = measured(command)
    size = (folder / "one.vcc").stat().st_size
    print(f"one context: {seconds:.0f} s, {processor:.0f} s of the processor, peak {peak:.2f} GB, {size / 1e9:.2f} GB")
    if killed:
        again = [*command[:-1], str(folder / "two.vcc")]
        process = subprocess.Popen(again)
        parts = folder / "two.vcc.parts"
        while process.poll() is None and len(list(parts.glob("*.zst"))) < targets // 2:
            time.sleep(0.5)
        process.kill()
        if process.wait() >= 0:
            raise SystemExit("the export ended by itself, before it could be killed half-way: give it more targets")
        kept = len(list(parts.glob("*.zst")))
        measured(again)
        same = (folder / "one.vcc").read_bytes() == (folder / "two.vcc").read_bytes()
        print(f"killed after {kept} of {targets} targets and resumed: {'the same bytes' if same else 'OTHER BYTES'}")


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds on the clock and of the processor, and GB at the peak, of a process."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, used = wait_with_usage(process)
    if status:
        raise SystemExit(process.stderr.read().decode()[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, processor, used.ru_maxrss / 2**20


def wait_with_usage(process: subprocess.Popen) -> tuple[int, int, resource.struct_rusage]:
    """A child's end, with what it alone used."""
    import os

    pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return pid, process.returncode, used


def simulate_prediction(
    path: Path, genes: Path, counts: Path, moments: Path, share: float, depth: float
) -> tuple[int, int]:
    """The season's cells as whole counts; returns cells and values."""
    from stateshift.cells.matrix.stream import CellStream
    from stateshift.cells.simulate.counts import draw_counts

    names = genes.read_text().split()
    table = pd.read_csv(counts)
    numbers = {CONTROL: int(CONTROLS * share)} | {
        t: max(2, int(n * share)) for t, n in zip(table["target_gene"], table["n_cells"])
    }
    labels = np.repeat(list(numbers), list(numbers.values()))
    known = pd.read_csv(moments).set_index("gene")["ctrl_mean"]
    rates = np.expm1(known.reindex(names).fillna(0.01).to_numpy().clip(1e-3))
    rates /= rates.sum()
    obs = pd.DataFrame({"target_gene": pd.Categorical(labels)}, index=[str(i) for i in range(len(labels))])
    obs["context"] = pd.Categorical(np.full(len(obs), "H1"))
    uns = {"stateshift": {"scale": "counts", "control": CONTROL, "simulated": True}}
    rng, values = np.random.default_rng(0), 0
    with CellStream(path, obs, pd.DataFrame(index=pd.Index(names)), uns) as stream:
        for name, number in numbers.items():
            of = rates * np.exp(
                0.2 * rng.standard_normal(len(rates)) * (rng.random(len(rates)) < 0.1) * (name != CONTROL)
            )
            for start in range(0, number, BLOCK):
                depths = depth * np.exp(0.4 * rng.standard_normal(min(BLOCK, number - start)))
                block = draw_counts(np.outer(depths, of).astype(np.float32), 0.25, rng)
                values += block.nnz
                stream.append(block)
    return len(labels), values


def simulate_controls(path: Path, genes: list[str], n: int, depth: float) -> None:
    """Control cells of a context that nobody perturbed."""
    from stateshift.cells.matrix.stream import CellStream
    from stateshift.cells.simulate.counts import draw_counts

    rng = np.random.default_rng(1)
    rates = np.exp(1.9 * rng.standard_normal(len(genes)))
    rates /= rates.sum()
    obs = pd.DataFrame({"target_gene": CONTROL, "context": "NEW"}, index=[str(i) for i in range(n)], dtype="category")
    uns = {"stateshift": {"scale": "counts", "control": CONTROL, "simulated": True}}
    with CellStream(path, obs, pd.DataFrame(index=pd.Index(genes)), uns) as stream:
        for start in range(0, n, BLOCK):
            depths = depth * np.exp(0.35 * rng.standard_normal(min(BLOCK, n - start)))
            stream.append(draw_counts(np.outer(depths, rates).astype(np.float32), 0.25, rng))


if __name__ == "__main__":
    app()
