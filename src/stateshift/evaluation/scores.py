"""Scores of every model on every pair, and their means with the model's difference to each baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stateshift.evaluation.pairing import Pairing, own_targets
from stateshift.metrics import discrimination, mae, mse, paired_bootstrap, pearson_delta
from stateshift.progress import track

ALL = "all contexts"


@dataclass(frozen=True)
class Metric:
    """A metric's name for readers, and which way is up."""

    label: str
    higher_is_better: bool


METRICS = {
    "pearson_delta": Metric("Pearson delta", True),
    "mae": Metric("MAE", False),
    "mse": Metric("MSE", False),
    "pds_l1": Metric("PDS (L1)", True),
    "pds_cosine": Metric("PDS (cosine)", True),
}


def score_models(pairing: Pairing) -> pd.DataFrame:
    """One row a (context, perturbation, model): the pair's columns and one column a metric.

    A model that predicts no change at all has no direction: its Pearson delta counts as 0, so that a
    model can't gain by leaving perturbations unpredicted. Perturbations are told apart (PDS) within their
    context, the columns of their own target genes left out. Where a model gives intervals, ``covered`` is the share of
    the true effects that lie in them and ``half_width`` their mean half-width over genes.
    """
    targets = own_targets(pairing)
    by_context = [np.asarray(rows) for _, rows in sorted(pairing.rows.groupby("context").indices.items())]
    tables = []
    for name, effects in track(list(pairing.models.items()), "scoring"):
        table = pairing.rows.copy()
        table.insert(2, "model", name)
        correlation = pearson_delta(effects, pairing.true)
        no_change, some_truth = np.ptp(effects, axis=1) == 0, np.ptp(pairing.true, axis=1) > 0
        table["pearson_delta"] = np.where(no_change & some_truth, 0.0, correlation)
        table["mae"], table["mse"] = mae(effects, pairing.true), mse(effects, pairing.true)
        for metric, distance in (("pds_l1", "l1"), ("pds_cosine", "cosine")):
            values = np.full(len(table), np.nan)
            for rows in by_context:
                left_out = [targets[i] for i in rows]
                values[rows] = discrimination(effects[rows], pairing.true[rows], distance, left_out)
            table[metric] = values
        table["covered"], table["half_width"] = _covered(pairing, name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _covered(pairing: Pairing, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair the share of genes whose true effect lies in the model's interval, and the mean half-width."""
    R = len(pairing.rows)
    share, width = np.full(R, np.nan), np.full(R, np.nan)
    if name in pairing.intervals:
        centre, half = pairing.intervals[name]
        known = np.isfinite(half)
        n, given = known.sum(axis=1), known.any(axis=1)
        inside = (np.abs(centre - pairing.true) <= half + 1e-9) & known
        share[given] = inside.sum(axis=1)[given] / n[given]
        width[given] = np.where(known, half, 0).sum(axis=1)[given] / n[given]
    return share, width


def summarise(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Means a context and over all pairs, and the first model's paired difference to every other.

    Returns
    -------
    pd.DataFrame
        One row a (context or ``all contexts``, model, metric): ``mean``, ``n`` (pairs with a value), and of the
        evaluated model minus this one ``difference``, ``low``, ``high`` (95 % paired bootstrap that draws
        perturbations, each with all its contexts; empty with fewer than five), ``pairs`` and
        ``perturbations`` compared; empty for the evaluated model itself.
    """
    model = scores["model"].iloc[0]
    contexts = sorted(scores["context"].unique())
    parts = [(ALL, scores)]
    if len(contexts) > 1:
        parts += [(context, scores[scores["context"] == context]) for context in contexts]
    rows = []
    for context, part in parts:
        wide = {name: table.reset_index(drop=True) for name, table in part.groupby("model", sort=False)}
        for name, table in wide.items():
            for metric in METRICS:
                row = {"context": context, "model": name, "metric": metric}
                row |= {"mean": table[metric].mean(), "n": int(table[metric].notna().sum())}
                if name != model:
                    found = paired_bootstrap(wide[model][metric], table[metric], table["perturbation"], seed=seed)
                    row |= {"difference": found.mean, "low": found.low, "high": found.high}
                    row |= {"pairs": found.pairs, "perturbations": found.groups}
                rows.append(row)
    summary = pd.DataFrame(rows)
    return summary.reindex(columns=[*summary.columns[:5], "difference", "low", "high", "pairs", "perturbations"])
