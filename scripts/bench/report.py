"""Seconds, memory and megabytes of the report of a simulated evaluation.

    python scripts/bench/report.py
    python scripts/bench/report.py --perturbations 1000 --genes 5000

Cells are simulated counts, brought to log1p: 40 of 100 genes expressed, an effect on one gene in ten; predicted effects are half
true and half noise, with intervals, gene sets and a run's features beside them. What is timed is `stateshift report` alone, in a
process of its own: both files read, tested gene by gene, drawn, packed and written.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import anndata as ad
import numpy as np
import pandas as pd
import typer
from scipy.sparse import csr_matrix, vstack

from stateshift.evaluation import evaluate
from stateshift.feature_table import FeatureTable
from stateshift.files import sha256


def main(
    perturbations: Annotated[int, typer.Option(help="Perturbations, in one context.")] = 300,
    genes: Annotated[int, typer.Option(help="Genes.")] = 2000,
    cells: Annotated[int, typer.Option(help="Cells a perturbation, predicted and true.")] = 100,
    controls: Annotated[int, typer.Option(help="Control cells.")] = 2000,
    keep: Annotated[Path | None, typer.Option(help="A new folder to leave everything in.")] = None,
) -> None:
    """Print one line of a Markdown table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary) / "bench"
        folder.mkdir()
        write_sides(folder, perturbations, genes, cells, controls)
        evaluate(folder / "predicted.h5ad", folder / "truth.h5ad", output=folder / "scores")
        begun = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", "from stateshift.cli.main import run; run()", "report", str(folder)], check=True
        )
        wall, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        megabytes = (folder / "report.html").stat().st_size / 1e6
        typer.echo(
            "| perturbations | genes | cells a side | wall s | processor s | peak GB | page MB |\n" + "|---" * 7 + "|"
        )
        typer.echo(
            f"| {perturbations:,} | {genes:,} | {perturbations * cells + controls:,} | {wall:.1f} | "
            f"{used.ru_utime + used.ru_stime:.1f} | {used.ru_maxrss / 1e6:.2f} | {megabytes:.2f} |"
        )


def write_sides(folder: Path, perturbations: int, genes: int, cells: int, controls: int) -> None:
    """truth.h5ad, predicted.h5ad and a run with features and gene sets."""
    rng = np.random.default_rng(0)
    names = [f"GENE{i:05d}" for i in range(genes)]
    targets = names[:perturbations]
    rates = rng.lognormal(-1, 1.2, genes)
    true = np.where(rng.random((perturbations, genes)) < 0.1, rng.normal(0, 0.8, (perturbations, genes)), 0)
    made = 0.5 * true + rng.normal(0, 0.1, true.shape)
    for name, effects in (("truth", true), ("predicted", made)):
        groups = [(np.zeros(genes), controls), *((effect, cells) for effect in effects)]
        X = vstack([drawn(rates * np.exp(effect), n, rng) for effect, n in groups], format="csr")
        labels = np.repeat(["control", *targets], [n for _, n in groups])
        obs = pd.DataFrame({"target_gene": labels, "context": "cells"}, index=[str(i) for i in range(len(labels))])
        adata = ad.AnnData(X, obs, pd.DataFrame(index=names), uns={"log1p": {"base": None}})
        if name == "predicted":
            say(adata, targets, made)
        adata.write_h5ad(folder / f"{name}.h5ad")
    write_run(folder / "runs" / "bench", names, targets, rng)


def drawn(rates: np.ndarray, n: int, rng: np.random.Generator) -> csr_matrix:
    """n cells of Poisson counts, log1p of 1e4 a cell."""
    counts = rng.poisson(rates, (n, len(rates))).astype(np.float32)
    return csr_matrix(np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True))))


def say(adata: ad.AnnData, targets: list[str], effects: np.ndarray) -> None:
    """What the prediction contract asks for."""
    genes, shape = np.array(adata.var_names, dtype=object), effects.shape
    is_control = (adata.obs["target_gene"] == "control").to_numpy()
    adata.obs["is_control"] = is_control
    adata.obs["route"] = np.where(is_control, "control", "features")
    pairs = {
        "context": np.array(["cells"] * len(targets), dtype=object),
        "target_gene": np.array(targets, dtype=object),
    }
    width = np.random.default_rng(1).uniform(0.1, 0.5, shape[1]).astype(np.float32)
    adata.uns["stateshift"] = {
        "scale": "log1p_1e4", "control": "control", "model": "simulated", "run": "bench", "simulated": True,
        "baselines": {
            **pairs, "genes": genes,
            "effects": {
                "control": np.zeros(shape, np.float32),
                "mean": np.tile(effects.mean(axis=0), (len(targets), 1)).astype(np.float32),
            },
        },
        "intervals": {
            **pairs, "genes": genes, "level": 0.9, "regime": np.array(["T"] * len(targets), dtype=object),
            "effects": effects.astype(np.float32), "half_widths": np.tile(width, (len(targets), 1)),
            "of_mean": np.tile(1.5 * width, (len(targets), 1)), "calibration": {},
        },
    }  # fmt: skip


def write_run(run: Path, names: list[str], targets: list[str], rng: np.random.Generator) -> None:
    """A run directory as far as the report reads it, its features made of gene sets."""
    run.mkdir(parents=True)
    (run / "genes.txt").write_text("".join(f"{name}\n" for name in names))
    (run / "splits.json").write_text(json.dumps({"test": {"cells": dict.fromkeys(targets, 100)}}))
    (run / "metrics.csv").write_text("step,val_loss\n" + "".join(f"{50 * i},{1 / (i + 1)}\n" for i in range(200)))
    sets = (f"SET_{i:04d}_of_simulated_genes\t\t" + "\t".join(rng.choice(names, 20, False)) for i in range(1000))
    (run / "sets.gmt").write_text("\n".join(sets) + "\n")
    (run / "experiment.toml").write_text('[datasets]\nscreen = "truth.h5ad"\n')
    FeatureTable(
        names,
        rng.normal(size=(len(names), 256)),
        {"source": "gene_sets", "lookup": "sets.gmt", "lookup_sha256": sha256(run / "sets.gmt")},
    ).save(run / "features.pt")


if __name__ == "__main__":
    typer.run(main)
