"""Peak memory and seconds of reading and checking cells at full size; each in a process of its own.

    python scripts/bench/cell_memory.py --folder somewhere/with/50GB
Simulates (once) 200,000 × 18,080 cells for `check` and for cells in memory, and as many as make 10 GB of arrays for
cells read from the cache. Peak is the system's count of resident pages (ru_maxrss).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

BATCHES = 100
READ = """
import json, resource, sys, time
from itertools import islice
from pathlib import Path
from stateshift.cells import Storage, read_all
from stateshift.cells.sets import CellSets
from stateshift.feature_table import FeatureTable
toml, memory_gb, cache, batches = Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
start = time.perf_counter()
experiment, cells, split = read_all(toml, storage=Storage(memory_gb, cache))
seconds = time.perf_counter() - start
features = FeatureTable.load(experiment.resolve(experiment.features["table"]))
start = time.perf_counter()
for batch in islice(CellSets(cells, split == "train", features, set_size=64, batch_size=16, seed=0), batches):
    pass
rate = batches * 1024 / (time.perf_counter() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"array": cells.X.nbytes / 1e9, "seconds": seconds, "rate": rate, "peak": peak}))
"""
CHECK = """
import json, resource, sys, time
from stateshift.training import check_experiment
start = time.perf_counter()
found = check_experiment(sys.argv[1])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"array": found.loaded_bytes / 1e9, "seconds": time.perf_counter() - start, "peak": peak}))
"""


def main(
    folder: Annotated[Path, typer.Option(help="Where the files are made, or lie from an earlier run.")],
    cells: Annotated[int, typer.Option(help="Cells of the file that is checked and read into memory.")] = 200_000,
    disk_cells: Annotated[int, typer.Option(help="Cells of the file that is kept on disk.")] = 450_000,
    turns: Annotated[int, typer.Option(help="Runs of each, for the spread.")] = 3,
) -> None:
    """Print one Markdown table."""
    toml, large = _simulated(folder, cells), _simulated(folder, disk_cells)
    print("| what | arrays, GB | seconds | cells/s | peak, GB | allowed, GB |\n|---|---|---|---|---|---|")
    for _ in range(turns):
        found = _run(CHECK, toml)
        print(
            f"| check, {cells:,} × 18,080 | {found['array']:.2f} | {found['seconds']:.0f} | | {found['peak']:.2f} | 2 |"
        )
    for _ in range(turns):
        found = _run(READ, toml, 64, folder / "cache", BATCHES)
        _print(f"in memory, {cells:,} × 18,080", found, 1.3 * found["array"] + 0.5)
    for turn in range(turns + 1):
        found = _run(READ, large, 0, folder / "cache", BATCHES)
        _print(f"on disk, {disk_cells:,} × 18,080, {'cache kept' if turn else 'converted first'}", found, 2)


def _print(what: str, found: dict[str, float], allowed: float) -> None:
    print(
        f"| {what} | {found['array']:.2f} | {found['seconds']:.1f} | {found['rate']:,.0f} | {found['peak']:.2f} | {allowed:.2f} |"
    )


def _simulated(folder: Path, cells: int) -> Path:
    from stateshift.cells.simulate import simulate_experiment

    toml = folder / f"sim_{cells}.toml"
    return (
        toml
        if toml.is_file()
        else simulate_experiment(folder / f"sim_{cells}.h5ad", cells=cells, genes=18_080, targets=150)
    )


def _run(code: str, *arguments: object) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    typer.run(main)
