"""One side of a 2026 score, read once: tests, pseudobulk and noise of every perturbation, and the members of two sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from stateshift.errors import StateshiftError
from stateshift.evaluation.seasons.bulk import bulk_and_noise, corrected_error, effect_size
from stateshift.evaluation.seasons.responses import response_members
from stateshift.evaluation.significance import (
    Controls,
    Ordered,
    Significance,
    adjusted,
    compared,
    controls_of,
    ordered,
)
from stateshift.metrics import discrimination
from stateshift.progress import track

FEWEST_CPM = 5.0
"""Genes below this in the mean control are not tested."""


@dataclass(frozen=True)
class ControlCells:
    """Controls as tests and pseudobulks need them: sorted, summed, and the noise of the sum."""

    sorted: Controls
    bulk: np.ndarray
    noise: float


@dataclass(frozen=True)
class Summary:
    """What is kept of a side's cells.

    Parameters
    ----------
    test
        Each perturbation's cells against the controls, genes of more than 5 counts per million there.
    bulk, noise
        Of `bulk_and_noise`: (P, G) and (P,).
    mean_counts
        Mean counts a cell (P, G).
    controls
        What it was compared with.
    """

    test: Significance
    bulk: np.ndarray
    noise: np.ndarray
    mean_counts: np.ndarray
    controls: ControlCells


def control_cells(counts: csr_matrix | np.ndarray) -> ControlCells:
    """Controls (n, G) sorted and summed.

    Raises
    ------
    StateshiftError
        Values that are no whole counts.
    """
    counts = csr_matrix(counts)
    cells = counts_in_order(counts, "the truth's controls")
    return ControlCells(controls_of(cells, "counts"), *bulk_and_noise(counts)[1:])


def summarised(
    cells_of: Callable[[str], csr_matrix | np.ndarray],
    names: Sequence[str],
    controls: ControlCells,
    threads: int,
    who: str | None = None,
) -> Summary:
    """Read every perturbation's counts once and keep what members are computed from.

    Parameters
    ----------
    who
        Whose cells they are, in errors, where they have to be whole counts; None for means of such.

    Raises
    ------
    StateshiftError
        Values that are no counts, or none but zeros.
    """
    P, G = len(names), len(controls.bulk)
    p, fold, bulk, means = (np.empty((P, G)) for _ in range(4))
    noise = np.empty(P)

    def read(i: int) -> None:
        counts = csr_matrix(cells_of(names[i]))
        called = f"{who or 'the mean response'}: {names[i]}"
        cells = ordered(counts, "counts", called) if who is None else counts_in_order(counts, called)
        p[i], fold[i] = compared(cells, controls.sorted)
        sums, bulk[i], noise[i] = bulk_and_noise(counts)
        means[i] = sums / counts.shape[0]

    with ThreadPoolExecutor(threads) as pool:
        for _ in track(pool.map(read, range(P)), "perturbations", total=P):
            pass
    return Summary(adjusted(names, p, fold, controls.sorted, FEWEST_CPM), bulk, noise, means, controls)


def members_of(
    predicted: Summary, true: Summary, own_gene: np.ndarray, genes: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The six members of the score: of each perturbation (P,), and over all.

    Returns
    -------
    tuple
        ``pds_cosine``, ``error`` and ``effect`` (whose sums make ``mse``) and `response_members` by name; and
        their means, with ``mse`` for the two.
    """
    kept = np.ones(len(genes), bool)
    kept[own_gene[own_gene >= 0]] = False
    if not kept.any():
        raise StateshiftError(
            "Every gene is the target of a perturbation: none is left to tell perturbations apart by."
        )
    found, real = ((side.bulk - side.controls.bulk)[:, kept] for side in (predicted, true))
    P = len(real)
    # of the others instead of all
    pds = 1 - (1 - discrimination(found, real, "cosine")) * P / (P - 1) if P > 1 else np.ones(P)
    each = {
        "pds_cosine": pds,
        "error": corrected_error(predicted.bulk, predicted.noise, true.bulk, true.noise, own_gene),
        "effect": effect_size(true.bulk, true.noise, true.controls.bulk, true.controls.noise, own_gene),
        **response_members(predicted.test, true.test, own_gene, genes),
    }
    over_all = {name: mean_of(values) for name, values in each.items() if name not in ("error", "effect")}
    total = each["effect"].sum()
    if not total > 0:
        raise StateshiftError(
            "The truth's perturbations don't differ from its controls by more than sampling does: there is no effect "
            "to predict, and the squared error has nothing to be measured by. More cells a perturbation are needed."
        )
    return each, over_all | {"mse": float(each["error"].sum() / total)}


def mean_of(values: np.ndarray) -> float:
    """Mean of the values that are defined, NaN where none is."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def counts_in_order(counts: csr_matrix, who: str) -> Ordered:
    """Counts put in order; log1p values, which would pass as small ones, and nothing but zeros are refused."""
    cells = ordered(counts, "counts", who)
    if not cells.whole:
        raise StateshiftError(f"{who}: values are no whole counts, which the scores of 2026 need.")
    if not len(cells.genes):
        raise StateshiftError(f"{who}: every count of every cell is 0: there is nothing to score.")
    return cells
