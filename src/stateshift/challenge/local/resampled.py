"""Scores of a season over resampled targets: how far two predictions of the same targets differ by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stateshift.evaluation.seasons.anchors_2026 import LOWER_IS_BETTER, MEMBERS
from stateshift.evaluation.seasons.score_2025 import SCORED, Score2025
from stateshift.evaluation.seasons.score_2026 import LOWEST_NMAE, Score2026

Scores = Mapping[str, Score2025 | Score2026]
"""A prediction's score of each context."""


def difference(a: Scores, b: Scores, draws: int = 2000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Interval of the mean score of a less b, from resampled targets (Efron & Tibshirani 1993, ch. 13).

    A target is drawn in all contexts at once. Where the targets are compared with one another (PDS), each keeps the rank
    that it has among all of them; both ends of the scale are those of all targets.

    Returns
    -------
    tuple
        Lower and upper end.
    """
    names = sorted({name for score in a.values() for name in score.table.index})
    picks = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    of = resampled(a, names, picks) - resampled(b, names, picks)
    low, high = np.quantile(of, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled(scores: Scores, names: Sequence[str], picks: np.ndarray) -> np.ndarray:
    """The mean score over contexts (B,), with each target counted as often as it was picked (B, N)."""
    place = {name: i for i, name in enumerate(names)}
    of_each = []
    for score in scores.values():
        weights = picks[:, [place[name] for name in score.table.index]].astype(float)
        of_each.append(_of_2025(score, weights) if isinstance(score, Score2025) else _of_2026(score, weights))
    return np.mean(of_each, axis=0)


def _of_2025(score: Score2025, weights: np.ndarray) -> np.ndarray:
    shares = []
    for name in SCORED:
        value, base = _means(score.table[name].to_numpy(), weights), score.baseline[name]
        share = 1 - value / base if name == "mae" else (value - base) / (1 - base)
        shares.append(np.maximum(np.nan_to_num(share), 0))
    return np.mean(shares, axis=0)


def _of_2026(score: Score2026, weights: np.ndarray) -> np.ndarray:
    found = []
    for name in MEMBERS:
        if name == "mse":
            error, effect = (weights @ score.table[part].to_numpy() for part in ("error", "effect"))
            # a draw whose targets don't differ from their controls has nothing to measure the error by
            value = np.divide(error, effect, out=np.full(len(effect), np.inf), where=effect > 0)
        else:
            value = _means(score.table[name].to_numpy(), weights)
        value = np.where(np.isfinite(value), value, np.inf if name in LOWER_IS_BETTER else 0.0)
        base, replicate = score.members.loc[name, ["baseline", "replicate"]].astype(float)
        share = (value - base) / (replicate - base)
        if name == "mse":
            share = np.clip(share, 0, 1)
        found.append(np.maximum(share, LOWEST_NMAE) if name == "lfc_nmae" else share)
    return np.mean(found, axis=0)


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means (B,) of the values (P,) that are defined; NaN where none is."""
    known = np.isfinite(values)
    total = weights @ known
    return np.divide(weights @ np.where(known, values, 0), total, out=np.full(len(weights), np.nan), where=total > 0)
