"""Which genes respond, predicted and true, context by context: the measures of 2025 without its package."""

from __future__ import annotations

import pandas as pd

from stateshift.cells import Cells
from stateshift.errors import StateshiftError
from stateshift.evaluation.official import CONTROL, TARGET, side_of
from stateshift.evaluation.pairing import Controls, Pairing
from stateshift.evaluation.seasons import score_2025
from stateshift.progress import track

SHOWN = ("des", "precision", "direction_match", "lfc_spearman", "pr_auc", "roc_auc", "pds_l1", "mae")


def response_scores(
    predicted: Cells, truth: Cells, pairing: Pairing, controls: Controls = "truth", threads: int = 1
) -> tuple[pd.DataFrame, dict[str, dict[str, float]], list[str]]:
    """`stateshift.evaluation.seasons.score_2025` of every context.

    Parameters
    ----------
    predicted, truth
        Log1p cells on the pairing's genes, their perturbations under its names.
    pairing
        The shared (context, perturbation) pairs.
    controls
        ``truth`` puts the truth's controls on both sides; ``own`` leaves the prediction its own.
    threads
        Threads of the rank-sum tests.

    Returns
    -------
    tuple
        One row a (context, perturbation); of each context the means of `SHOWN` and the ``score``; and sentences on
        contexts left out.

    Raises
    ------
    StateshiftError
        No context has two perturbations.
    """
    tables, means, notes = [], {}, []
    for context, rows in track(list(pairing.rows.groupby("context")), "responding genes"):
        perturbations = set(rows["perturbation"])
        if len(perturbations) < 2:
            notes.append(f"{context}: the score of responding genes needs two perturbations; it has one.")
            continue
        real = side_of(truth, context, perturbations | {truth.control}, truth.control)
        own = {predicted.control} if controls == "own" else set()
        found = score_2025(
            side_of(predicted, context, perturbations | own, predicted.control if own else None),
            real,
            perturbation=TARGET,
            control=CONTROL,
            controls=controls,
            threads=threads,
        )
        tables.append(found.table.reset_index().assign(context=context))
        means[str(context)] = {name: float(found.means[name]) for name in SHOWN} | {"score": found.score}
    if not tables:
        raise StateshiftError("Responding genes are scored in contexts with two or more perturbations: there is none.")
    table = pd.concat(tables, ignore_index=True)
    return table[["context", *table.columns.drop("context")]], means, notes
