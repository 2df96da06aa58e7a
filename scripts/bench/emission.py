"""Seconds and memory of emitting counts at the size of a challenge context, on simulated control cells.

    python scripts/bench/emission.py                                              # small, in seconds
    python scripts/bench/emission.py --controls 18400 --genes 18533 --targets 20

Processor seconds of one thread; compilation isn't counted. Gene shares are log-normal, depths log-normal about the
median; half of an effect's genes move by some 0.1, a twentieth by some 0.5.
"""

from __future__ import annotations

import resource
import time
from typing import Annotated

import numpy as np
import typer
from emission_quality import beyond, rounded
from scipy.sparse import csr_matrix, vstack

BLOCK = 256


def main(
    controls: Annotated[int, typer.Option()] = 1000,
    genes: Annotated[int, typer.Option()] = 2000,
    cells: Annotated[int, typer.Option(help="Of each target.")] = 400,
    targets: Annotated[int, typer.Option()] = 5,
    depth: Annotated[float, typer.Option(help="Median counts of a cell.")] = 30_000,
) -> None:
    """Print what the controls are, then seconds of measuring and of a target, and the peak."""
    from stateshift.prediction.emission import Emitter

    rng = np.random.default_rng(0)
    counts = simulated(controls, genes, depth, rng)
    print(
        f"{controls:,} × {genes:,}, {counts.nnz / controls:,.0f} genes and {counts.sum() / controls:,.0f} counts a cell"
    )
    few = Emitter(counts[:50], "compiled")
    few.emit(np.zeros(genes), 20, seed=0, target="compiled")
    before = peak()
    start = time.process_time()
    emitter = Emitter(counts, "simulated")
    print(f"measured in {time.process_time() - start:.1f} s, {peak() - before:.2f} GB beside the counts")
    spent, values, shares = [], [], []
    for i in range(targets):
        effect = 0.1 * rng.standard_normal(genes) * (rng.random(genes) < 0.5)
        effect += 0.5 * rng.standard_normal(genes) * (rng.random(genes) < 0.05)
        start = time.process_time()
        emitted = emitter.emit(effect, cells, seed=0, target=f"target {i}")
        spent.append(time.process_time() - start)
        values.append(emitted.nnz / cells)
        wanted = np.maximum(emitter.controls.means + effect, 0)
        moved = rounded(counts[emitter.rows(cells, seed=0, target=f"target {i}")], effect)
        shares.append([beyond(emitted, wanted), beyond(moved, wanted)])
    print(
        f"a target of {cells} cells: {np.median(spent):.2f} s ({min(spent):.2f}–{max(spent):.2f}), {np.mean(values):,.0f} "
        f"genes a cell; peak {peak():.2f} GB"
    )
    ours, theirs = np.mean(shares, axis=0)
    print(
        f"genes over 3 standard errors from the wanted pseudobulk: {ours:.2%}; of cells moved on log1p and rounded: {theirs:.1%}"
    )


def simulated(n: int, genes: int, depth: float, rng: np.random.Generator) -> csr_matrix:
    """Negative binomial counts (n, genes), φ = 0.25."""
    from stateshift.cells.simulate.counts import draw_counts

    share = np.exp(1.9 * rng.standard_normal(genes))
    share /= share.sum()
    blocks = []
    for start in range(0, n, BLOCK):
        depths = depth * np.exp(0.35 * rng.standard_normal(min(BLOCK, n - start)))
        blocks.append(draw_counts(np.outer(depths, share).astype(np.float32), 0.25, rng))
    return vstack(blocks, format="csr")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    typer.run(main)
