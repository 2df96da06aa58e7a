"""Effects from cells: what a perturbation did to the mean of a population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stateshift.cells.population import Cells
from stateshift.cells.pseudobulk.controls import ContextControls, Strata, control_weights
from stateshift.cells.pseudobulk.moments import sums_by_label
from stateshift.cells.pseudobulk.reliability import LEAST_CELLS, correlation, random_halves
from stateshift.cells.pseudobulk.shrinkage import shrink_effects
from stateshift.cells.pseudobulk.table import EffectTable
from stateshift.errors import StateshiftError
from stateshift.progress import track

PSEUDO_COUNT = 0.01
"""Added to both linear means of a fold change; on the scale of 1e4 a cell, one count per million."""

LOG_SCALES = ("log1p_1e4", "log1p")


def estimate_effects(cells: Cells, keep: np.ndarray | None = None, seed: int = 0) -> EffectTable:
    """Mean shifts of every (perturbation, context), against controls matched by file and batch.

    A perturbed cell's control is the mean of the controls of its file, context and batch; where the
    batch holds no control, the mean over its file and context. A group's effect is the mean of its
    cells minus the mean of their controls, so that a batch counts by its share of perturbed cells: with
    n(b) of the n perturbed cells and m(b) controls in batch b, and v(b) the weights of the controls
    (n(b) / n where every batch holds controls),

        effect = x̄ − Σ v(b) c̄(b)
        standard error² = s² / n + Σ v(b)² s_c(b)² / m(b)
        log2 fold change = log2( (mean of expm1(x) + ε) / (Σ v(b) · mean of expm1(c) in b + ε) ),  ε = 0.01

    s² is the variance of the perturbed cells within their batches, taken together: squares about the
    batch means, divided by n minus the number of batches. Where no batch has two of them, the controls'
    variance Σ v(b) s_c(b)² stands for it. s_c(b)² is the controls' variance in b; for a batch of one control, that
    within the batches of its file and context together (about their common mean where all have one). It is NaN
    where a file has one control. What a batch without controls differs by from the others is not in
    the error.

    Reliability is the correlation, over genes, of two such effects: from random halves of the perturbed cells, each
    against its own half of the controls, batch by batch. It is NaN under 10 perturbed cells or 10 controls.

    Parameters
    ----------
    cells
        The cells, log1p; of an embedding no fold change is given.
    keep
        Mask (n,) of the perturbed cells to use (a split); controls are always used. Default: all.
    seed
        Draws the halves.

    Raises
    ------
    StateshiftError
        A context has perturbed cells in a file that holds no control of that context.
    """
    is_control = cells.is_control
    keep = ~is_control if keep is None else keep & ~is_control
    strata = Strata.of(cells.obs)
    _refuse_orphans(cells, strata, keep)
    perturbation, names = pd.factorize(cells.obs["perturbation"].to_numpy(dtype=object), sort=True)
    used = np.flatnonzero(keep | is_control)
    half = np.zeros(len(cells), np.intp)
    half[used] = random_halves((perturbation * len(strata.context) + strata.of_cell)[used], seed)
    groups = _groups(strata.context[strata.of_cell], perturbation, keep)
    table = _empty_table(cells, [names[p] for _, p, _ in groups], [strata.contexts[c] for c, _, _ in groups])
    context, controls, local = -1, None, None
    for r, (c, _, rows) in enumerate(track(groups, "estimating effects")):
        if c != context:
            context, controls, local = c, *_read_controls(cells, strata, half, c)
            table.control_means[strata.contexts[c]] = controls.mean.astype(np.float32)
        row = _effect(cells, rows, local[strata.of_cell[rows]], half[rows], controls)
        for name, value in vars(row).items():
            if value is not None:
                getattr(table, name)[r] = value
    table.shrunk = shrink_effects(table.effects, table.standard_error, table.contexts, table.n_cells)
    for name in set(strata.contexts) - set(table.control_means):
        rows = np.flatnonzero(is_control & (strata.context[strata.of_cell] == strata.contexts.index(name)))
        if len(rows):
            table.control_means[name] = cells.X.mean(rows).astype(np.float32)
    table.control_means = dict(sorted(table.control_means.items()))
    return table


@dataclass
class _Row:
    """One row of each array of an `EffectTable`, under its name there."""

    effects: np.ndarray
    standard_error: np.ndarray
    log2_fold_change: np.ndarray | None
    n_cells: int
    n_controls: int
    n_unmatched: int
    reliability: float


def _effect(cells: Cells, rows: np.ndarray, stratum: np.ndarray, half: np.ndarray, controls: ContextControls) -> _Row:
    """The effect of one group, its rows read once.

    Parameters
    ----------
    cells, controls
        All cells; the controls of the group's context.
    rows, stratum, half
        Arrays (n,): the group's rows, and the stratum (among those of the context) and half of each.
    """
    labels, of_row = np.unique(stratum * 2 + half, return_inverse=True)
    sums = sums_by_label(cells.X, rows, of_row, len(labels), controls.linear is not None)
    n, in_controls = len(rows), controls.n.sum(axis=1)
    perturbed = np.bincount(stratum, minlength=len(in_controls))
    weights, n_unmatched = control_weights(perturbed, in_controls, controls.place)
    fold = None
    if controls.linear is not None:
        fold = np.log2((sums.linear.sum(axis=0) / n + PSEUDO_COUNT) / (weights @ controls.linear + PSEUDO_COUNT))

    firsts = np.flatnonzero(np.diff(labels // 2, prepend=-1))
    in_batch = np.add.reduceat(sums.n, firsts)
    squares = sums.squares.sum(axis=0) - (np.add.reduceat(sums.total, firsts) ** 2 / in_batch[:, None]).sum(axis=0)
    free = n - len(in_batch)
    used = weights > 0
    weight, of_batch = weights[used], controls.variance[used]
    variance = np.maximum(squares, 0) / free if free else weight @ of_batch
    of_control = (weight**2 / in_controls[used]) @ of_batch
    n_controls = int(in_controls[weights > 0].sum())
    reliability = np.nan
    if min(n, n_controls) >= LEAST_CELLS:
        halves = [
            _half_effect(sums.total[labels % 2 == h].sum(axis=0), stratum[half == h], controls, h) for h in (0, 1)
        ]
        reliability = correlation(*halves)
    return _Row(
        sums.total.sum(axis=0) / n - weights @ controls.means,
        np.sqrt(variance / n + of_control),
        fold,
        n,
        n_controls,
        n_unmatched,
        reliability,
    )


def _half_effect(total: np.ndarray, stratum: np.ndarray, controls: ContextControls, half: int) -> np.ndarray:
    """The effect (G,) of one half of a group against that half of the controls."""
    perturbed = np.bincount(stratum, minlength=len(controls.place))
    weights, _ = control_weights(perturbed, controls.n[:, half], controls.place)
    return total / len(stratum) - weights @ controls.half_means[:, half]


def _read_controls(cells: Cells, strata: Strata, half: np.ndarray, context: int) -> tuple[ContextControls, np.ndarray]:
    """The controls of a context, and the place of each of all strata among those of the context."""
    mine = np.flatnonzero(strata.context == context)
    local = np.full(len(strata.context), -1)
    local[mine] = np.arange(len(mine))
    rows = np.flatnonzero(cells.is_control & (strata.context[strata.of_cell] == context))
    place = np.unique(strata.place[mine], return_inverse=True)[1]
    with_linear = cells.scale in LOG_SCALES
    return ContextControls.read(cells.X, rows, local[strata.of_cell[rows]], half[rows], place, with_linear), local


def _groups(context: np.ndarray, perturbation: np.ndarray, keep: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Context, perturbation and rows of every group, in that order."""
    rows = np.flatnonzero(keep)
    rows = rows[np.lexsort((perturbation[rows], context[rows]))]
    if not len(rows):
        return []
    changes = (np.diff(context[rows]) != 0) | (np.diff(perturbation[rows]) != 0)
    members = np.split(rows, np.flatnonzero(changes) + 1)
    return [(int(context[m[0]]), int(perturbation[m[0]]), m) for m in members]


def _empty_table(cells: Cells, perturbations: list[str], contexts: list[str]) -> EffectTable:
    R, G = len(perturbations), len(cells.genes)
    per_gene = [np.zeros((R, G), dtype=np.float32) for _ in range(3)]
    per_row = [np.zeros(R, dtype=np.int64) for _ in range(3)]
    return EffectTable(
        list(cells.genes),
        perturbations,
        contexts,
        per_gene[0],
        per_row[0],
        {},
        standard_error=per_gene[1],
        log2_fold_change=per_gene[2] if cells.scale in LOG_SCALES else None,
        n_controls=per_row[1],
        n_unmatched=per_row[2],
        reliability=np.full(R, np.nan),
        scale=cells.scale,
        simulated=cells.simulated,
    )


def _refuse_orphans(cells: Cells, strata: Strata, keep: np.ndarray) -> None:
    """Perturbed cells need controls in their file and context."""
    place = strata.place[strata.of_cell]
    orphans = np.flatnonzero(keep & ~np.isin(place, place[cells.is_control]))
    if len(orphans):
        file, context = cells.obs[["file", "context"]].iloc[orphans[0]]
        raise StateshiftError(f"{file}: context `{context}` has perturbed cells and no control cells.")
