"""How many genes of emitted cells are significant beside truly perturbed ones (simulated); and a measured response emitted.

    python scripts/bench/emission_quality.py
    python scripts/bench/emission_quality.py --response kang_ifnb_1556x1267.h5ad

Simulated: 40 perturbations of six programmes and single genes, a quarter of them not shown to the match; a prediction is half the
true effect and noise on every gene. The response: cells of counts with obs `cluster_id` and `group_id` (ctrl, stim).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.sparse import csr_matrix

SHOWN = 5
TYPES = ("CD4 T cells", "B cells", "CD14+ Monocytes")


def main(
    genes: Annotated[int, typer.Option()] = 3000,
    controls: Annotated[int, typer.Option()] = 6000,
    perturbations: Annotated[int, typer.Option()] = 40,
    response: Annotated[Path | None, typer.Option(help="An h5ad file of a measured response.")] = None,
) -> None:
    """Print a table."""
    if response:
        measured_response(response)
    else:
        significant_genes(genes, controls, perturbations)


def significant_genes(G: int, n0: int, P: int) -> None:
    from stateshift.evaluation.significance import rank_sum_test, sorted_controls
    from stateshift.prediction.emission import Emitter, match_significance

    rng = np.random.default_rng(0)
    share = np.exp(1.9 * rng.standard_normal(G))
    emitter = Emitter(simulated(share, n0, rng), "simulated")
    before, variances = emitter.controls.means, emitter.controls.variances
    reference = sorted_controls(emitter.counts, "counts")

    def significant(cells: csr_matrix) -> int:
        return int((rank_sum_test(lambda _: cells, ["A"], reference, fewest_cpm=5).fdr < 0.05).sum())

    loadings = rng.standard_normal((6, G)) * (rng.random((6, G)) < 0.2)
    sizes = np.exp(rng.uniform(np.log(0.05), np.log(0.8), P))
    logs = [
        s * (rng.standard_normal(6) @ loadings / 2.4 + 3 * rng.standard_normal(G) * (rng.random(G) < 0.01))
        for s in sizes
    ]
    shares, n_cells = [share * np.exp(np.clip(log, -4, 4)) for log in logs], rng.integers(150, 900, P)
    train = np.arange(P) % 4 != 0
    effects = [moments(simulated(shares[i], n_cells[i], rng))[0] - before for i in np.flatnonzero(train)]
    match = match_significance(np.stack(effects), n_cells[train], variances, n0)
    rows, like = [], []
    for i in np.flatnonzero(~train):
        true = moments(simulated(shares[i], 8000, rng))[0] - before
        noise = rng.standard_normal(G) * np.sqrt(variances)
        predicted = 0.5 * true + 0.8 * noise * np.linalg.norm(true) / np.linalg.norm(noise)
        shrunk = match.shrink(predicted, 400)
        emitted = [emitter.emit(e, 400, seed=0, target=str(i)) for e in (true, predicted, shrunk)]
        rows.append([significant(x) for x in (simulated(shares[i], 400, rng), *emitted)])
        like.append([np.corrcoef(e, true)[0, 1] for e in (predicted, shrunk)])
    rows = np.array(rows)
    print("| cells | significant genes, all | median ratio |\n|---|---|---|")
    names = ("truly perturbed", "emitted, true effect", "emitted, prediction", "emitted, prediction after `shrink`")
    for name, column in zip(names, rows.T):
        print(f"| {name} | {column.sum():,} | {np.median(column / rows[:, 0]):.2f} |")
    print(f"| emitted, no effect | {significant(emitter.emit(np.zeros(G), 400, seed=0, target='none'))} | |")
    print("Pearson with the true effect, prediction and shrunk:", np.mean(like, axis=0).round(3))


def measured_response(path: Path) -> None:
    import anndata as ad

    from stateshift.prediction.emission import Emitter

    cells = ad.read_h5ad(path)
    X, stimulated = csr_matrix(cells.X), (cells.obs["group_id"] == "stim").to_numpy()
    print("| controls | genes by 0.5 or more | emitted | rounded | variance ÷ true |\n|---|---|---|---|---|")
    for name in TYPES:
        mine = (cells.obs["cluster_id"] == name).to_numpy()
        emitter = Emitter(X[mine & ~stimulated], name)
        n, (after, variance) = emitter.counts.shape[0], moments(X[mine & stimulated])
        effect = after - emitter.controls.means
        emitted = [emitter.emit(effect, n, seed=s, target="stim") for s in range(20)]
        ratio = np.mean([moments(x)[1] for x in emitted], axis=0)[after > 0.5] / variance[after > 0.5]
        ours = np.mean([beyond(x, after) for x in emitted])
        theirs = beyond(rounded(emitter.counts, effect), after)
        strong = (np.abs(effect) > 0.5).sum()
        print(f"| {n} {name} | {strong} | {ours:.2%} | {theirs:.0%} | {np.median(ratio):.2f} |")


def simulated(share: np.ndarray, n: int, rng: np.random.Generator) -> csr_matrix:
    """Negative binomial counts of cells of some 10,000, φ = 0.25."""
    from stateshift.cells.simulate.counts import draw_counts

    depths = 10_000 * np.exp(0.35 * rng.standard_normal(n))
    return draw_counts(np.outer(depths, share / share.sum()).astype(np.float32), 0.25, rng)


def moments(cells: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of log1p_1e4, (G,) each."""
    x = cells.astype(float)
    x.data = np.log1p(x.data * np.repeat(1e4 / x.sum(axis=1).A1, np.diff(x.indptr)))
    mean = x.mean(axis=0).A1
    return mean, (x.power(2).mean(axis=0).A1 - mean**2) * x.shape[0] / (x.shape[0] - 1)


def beyond(cells: csr_matrix, wanted: np.ndarray) -> float:
    """The share of genes, of those that five cells show, that are over 3 standard errors from the wanted mean."""
    mean, variance = moments(cells)
    shown = cells.getnnz(axis=0) >= SHOWN
    return float((np.abs(mean - wanted)[shown] > 3 * np.sqrt(variance[shown] / cells.shape[0])).mean())


def rounded(controls: csr_matrix, effect: np.ndarray) -> csr_matrix:
    """Cells moved on log1p, and rounded to counts."""
    x = controls.toarray().astype(float)
    depths = x.sum(axis=1, keepdims=True)
    return csr_matrix(np.rint(np.expm1(np.maximum(np.log1p(1e4 * x / depths) + effect, 0)) * depths / 1e4))


if __name__ == "__main__":
    typer.run(main)
