"""The challenge of 2026: the six members of its score and their anchors, natively and one perturbation at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from stateshift.errors import StateshiftError
from stateshift.evaluation.seasons.anchors_2026 import LOWER_IS_BETTER, MEMBERS, Truth, measured_anchors
from stateshift.evaluation.seasons.sides import Groups, Source, both_sides, opened
from stateshift.evaluation.seasons.summary import (
    control_cells,
    counts_in_order,
    members_of,
    summarised,
)

if TYPE_CHECKING:
    from anndata import AnnData

CELL_EVAL2_NAMES = {
    "pds_cosine": "pds_cosine",
    "mse": "expr_mse_unbiased_capped_norm",
    "lfc_nmae": "de_wilcoxon_lfc_nmae",
    "direction_fidelity": "de_wilcoxon_direction_fidelity_yield_raw",
    "direction_reach": "de_wilcoxon_direction_reach_raw",
    "jaccard": "de_wilcoxon_sig_jaccard",
}
"""Our members → what cell-eval2 0.20.0 calls them."""
LOWEST_NMAE = -6.0


@dataclass
class Score2026:
    """Members of the score of one context.

    Parameters
    ----------
    table
        One row a perturbation: ``pds_cosine``, ``error`` and ``effect`` (the sum of the one over that of the other is
        ``mse``), ``lfc_nmae``, ``direction_fidelity``, ``direction_reach``, ``jaccard``, each as
        `stateshift.evaluation.seasons.responses.response_members` says.
    members
        One row a member: ``value``, the ``baseline`` b and ``replicate`` r it is measured by, and its ``score``
        (value − b) / (r − b), bounded to [0, 1] for ``mse`` and below at −6 for ``lfc_nmae``.
    score
        The mean of the six.
    """

    table: pd.DataFrame
    members: pd.DataFrame
    score: float

    @property
    def means(self) -> pd.Series:
        """The members' values."""
        return self.members["value"]


def score_2026(
    predicted: AnnData | str | Path | Source,
    truth: AnnData | str | Path | Source,
    *,
    perturbation: str = "target_gene",
    control: str = "non-targeting",
    anchors: pd.DataFrame | None = None,
    threads: int = 1,
) -> Score2026:
    """Score raw counts of one context as cell-eval2 0.20.0's preset ``vcc2026`` does, to 1e-6.

    The prediction is compared with the truth's controls; controls of its own are not looked at. Files are
    read one perturbation at a time: memory holds the truth's controls and what is kept of each perturbation.

    Parameters
    ----------
    predicted, truth
        Whole counts × genes with ``obs[perturbation]``; the truth with its controls.
    perturbation, control
        The column, and the name of the controls in it.
    anchors
        What `anchors_2026` measured on this truth; measured anew where it is not given, which takes some
        seven times as long as the score itself.
    threads
        Perturbations at a time.

    Raises
    ------
    StateshiftError
        Columns, controls, genes or perturbations are absent; values are no counts; the replicate is no better than the
        baseline.
    """
    shown, true = _sides(predicted, truth, perturbation, control, threads)
    return scored_2026(shown, true, anchors, threads)


def scored_2026(
    cells_of: Callable[[str], csr_matrix],
    true: Truth,
    anchors: pd.DataFrame | None = None,
    threads: int = 1,
) -> Score2026:
    """The score of a prediction's counts by perturbation, against a truth that was read once.

    Parameters
    ----------
    cells_of
        A perturbation's predicted counts (n, G).
    true
        As `truth_2026` reads it.
    anchors, threads
        As of `score_2026`.
    """
    found = summarised(cells_of, true.names, true.summary.controls, threads, "the prediction")
    each, values = members_of(found, true.summary, true.own_gene, true.genes)
    del found
    anchors = measured_anchors(true, threads) if anchors is None else anchors
    members = pd.DataFrame({"value": values}).loc[list(MEMBERS)].join(anchors[["baseline", "replicate"]])
    members.index.name = "member"
    members["score"] = [member_score(name, *members.loc[name]) for name in MEMBERS]
    return Score2026(
        pd.DataFrame(each, index=pd.Index(true.names, name="perturbation")), members, members["score"].mean()
    )


def anchors_2026(
    truth: AnnData | str | Path | Source,
    *,
    perturbation: str = "target_gene",
    control: str = "non-targeting",
    threads: int = 1,
) -> pd.DataFrame:
    """Measure both ends of the scale on the truth, for any number of predictions of it.

    ``baseline`` is the mean response of all perturbations, emitted as scaled controls; ``replicate`` the mean of five
    splits of the cells in halves, one predicting the other.

    Parameters
    ----------
    truth, perturbation, control, threads
        As of `score_2026`.

    Returns
    -------
    pd.DataFrame
        Index: the six members; columns ``baseline`` and ``replicate``.
    """
    return measured_anchors(_sides(truth, truth, perturbation, control, threads)[1], threads)


def member_score(name: str, value: float, baseline: float, replicate: float) -> float:
    """Where a member's value lies between the baseline (0) and the replicate (1).

    An undefined value counts as the worst there is: 0 of what is better when higher, and the lowest score else.

    Examples
    --------
    >>> member_score("jaccard", 0.5, 0.25, 0.75), member_score("mse", 2.0, 1.0, 0.2)
    (0.5, 0.0)
    """
    lower = name in LOWER_IS_BETTER
    span = baseline - replicate if lower else replicate - baseline
    if not (np.isfinite(span) and span > 0):
        raise StateshiftError(
            f"`{name}` has no scale: a replicate of the truth reaches {replicate:.4g} and the mean response "
            f"{baseline:.4g}. More cells a perturbation are needed, or anchors of a larger truth."
        )
    if not np.isfinite(value):
        value = np.inf if lower else 0.0
    score = (value - baseline) / (replicate - baseline)
    if name == "mse":
        return float(np.clip(score, 0.0, 1.0))
    return float(max(score, LOWEST_NMAE)) if name == "lfc_nmae" else float(score)


def _sides(
    predicted: AnnData | str | Path | Source,
    truth: AnnData | str | Path | Source,
    perturbation: str,
    control: str,
    threads: int,
) -> tuple[Groups, Truth]:
    """The prediction's cells, and the truth with all that is kept of it."""
    sources = (opened(side, perturbation) for side in (predicted, truth))
    shown, true, names, genes = both_sides(*sources, perturbation, control)
    _refuse_unnamed(names, genes)
    # one perturbation of the prediction tells of most mistakes, long before the truth is read
    counts_in_order(csr_matrix(shown(names[0])), f"the prediction: {names[0]}")
    return shown, truth_2026(true, names, genes, control, threads)


def truth_2026(groups: Groups, names: list[str], genes: list[str], control: str, threads: int = 1) -> Truth:
    """Read and test a truth once, for any number of predictions of it.

    Raises
    ------
    StateshiftError
        No perturbation is named after a gene; values are no counts.
    """
    _refuse_unnamed(names, genes)
    column = {gene: j for j, gene in enumerate(genes)}
    own_gene = np.array([column.get(name, -1) for name in names])
    counts = csr_matrix(groups(control))
    summary = summarised(groups, names, control_cells(counts), threads, "the truth")
    return Truth(groups, names, genes, control, own_gene, counts, summary)


def _refuse_unnamed(names: list[str], genes: list[str]) -> None:
    if set(names).isdisjoint(genes):
        raise StateshiftError(
            f"No perturbation is named after a measured gene ({names[0]} …): each target's own gene has to be left out."
        )
