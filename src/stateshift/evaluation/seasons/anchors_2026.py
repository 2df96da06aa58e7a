"""Both ends of the 2026 scale, measured on the truth: the mean response of all, and one half of the cells for the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.errors import StateshiftError, some
from stateshift.evaluation.seasons.responses import fold_change_error, responding
from stateshift.evaluation.seasons.sides import Groups
from stateshift.evaluation.seasons.summary import Summary, control_cells, mean_of, members_of, summarised
from stateshift.progress import track

MEMBERS = ("pds_cosine", "mse", "lfc_nmae", "direction_fidelity", "direction_reach", "jaccard")
LOWER_IS_BETTER = ("mse", "lfc_nmae")
SPLITS = 5


@dataclass(frozen=True)
class Truth:
    """The truth of one context as it is scored against.

    Parameters
    ----------
    groups, names, genes, control
        Its counts by perturbation, the P perturbations, the G genes, and the controls' name.
    own_gene
        The column of each perturbation's target gene (P,), −1 where it isn't measured.
    counts
        The controls' counts (n, G).
    summary
        Its own tests and pseudobulks.
    """

    groups: Groups
    names: list[str]
    genes: list[str]
    control: str
    own_gene: np.ndarray
    counts: csr_matrix
    summary: Summary


def measured_anchors(truth: Truth, threads: int) -> pd.DataFrame:
    """What members come to for the mean response (``baseline``) and for a replicate (``replicate``).

    The replicate of ``lfc_nmae`` is taken over the genes that respond in all the cells. Draws and splits are
    those of cell-eval2's generic baseline with seed 0 and of its anchor with base seed 0.

    Returns
    -------
    pd.DataFrame
        Index: the six members.
    """
    few = [name for name, rows in truth.groups.rows.items() if len(rows) < 2]
    if few or len(truth.names) < 2:
        said = f"{some(few, 4)} have fewer than two cells" if few else "there is one perturbation alone"
        raise StateshiftError(f"The ends of the scale can't be measured on this truth: {said}.")
    base = summarised(mean_response(truth), truth.names, truth.summary.controls, threads)
    ends = pd.DataFrame({"baseline": members_of(base, truth.summary, truth.own_gene, truth.genes)[1]})
    del base
    seeds = np.random.SeedSequence(0).generate_state(SPLITS)
    halves = [_replicate(truth, int(seed), threads) for seed in track(list(seeds), "replicates")]
    ends["replicate"] = pd.DataFrame(halves).mean(skipna=False)
    return ends.loc[list(MEMBERS)]


def mean_response(truth: Truth, seed: int = 0) -> Callable[[str], csr_matrix]:
    """Controls drawn for each perturbation, every gene scaled to its mean over all perturbations.

    A perturbation doesn't count towards the mean of its own target gene.
    """
    counts, means = np.full(len(truth.genes), float(len(truth.names))), truth.summary.mean_counts
    total = means.sum(axis=0)
    for i in np.flatnonzero(truth.own_gene >= 0):
        total[truth.own_gene[i]] -= means[i, truth.own_gene[i]]
        counts[truth.own_gene[i]] -= 1
    if (counts <= 0).any():
        raise StateshiftError("Every perturbation targets one gene, whose mean response is thus unknown.")
    of_controls = np.asarray(truth.counts.mean(axis=0, dtype=np.float64)).ravel()
    scale = np.divide(total / counts, of_controls, out=np.zeros_like(total), where=of_controls > 0)
    rng = np.random.default_rng(seed)
    drawn = {name: rng.integers(0, truth.counts.shape[0], size=truth.groups.count(name)) for name in truth.names}

    def cells(name: str) -> csr_matrix:
        found = truth.counts[drawn[name]]
        found.data = (found.data * scale[found.indices]).astype(np.float32)
        return found

    return cells


def _replicate(truth: Truth, seed: int, threads: int) -> dict[str, float]:
    """Members of one half of the cells as the prediction of the other, each half with its own controls."""
    rng = np.random.default_rng(seed)
    halves: tuple[dict, dict] = ({}, {})
    for name, rows in truth.groups.rows.items():
        mixed = rng.permutation(rows)
        size = len(rows) // 2
        halves[0][name], halves[1][name] = mixed[:size], mixed[size : 2 * size]
    real, found = (_half(truth, rows, threads) for rows in halves)
    over_all = members_of(found, real, truth.own_gene, truth.genes)[1]
    changes = [np.where(side.test.tested, side.test.fold_changes, 0.0) for side in (real, found)]
    genes = responding(truth.summary.test, truth.own_gene)
    return over_all | {"lfc_nmae": mean_of(fold_change_error(*changes, truth.summary.test.fold_changes, genes))}


def _half(truth: Truth, rows: dict[str, np.ndarray], threads: int) -> Summary:
    controls = control_cells(truth.groups.take(rows[truth.control]))
    return summarised(lambda name: truth.groups.take(rows[name]), truth.names, controls, threads, "a half of the truth")
