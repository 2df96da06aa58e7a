"""A simulated experiment of any size: cells, features and the TOML to start from."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.cells.columns import CONTROL
from stateshift.cells.matrix.stream import CellStream
from stateshift.cells.simulate.counts import draw_counts
from stateshift.cells.simulate.layout import Layout, draw_layout
from stateshift.cells.simulate.population import Population, draw_population, with_doubles, with_hidden_activity
from stateshift.cells.simulate.starter import starter_toml
from stateshift.errors import InputProblems
from stateshift.feature_table import FeatureTable
from stateshift.files import reserve_room, written_beside
from stateshift.progress import track

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MOST_CELLS, MOST_GENES = 10**6, 18_080
CELL_DEPTH_SPREAD, RESIDUAL_CELLS = 0.4, 10.0
BLOCK = 256
"""Cells drawn at once, each block from a random stream of its own: part of what a seed means."""


def simulate_experiment(
    output: str | Path,
    *,
    contexts: int = 4,
    targets: int = 50,
    doubles: int = 0,
    cells: int = 20_000,
    genes: int = 2_000,
    batches: int = 4,
    depth: float = 9_000,
    dispersion: float = 0.25,
    feature_share: float = 1.0,
    seed: int = 0,
) -> Path:
    """Simulate an experiment with known effects, of any size, in bounded memory.

    Counts are negative binomial about the means of `Population`, which has the formula: log-normal
    genes, contexts with programmes of their own, batch effects, and effects of low rank that a target's
    features predict. A cell's depth is log-normal (sd 0.4); a share of each target's cells (9 % in the mean)
    escapes, and in the others some 15 % of the target's expression is left. Groups are of uneven size and a
    tenth of the cells are controls, some of each context in each batch. `true_effects` tells what the cells
    were made with.

    Beside ``sim.h5ad`` come ``sim.features.pt`` (the targets' vectors, with a JSON) and ``sim.toml``, an
    experiment that holds out the last context, and some targets for validation and test in all others.

    Parameters
    ----------
    output
        The .h5ad file to write.
    contexts, targets, batches
        How many; each target is perturbed in each context.
    doubles
        Pairs of targets perturbed at once, in each context, with interactions known by rule (`with_doubles`).
    cells
        Cells in all, up to 1,000,000.
    genes
        Genes measured, up to 18,080; targets are among them.
    depth
        Median counts of a cell over 18,080 genes; fewer genes get their share.
    dispersion
        φ in variance = mean + φ · mean².
    feature_share
        The share of the variance of programs' activity over targets that their features tell, 0 to 1.
    seed
        Of everything drawn. The same seed and arguments give the same file with one version of NumPy: cells
        are drawn in blocks of 256, each with a random stream of its own.

    Returns
    -------
    Path
        The experiment TOML. The cells' file holds counts in ``X``, ``obs["target_gene"]``,
        ``obs["cell_type"]``, ``obs["batch"]``; ``uns["stateshift"]``: ``simulated`` (true), ``scale``
        (``counts``), ``control``, ``seed``; ``uns["simulation"]``: the fields of `Population`.

    Raises
    ------
    InputProblems
        Arguments that can't be, all at once.
    StateshiftError
        Too few cells for the groups, files that exist, or no room on the disk.
    """
    output = Path(output)
    table, toml = output.with_suffix(".features.pt"), output.with_suffix(".toml")
    counts = {
        "contexts": contexts,
        "targets": targets,
        "doubles": doubles,
        "cells": cells,
        "genes": genes,
        "batches": batches,
        "seed": seed,
    }
    _check(output, counts, depth, dispersion, feature_share)
    layout = draw_layout(contexts, targets + doubles, batches, cells, np.random.default_rng([seed, 0]))
    rng = np.random.default_rng([seed, 1])
    population = draw_population(contexts, targets, genes, batches, depth * genes / MOST_GENES, dispersion, rng)
    if feature_share < 1:
        population = with_hidden_activity(population, feature_share, np.random.default_rng([seed, 5]))
    if doubles:
        population = with_doubles(population, doubles, np.random.default_rng([seed, 4]))
    about = {"simulated": True, "scale": "counts", "control": CONTROL[0], "seed": seed}
    uns = {"stateshift": about, "simulation": population.to_uns()}
    var = pd.DataFrame(index=population.genes)
    with written_beside(output) as part:
        reserve_room(part, _file_bytes(population, layout))
        with CellStream(part, _obs(population, layout), var, uns) as stream:
            blocks = draw_cells(population, layout, seed)
            for block in track(blocks, "simulating cells", total=-(-len(layout) // BLOCK)):
                stream.append(block)
    FeatureTable(
        population.targets.tolist(), population.features, {"source": "simulated", "seed": seed, "missing": {}}
    ).save(table)
    with written_beside(toml) as part:
        part.write_text(starter_toml(population, output.name, table.name, seed))
    return toml


def draw_cells(population: Population, layout: Layout, seed: int) -> Iterator[csr_matrix]:
    """Counts of a layout's cells, CSR, a block at a time."""
    for i, start in enumerate(range(0, len(layout), BLOCK)):
        rng = np.random.default_rng([seed, 2, i])
        here = slice(start, start + BLOCK)
        context, target, batch = layout.context[here], layout.target[here], layout.batch[here]
        n = len(context)
        reached = rng.random(n) >= population.escape[target]
        mean = population.residual[target]
        residual = rng.beta(RESIDUAL_CELLS * mean, RESIDUAL_CELLS * (1 - mean))
        depth = population.depth[batch] * np.exp(CELL_DEPTH_SPREAD * rng.standard_normal(n))
        means = population.means(context, target, batch, reached, residual, depth)
        yield draw_counts(means, population.dispersion, rng)


def _check(output: Path, counts: dict[str, int], depth: float, dispersion: float, feature_share: float) -> None:
    problems = []
    if output.suffix != ".h5ad":
        problems.append(f"the cells are written as .h5ad: name {output.with_suffix('.h5ad').name}.")
    problems += [
        f"{path} exists already: choose another name."
        for path in (output, *(output.with_suffix(s) for s in (".features.pt", ".features.pt.json", ".toml")))
        if path.exists()
    ]
    for name, value in counts.items():
        least, most = (
            (0, None) if name in ("seed", "doubles") else (1, {"cells": MOST_CELLS, "genes": MOST_GENES}.get(name))
        )
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            problems.append(f"{name} = {value}: a whole number from {least} is needed.")
        elif most and value > most:
            problems.append(f"{name} = {value:,}: at most {most:,} can be simulated.")
    if not problems and counts["targets"] > counts["genes"]:
        problems.append(
            f"targets = {counts['targets']:,} and genes = {counts['genes']:,}: each target is one of the genes, "
            "ask for fewer targets or more genes."
        )
    if not problems and counts["doubles"] > comb(counts["targets"], 2):
        problems.append(
            f"doubles = {counts['doubles']:,}: {counts['targets']:,} targets make {comb(counts['targets'], 2):,} pairs."
        )
    for name, number in (("depth", depth), ("dispersion", dispersion)):
        if not (np.isfinite(number) and number > 0):
            problems.append(f"{name} = {number}: a number above 0 is needed.")
    if not 0 <= feature_share <= 1:
        problems.append(f"feature_share = {feature_share}: a number from 0 to 1 is needed.")
    if problems:
        raise InputProblems("simulate", problems)


def _obs(population: Population, layout: Layout) -> pd.DataFrame:
    perturbation = np.append(population.perturbations, CONTROL[0])
    columns = {
        "target_gene": pd.Categorical.from_codes(layout.target % len(perturbation), perturbation),
        "cell_type": pd.Categorical.from_codes(layout.context, population.contexts),
        "batch": pd.Categorical.from_codes(layout.batch, population.batches),
    }
    return pd.DataFrame(columns, index=[f"simulated_{i + 1}" for i in range(len(layout))])


def _file_bytes(population: Population, layout: Layout) -> int:
    """About the file's bytes: 8 a count that isn't zero, expected at a cell's mean depth, and the tables."""
    depth = population.depth.mean() * np.exp(CELL_DEPTH_SPREAD**2 / 2)
    phi = population.dispersion
    not_zero = -np.expm1(-np.log1p(phi * depth * np.exp(population.baseline)) / phi)
    tables = sum(np.asarray(value).nbytes for value in vars(population).values())
    return int(1.05 * 8 * not_zero.sum(axis=1).mean() * len(layout)) + 100 * len(layout) + tables + 2**22
