"""Processor time and memory against cells, counts a cell, genes, perturbations and set size; each point in a process of its own, on Linux.

    OMP_NUM_THREADS=1 python scripts/bench/scale.py FOLDER [--cells 50000 200000 1000000] [--plot docs/images/scale.png]

Prints a row a point: core-seconds of the work alone, imports not counted, and the peak of resident memory, imports included.
FOLDER takes simulated files (8 bytes a stored count; a cell holds 90 genes, whatever the number of genes, but where counts
are varied, in 20,000 cells of 18,000 genes) and their caches, removed as soon as they are measured, and scale.csv: what stands
there is not measured again.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

CELLS, GENES, TARGETS, COUNTS = 50_000, 300, 100, 90
WORK = """
import json, sys, time
from itertools import islice
from pathlib import Path
import numpy as np
from stateshift.cells import Storage, estimate_effects, read_all
from stateshift.training import check_experiment
from stateshift.cells.sets import CellSets
from stateshift.feature_table import FeatureTable

def told(work, does):
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before = time.process_time()
    made = does()
    seconds = time.process_time() - before
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(json.dumps([work, seconds, int(peak.split()[1]) / 1e6]), flush=True)
    return made
"""
ON_CELLS = """
toml, first = Path(sys.argv[1]), Path(sys.argv[2])
check_experiment(first)  # imports what is imported when it is needed
told("check", lambda: check_experiment(toml))
disk = Storage(0, toml.parent / "cache")
told("write the cache", lambda: read_all(toml, storage=disk))
_, cells, split = told("read the cache", lambda: read_all(toml, storage=disk))
genes = sorted(set(cells.obs["perturbation"]) - {cells.control})
table = FeatureTable(genes, np.ones((len(genes), 8), np.float32), {})
sets = CellSets(cells, split == "train", table, set_size=64, batch_size=16, seed=0)
told("100 batches of the cache", lambda: [None for _ in islice(sets, 100)])
told("effects", lambda: estimate_effects(cells))
del cells, split, sets
told("read into memory", lambda: read_all(toml))
"""
ON_SETS = """
import torch
from stateshift.training import compose_config
from stateshift.transition import TransitionModule
from stateshift.transition.checkpoint import config_from
from stateshift.transition.optimiser import Optimiser
size = int(sys.argv[1])
sets = max(1024 // size, 1)
model = compose_config(["model=state_tiny", f"model.set_size={size}"])["model"]
module = TransitionModule(config_from(model | {"start": "none"}, 2000, 128, "log1p_1e4"), Optimiser(1e-4))
cells = torch.rand(2, sets, size, 2000)
batch = {"pert_cell_emb": cells[0], "ctrl_cell_emb": cells[1], "pert_emb": torch.randn(sets, 128),
         "mask": torch.ones(sets, size, dtype=torch.bool), "is_control": torch.zeros(sets, dtype=torch.bool)}
def step():
    loss = module.training_step(dict(batch), 0)
    (loss["loss"] if isinstance(loss, dict) else loss).backward()
step()
told("5 training steps of 1,024 cells", lambda: [step() for _ in range(5)])
"""


def simulated(folder: Path, cells: int, genes: int, targets: int, counts: int = COUNTS) -> Path:
    """The TOML of an h5ad of counts, CSR, two cell types, a tenth of the cells controls."""
    import numpy as np
    import pandas as pd
    from scipy.sparse import csr_matrix

    from stateshift.cells.matrix.stream import CellStream

    folder.mkdir(parents=True, exist_ok=True)
    random, each = np.random.default_rng(0), min(counts, int(0.3 * genes))
    label = np.where(random.random(cells) < 0.1, targets, random.integers(0, targets, cells))
    names = np.array([*(f"G{i}" for i in range(targets)), "non-targeting"])
    obs = pd.DataFrame({"target_gene": pd.Categorical.from_codes(label, names)})
    obs["cell_type"] = pd.Categorical.from_codes(random.integers(0, 2, cells), ["A", "B"])
    obs.index = [f"c{i}" for i in range(cells)]
    var = pd.DataFrame(index=[f"G{i}" for i in range(genes)])
    with CellStream(folder / "cells.h5ad", obs, var, {}) as stream:
        for start in range(0, cells, 20_000):
            n = min(20_000, cells - start)
            # one gene of each of as many stretches, so that every row is sorted
            places = np.arange(each) * (genes // each) + random.integers(0, genes // each, (n, each))
            values = 1 + random.poisson(1, n * each).astype(np.float32)
            rows = np.arange(0, n * each + 1, each)
            stream.append(csr_matrix((values, places.ravel().astype(np.int32), rows), shape=(n, genes)))
    toml = folder.absolute() / "scale.toml"
    toml.write_text('[datasets]\nmade = "cells.h5ad"\n[training]\nmade = "train"\n')
    return toml


def measured(code: str, *words: object) -> list[tuple[str, float, float]]:
    """(work, core-seconds, peak in GB) of all that a process does."""
    done = subprocess.run([sys.executable, "-c", WORK + code, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def points(asked: argparse.Namespace) -> list[tuple[str, int, dict[str, int]]]:
    """(axis, value, what is simulated) of each point."""
    base = {"cells": CELLS, "genes": GENES, "targets": TARGETS}
    axes = {axis: getattr(asked, axis) for axis in base}
    made = [(axis, value, base | {axis: value}) for axis, values in axes.items() for value in values]
    whole = {"cells": 20_000, "genes": 18_000, "targets": TARGETS}
    made += [("counts a cell", value, whole | {"counts": value}) for value in asked.counts]
    return made + [("set size", size, {}) for size in asked.set_sizes]


def plot(rows: list[dict[str, str]], path: Path) -> None:
    """Core-seconds above, peaks below, a column an axis."""
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(3.4 * len(axes), 5.6), layout="constrained")
    panels = figure.subplots(2, len(axes), squeeze=False)
    for column, axis in enumerate(axes):
        for work in dict.fromkeys(row["work"] for row in rows if row["axis"] == axis):
            of = sorted(
                (float(r["value"]), float(r["core_s"]), float(r["peak_gb"]))
                for r in rows
                if (r["axis"], r["work"]) == (axis, work)
            )
            x, seconds, peaks = zip(*of)
            for panel, y in zip(panels[:, column], (seconds, peaks)):
                panel.plot(x, y, "o-", label=work, markersize=3)
        for panel, unit in zip(panels[:, column], ("core-seconds", "peak, GB")):
            panel.set(xscale="log", xlabel=axis, ylabel=unit if not column else "")
            panel.set_yscale("log" if unit == "core-seconds" else "linear")
            panel.set_ylim(bottom=0 if unit != "core-seconds" else None)
            for numbers in (panel.xaxis, panel.yaxis):
                numbers.set_minor_formatter("")
                numbers.set_major_formatter("{x:,g}")
            panel.grid(alpha=0.3)
        panels[0, column].legend(fontsize=7, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("folder", type=Path)
    words.add_argument("--cells", nargs="*", type=int, default=[50_000, 200_000, 1_000_000])
    words.add_argument("--genes", nargs="*", type=int, default=[300, 2000, 18_000])
    words.add_argument("--targets", nargs="*", type=int, default=[30, 300, 3000])
    words.add_argument("--counts", nargs="*", type=int, default=[90, 900, 3000])
    words.add_argument("--set-sizes", nargs="*", type=int, default=[16, 64, 256, 1024])
    words.add_argument("--plot", type=Path)
    asked = words.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    table = asked.folder / "scale.csv"
    rows = list(csv.DictReader(table.open())) if table.is_file() else []
    done = {(row["axis"], int(row["value"])) for row in rows}
    for axis, value, made in points(asked):
        if (axis, value) in done:
            continue
        if made:
            files, first = asked.folder / "files", asked.folder / "first"
            toml = simulated(files, **made)
            found = measured(ON_CELLS, toml, simulated(first, 1000, 300, 10))
            for place in (files, first):
                shutil.rmtree(place)
        else:
            found = measured(ON_SETS, value)
        for work, seconds, peak in found:
            rows.append(
                {"axis": axis, "value": value, "work": work, "core_s": round(seconds, 2), "peak_gb": round(peak, 2)}
            )
            print(*rows[-1].values(), sep="\t", flush=True)
        with table.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    if asked.plot:
        plot(rows, asked.plot)


if __name__ == "__main__":
    main()
