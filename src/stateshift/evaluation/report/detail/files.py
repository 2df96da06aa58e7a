"""From a prediction's file and the truth's to a `Detail`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.cells import Cells
from stateshift.cells.loading import read_file
from stateshift.errors import StateshiftError
from stateshift.evaluation.pairing import (
    Pairing,
    Prediction,
    match_doubles,
    outline,
    pair_up,
    read_prediction,
    read_truth,
)
from stateshift.evaluation.report.detail.detail import Detail
from stateshift.evaluation.result import Evaluation
from stateshift.evaluation.significance import rank_sum_test, sorted_controls
from stateshift.metrics import pearson_delta

SUPPORT = ("n_sources", "nearest", "nearest_gene")
SCORES = ("pearson_delta", "mae", "pds_cosine", "reliability", "tier")
SAME = 1e-3
"""How far a Pearson delta may lie from the evaluation's and still be of the same cells."""


def read_detail(
    prediction: Path,
    truth: Path | None,
    columns: Mapping[str, str | None] | None = None,
    scale: str | None = None,
    evaluation: Evaluation | None = None,
) -> Detail:
    """Effects, significance and intervals of every pair that prediction and truth share.

    Parameters
    ----------
    prediction
        Cells as in docs/contracts.md; with a truth any tool's cells, as in `stateshift.evaluation.evaluate`.
    truth
        Measured cells; None for the prediction alone.
    columns
        The truth's ``perturbation``, ``cell_type``, ``control``; by default those that the evaluation was made with, or the
        prediction.
    scale
        The truth's, where its values don't say.
    evaluation
        Of these cells: its scores, and whose controls it took.

    Raises
    ------
    StateshiftError
        What `evaluate` refuses; a prediction alone that says neither its control nor its model; an `evaluation` of other cells.
    """
    declared = {"perturbation": None, "cell_type": None, "control": None, **(columns or {}), "scale": scale}
    obs, about = _about(prediction)
    if truth is None:
        if not {"target_gene", "context"} <= set(obs.columns) or "control" not in about:
            raise StateshiftError(
                f"{prediction} doesn't say what stateshift's predictions say (docs/contracts.md): name the measured cells "
                "with --truth to show both."
            )
        declared = {"perturbation": "target_gene", "cell_type": "context", "control": about["control"], "scale": None}
    told = outline(prediction)
    made_with = told.made_with if evaluation is None else evaluation.about.get("columns", told.made_with)
    source = prediction if truth is None else truth
    measured, _, _ = read_truth(source, declared, told.genes, told.context, [made_with])
    predicted = read_prediction(prediction, declared, measured)
    predicted, measured, _ = match_doubles(predicted, measured)
    controls = "truth" if evaluation is None else evaluation.about.get("controls", "truth")
    pairing = pair_up(predicted, measured, str(truth), controls)
    rows = _with_support(pairing.rows, obs)
    if truth is None:
        rows = rows.assign(n_true=0)
    elif evaluation is not None:
        rows = _with_scores(rows, evaluation, pairing, prediction)
    return _detail(predicted, measured, pairing, rows, alone=truth is None)


def _about(prediction: Path) -> tuple[pd.DataFrame, dict]:
    stored = read_file(prediction, with_matrix=False)
    return stored.obs, dict(stored.uns.get("stateshift", {}))


def _detail(predicted: Prediction, measured: Cells, pairing: Pairing, rows: pd.DataFrame, alone: bool) -> Detail:
    centres, half_widths = pairing.intervals.get(predicted.model, (None, None))
    return Detail(
        predicted.model,
        pairing.genes,
        rows,
        pairing.models[predicted.model],
        None if alone else pairing.true,
        None if alone else _false_discovery_rates(measured, pairing),
        centres,
        half_widths,
        predicted.level,
        predicted.simulated,
        len(pairing.genes),
    )


def _false_discovery_rates(cells: Cells, pairing: Pairing) -> np.ndarray:
    """(R, G): of the rank-sum test of each pair's true cells against its context's controls."""
    found, members = np.empty(pairing.true.shape), cells.obs.groupby(["context", "perturbation"]).indices
    for context, rows in pairing.rows.groupby("context").indices.items():
        names = pairing.rows["perturbation"].iloc[rows].tolist()
        controls = sorted_controls(cells.X.csr(members[context, cells.control]), "log1p")
        tested = rank_sum_test(lambda name, of=context: cells.X.csr(members[of, name]), names, controls)
        found[rows] = tested.fdr
    return found


def _with_support(rows: pd.DataFrame, obs: pd.DataFrame) -> pd.DataFrame:
    """What the prediction's cells say of what stands behind each pair."""
    held = [name for name in SUPPORT if name in obs.columns]
    if not held or not {"target_gene", "context"} <= set(obs.columns):
        return rows
    keys = {"target_gene": "perturbation"}
    told = obs[["context", "target_gene", *held]].drop_duplicates(["context", "target_gene"]).rename(columns=keys)
    told = told.astype({"context": str, "perturbation": str})
    return rows.merge(told, how="left", on=["context", "perturbation"])


def _with_scores(rows: pd.DataFrame, evaluation: Evaluation, pairing: Pairing, prediction: Path) -> pd.DataFrame:
    keys, scores = ["context", "perturbation"], evaluation.scores[evaluation.scores["model"] == evaluation.model]
    joined = rows.merge(scores[[*keys, *SCORES]], how="left", on=keys)
    known = joined["pearson_delta"].notna()
    # a model that predicts no change at all scores 0 there, whatever the formula says
    differs = np.abs(pearson_delta(pairing.models[next(iter(pairing.models))], pairing.true) - joined["pearson_delta"])
    if len(joined) != len(scores) or not known.any() or differs[known].gt(SAME).any():
        raise StateshiftError(
            f"{prediction.name} and the truth beside it are not the cells that were evaluated (their scores differ): evaluate "
            "again, or name the files with --prediction and --truth."
        )
    return joined.assign(tier=joined["tier"].fillna(""))
