"""What a prediction's scores are held against: a second experiment above, the context's mean below; scores by reliability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.cells.pseudobulk import second_experiment, spearman_brown
from stateshift.cells.pseudobulk.reliability import LEAST_CELLS
from stateshift.evaluation.pairing import ORACLE, Pairing, own_targets
from stateshift.evaluation.scores import ALL, METRICS
from stateshift.metrics import discrimination, mae, mse, pearson_delta

if TYPE_CHECKING:
    from rich.table import Table

    from stateshift.evaluation.result import Evaluation

TIERS = {"strong": 0.8, "medium": 0.5, "weak": -np.inf}
"""Tier → the reliability of a pair's whole effect from which on it belongs there. Reliability is the share of the
variance over genes that is signal: at 0.5 there is as much noise, at 0.8 a quarter of it."""
FLOORS = ("context_mean (baseline)", "context_mean", ORACLE, "mean (baseline)", "mean", "control")
"""What counts as the floor: the first of these that stands beside the prediction; a prediction may be called as a baseline is."""
NO_GAP = 1e-3
"""Where floor and ceiling differ by less, as a share of the larger, there is no share of a gap."""
ROUNDING = 1e-5
"""Scores that differ by a smaller share are the same: cells are float32."""
COLUMNS = ["context", "metric", "score", "floor_name", "floor", "ceiling", "gap_closed", "harm", "pairs"]


def add_reliability(scores: pd.DataFrame, pairing: Pairing) -> pd.DataFrame:
    """The scores with ``reliability``, the correlation of the effects of two halves of a pair's cells, and its ``tier``.

    The tier is that of the whole effect (Spearman–Brown); under ten cells, or ten controls, there is neither.
    """
    halves = pearson_delta(*np.nan_to_num(pairing.halves["true"]))
    halves[(pairing.rows["n_true"] < LEAST_CELLS).to_numpy() | (pairing.n_controls < LEAST_CELLS)] = np.nan
    of_pair = pairing.rows[["context", "perturbation"]].assign(reliability=halves, tier=_tiers(halves))
    return scores.merge(of_pair, on=["context", "perturbation"], how="left")


def _tiers(halves: np.ndarray) -> list[str]:
    whole = np.nan_to_num(spearman_brown(halves), nan=0.0)
    named = [next(tier for tier, least in TIERS.items() if r >= least) for r in whole]
    return [tier if np.isfinite(r) else "" for tier, r in zip(named, halves)]


def replicate_scores(pairing: Pairing) -> pd.DataFrame:
    """One half of the truth scored as a prediction of the other, pair by pair; pairs without two halves are left out.

    Returns
    -------
    pd.DataFrame
        ``context``, ``perturbation`` and the metrics: Pearson delta and PDS of halves, errors brought to whole
        experiments: those of independent means shrink with their variance, MSE by half and MAE by its root.
    """
    halves = pairing.halves["true"].astype(np.float64)
    there = np.isfinite(halves).all(axis=(0, 2))
    rows = pairing.rows.loc[there, ["context", "perturbation"]].reset_index(drop=True)
    first, second = halves[:, there]
    rows["pearson_delta"] = pearson_delta(first, second)
    rows["mae"], rows["mse"] = mae(first, second) / np.sqrt(2), mse(first, second) / 2
    targets = [columns for columns, kept in zip(own_targets(pairing), there) if kept]
    for metric, distance in (("pds_l1", "l1"), ("pds_cosine", "cosine")):
        rows[metric] = np.nan
        for at in rows.groupby("context").indices.values():
            rows.loc[at, metric] = discrimination(first[at], second[at], distance, [targets[i] for i in at])
    return rows


def ceilings_and_floors(scores: pd.DataFrame, replicate: pd.DataFrame) -> pd.DataFrame:
    """What the first model reaches between floor and ceiling.

    Parameters
    ----------
    scores
        Of `stateshift.evaluation.scores.score_models`.
    replicate
        Of `replicate_scores`.

    Returns
    -------
    pd.DataFrame
        One row a (context or ``all contexts``, metric): the model's mean ``score``; ``floor_name`` and ``floor``, the mean of the
        context mean as training knows it, or of what of `FLOORS` there is; ``ceiling``, what a second experiment of the
        same size would score (Pearson delta: by Spearman–Brown, pair by pair; PDS: the halves' own, so at least
        that); ``gap_closed``, the share of the way that the model makes; ``harm``, the share of pairs on which the model is
        worse than the floor; ``pairs``. A mean without noise of its own may pass a second experiment.
    """
    model = scores["model"].iloc[0]
    floor = next((name for name in FLOORS if name in set(scores["model"]) - {model}), None)
    contexts = sorted(scores["context"].unique())
    rows = []
    for context in [ALL, *(contexts if len(contexts) > 1 else [])]:
        here, halves = (t if context == ALL else t[t["context"] == context] for t in (scores, replicate))
        wide = {name: part.set_index(["context", "perturbation"]) for name, part in here.groupby("model")}
        for metric, about in METRICS.items():
            ours = wide[model][metric]
            theirs = wide[floor][metric].reindex(ours.index) if floor else ours * np.nan
            known = ours.notna() & theirs.notna()
            worse = is_worse(ours, theirs, about.higher_is_better)
            row = {"context": context, "metric": metric, "score": ours.mean(), "floor_name": floor or ""}
            row |= {"floor": theirs.mean(), "ceiling": _ceiling(halves[metric], metric)}
            row["gap_closed"] = gap_closed(row["score"], row["floor"], row["ceiling"], about.higher_is_better)
            row["harm"] = worse[known.to_numpy()].mean() if known.any() else np.nan
            rows.append(row | {"pairs": int(known.sum())})
    return pd.DataFrame(rows, columns=COLUMNS)


def is_worse(ours: pd.Series, theirs: pd.Series, higher_is_better: bool = True) -> np.ndarray:
    """Where scores of the same pairs are worse than others by more than rounding explains; not where either is NaN.

    Examples
    --------
    >>> is_worse(pd.Series([0.5, 0.5, 0.4]), pd.Series([0.5 + 1e-7, 0.6, 0.3])).tolist()
    [False, True, False]
    """
    behind = (theirs - ours) if higher_is_better else (ours - theirs)
    return (behind > ROUNDING * theirs.abs()).to_numpy()


def ceiling_sentences(evaluation: Evaluation) -> list[str]:
    """What share of the way to a second experiment the model makes, where it does harm, and how it fares by tier."""
    from stateshift.evaluation.tables import number

    rows = evaluation.ceilings
    rows = rows[(rows["context"] == ALL) & (rows["metric"] == "pearson_delta")].to_dict("records")
    if not rows or not rows[0]["floor_name"]:
        return []
    row = rows[0]
    model, ceiling = f"{evaluation.model} ({number(row['score'])})", number(row["ceiling"])
    floor = f"the floor, {row['floor_name']} ({number(row['floor'])})"
    if np.isfinite(row["gap_closed"]):
        made = f"from {floor}, to a second experiment of the same size ({ceiling}): {model} makes {percent(row['gap_closed'])} of the way, and"
    elif np.isfinite(row["ceiling"]) and np.isfinite(row["floor"]):
        made = f"of a second experiment of the same size ({ceiling}) is no better than that of {floor}, so there is no gap to close: {model}"
    else:
        made = f"of {floor}, or of a second experiment of the same size ({ceiling}), is not known, so there is no gap to close: {model}"
    said = [f"Pearson delta {made} is worse than the floor on {percent(row['harm'])} of {row['pairs']:,} pairs."]
    by_tier = tiers(evaluation.scores)
    ours = by_tier[by_tier["model"] == evaluation.model]
    if len(ours):
        parts = [f"{r['tier']} {number(r['pearson_delta'])} ({r['pairs']:,})" for r in ours.to_dict("records")]
        said.append(f"Pearson delta by how well the measured effects repeat: {', '.join(parts)}.")
    return said


def _ceiling(halves: pd.Series, metric: str) -> float:
    return second_experiment(halves.to_numpy()) if metric == "pearson_delta" else float(halves.mean())


def gap_closed(score: float, floor: float, ceiling: float, higher_is_better: bool = True) -> float:
    """The share of the way from floor to ceiling that a score makes; NaN where there is no way, by `NO_GAP`.

    Examples
    --------
    >>> gap_closed(0.5, floor=0.25, ceiling=0.75), gap_closed(0.5, floor=0.75, ceiling=0.75)
    (0.5, nan)
    """
    way = ceiling - floor if higher_is_better else floor - ceiling
    if not way > NO_GAP * max(abs(ceiling), abs(floor)):
        return float("nan")
    return (score - floor) / (ceiling - floor)


def tiers(scores: pd.DataFrame) -> pd.DataFrame:
    """Means by how well the measured effects repeat: one row a (tier, model), ``pairs`` and the metrics; strong ones first."""
    found = scores[scores["tier"].isin(list(TIERS))]
    means = found.groupby(["tier", "model"], sort=False)[list(METRICS)].mean()
    means.insert(0, "pairs", found.groupby(["tier", "model"], sort=False).size())
    order = {tier: i for i, tier in enumerate(TIERS)}
    return means.reset_index().sort_values("tier", key=lambda t: t.map(order), kind="stable", ignore_index=True)


def ceilings_table(evaluation: Evaluation, context: str = ALL) -> Table:
    """A rich table: floor, model, a second experiment, the share of the gap closed, harm."""
    from rich.table import Table

    from stateshift.evaluation.tables import number

    rows = evaluation.ceilings[evaluation.ceilings["context"] == context]
    floor = rows["floor_name"].iloc[0] if len(rows) else ""
    table = Table(
        title=f"{evaluation.model} between floor and ceiling",
        caption="a second experiment: one half of the truth against the other, brought to its size; gap: the share of the "
        "way there; harm: pairs on which the floor is better",
    )
    table.add_column("")
    for heading in (f"floor: {floor}", evaluation.model, "a second experiment", "gap", "harm"):
        table.add_column(heading, justify="right")
    for row in rows.to_dict("records"):
        at_least = "≥ " if row["metric"].startswith("pds") and row["ceiling"] == row["ceiling"] else ""
        figures = [number(row["floor"]), number(row["score"]), at_least + number(row["ceiling"])]
        table.add_row(METRICS[row["metric"]].label, *figures, percent(row["gap_closed"]), percent(row["harm"]))
    return table


def tiers_table(evaluation: Evaluation) -> Table:
    """A rich table: Pearson delta of every model by tier."""
    from rich.table import Table

    from stateshift.evaluation.tables import number, ranked_models

    rows = tiers(evaluation.scores)
    table = Table(title="Pearson delta by how well the measured effect repeats")
    table.add_column("model")
    wide = rows.pivot(index="model", columns="tier", values="pearson_delta")
    pairs = rows.groupby("tier")["pairs"].first()
    shown = [tier for tier in TIERS if tier in wide]
    for tier in shown:
        table.add_column(f"{tier} ({pairs[tier]})", justify="right")
    for model in ranked_models(evaluation):
        if model in wide.index:
            table.add_row(model, *(number(wide.loc[model, tier]) for tier in shown))
    return table


def percent(share: float) -> str:
    """A share as a whole percentage, a dash where there is none.

    Examples
    --------
    >>> percent(0.254), percent(float("nan"))
    ('25%', '–')
    """
    return f"{round(share, 2) + 0.0:.0%}" if np.isfinite(share) else "–"
