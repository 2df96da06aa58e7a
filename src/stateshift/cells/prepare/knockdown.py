"""The on-target knock-down filter: cell-load's, given what it needs of large and double-perturbed screens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.feature_table import genes_of
from stateshift.progress import track

PERTURBATIONS_AT_ONCE = 128


@dataclass
class Knockdown:
    """What the filter leaves.

    Parameters
    ----------
    keep
        Mask (n,): the control cells, and perturbed cells whose targets are knocked down.
    unmeasured
        Perturbations with a target that is no gene of the matrix; all their cells go.
    weak
        Perturbations that are measured and of which nothing is left.
    """

    keep: np.ndarray
    unmeasured: list[str]
    weak: list[str]


def filter_knockdown(
    X: csr_matrix,
    genes: np.ndarray,
    perturbation: np.ndarray,
    control: str,
    *,
    residual_expression: float = 0.30,
    cell_residual_expression: float = 0.50,
    min_cells: int = 30,
) -> Knockdown:
    """Keep perturbed cells whose targets are knocked down, as ``cell_load``'s ``filter_on_target_knockdown`` does.

    A perturbation stays if its mean count of the target is under ``residual_expression`` of the mean over all
    control cells, whatever their context; of its cells those stay that are under ``cell_residual_expression``
    of it; and at least ``min_cells`` have to be left. cell-load judges a perturbation by one gene: a double
    ``A+B``, which it would drop, is judged by A and by B, and its cells have to pass both times.

    cell-load lays cells × targets out dense, so it gets the targets in blocks; each is judged by its own
    column, its own cells and the control cells, and sums of counts are exact, so that blocks change nothing.

    Parameters
    ----------
    X
        Counts (n, G).
    genes
        Their names (G,).
    perturbation
        Name of every cell's perturbation (n,).
    control
        The control's name among them.
    residual_expression, cell_residual_expression, min_cells
        cell-load's thresholds, with its defaults.
    """
    codes, names = pd.factorize(perturbation)
    positions = dict(zip(genes, range(len(genes))))
    targets = {c: [positions.get(g, -1) for g in genes_of(name)] for c, name in enumerate(names) if name != control}
    measured = [c for c, of in targets.items() if min(of) >= 0]
    used = np.unique([i for c in measured for i in targets[c]]).astype(int)
    of_targets = X[:, used]
    is_control = perturbation == control
    passed = ~is_control & np.isin(codes, measured)
    for turn in range(max((len(targets[c]) for c in measured), default=0)):
        # a perturbation with fewer targets is judged by its last one again
        columns = {c: np.searchsorted(used, targets[c][min(turn, len(targets[c]) - 1)]) for c in measured}
        limits = {
            "residual_expression": residual_expression,
            "cell_residual_expression": cell_residual_expression,
            "min_cells": min_cells,
        }
        passed &= _judged_by_one_target(of_targets, columns, codes, is_control, limits)
    left = np.bincount(codes[passed], minlength=len(names))
    passed &= left[codes] >= min_cells
    left[left < min_cells] = 0
    unmeasured = sorted(str(names[c]) for c in set(targets) - set(measured))
    return Knockdown(is_control | passed, unmeasured, sorted(str(names[c]) for c in measured if not left[c]))


def _judged_by_one_target(
    of_targets: csr_matrix, columns: dict[int, int], codes: np.ndarray, is_control: np.ndarray, limits: dict[str, float]
) -> np.ndarray:
    """Mask (n,) of the perturbed cells that cell-load keeps, each perturbation (a code) judged by its column."""
    import anndata
    from cell_load.utils.data_utils import filter_on_target_knockdown

    passed, names = np.zeros(len(codes), bool), list(columns)
    blocks = [names[i : i + PERTURBATIONS_AT_ONCE] for i in range(0, len(names), PERTURBATIONS_AT_ONCE)]
    for block in track(blocks, "knock-down filter"):
        rows = np.flatnonzero(is_control | np.isin(codes, block))
        labels = np.where(is_control[rows], "control", codes[rows].astype(str))
        in_block = pd.Index([str(c) for c in block])
        adata = anndata.AnnData(
            of_targets[rows][:, [columns[c] for c in block]],
            obs=pd.DataFrame({"target": labels}, index=rows.astype(str)),
            var=pd.DataFrame({"name": in_block}, index=in_block),
        )
        kept = filter_on_target_knockdown(adata, "target", "control", var_gene_name="name", **limits)
        passed[kept.obs_names.astype(int)] = True
    return passed & ~is_control
