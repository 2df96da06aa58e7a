"""Scores of all candidates as one table: a row a regime, model and table of features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from stateshift.cells import REGIMES
from stateshift.effects.models import BASELINES
from stateshift.evaluation.ceilings import gap_closed, is_worse
from stateshift.evaluation.scores import METRICS
from stateshift.metrics import paired_bootstrap

ALL = "all"
PAIR = ["fold", "context", "perturbation"]


def comparison_rows(scores: pd.DataFrame, ceiling: Callable[[pd.DataFrame], float]) -> pd.DataFrame:
    """One row a (regime, model, features), the highest Pearson delta first.

    Seeds are averaged pair by pair. The best baseline of a regime is the one of `BASELINES`, with any table, that has the
    highest mean Pearson delta there: it is chosen with the answers known, which makes it harder to beat and never
    easier.

    Parameters
    ----------
    scores
        A row a (`PAIR`, model, features, seed): ``regime``, ``route`` and the metrics.
    ceiling
        The Pearson delta that a second experiment of the same size would reach, of some pairs (columns `PAIR`).

    Returns
    -------
    pd.DataFrame
        ``regime`` (``all`` first), ``model``, ``features``, ``seeds``, ``pairs``; mean ``pearson_delta`` and ``sd`` over
        seeds; ``baseline``, the best one's name, and ``difference`` to it with ``low``, ``high`` (95 % paired bootstrap over
        perturbations; empty for the best itself); ``harm``, the share of pairs whose Pearson delta is below its;
        ``gap_closed``, from the context mean to the ``ceiling``; the other metrics; ``fallback``, the share of pairs that had
        no vector.
    """
    per_pair = _over_seeds(scores)
    present = [regime for regime in REGIMES if (scores["regime"] == regime).any()]
    rows = []
    for regime in [ALL, *(present if len(present) > 1 else [])]:
        part = per_pair if regime == ALL else per_pair[per_pair["regime"] == regime]
        rows += _of_regime(regime, part, ceiling(part[PAIR].drop_duplicates()))
    return pd.DataFrame(rows)


def _over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of every pair, and each seed's own Pearson delta as a list."""
    scores = scores.assign(fallback=scores["route"] == "fallback")
    grouped = scores.groupby(["model", "features", "regime", *PAIR], sort=False)
    means = grouped[[*METRICS, "fallback"]].mean()
    of_seeds = scores.set_index(["model", "features", *PAIR, "seed"])["pearson_delta"].unstack("seed")
    return means.reset_index().merge(
        of_seeds.rename(columns=lambda seed: f"seed {seed}").reset_index(), on=["model", "features", *PAIR]
    )


def _of_regime(regime: str, part: pd.DataFrame, ceiling: float) -> list[dict]:
    tables = {key: table.set_index(PAIR).sort_index() for key, table in part.groupby(["model", "features"], sort=False)}
    means = {key: table["pearson_delta"].mean() for key, table in tables.items()}
    of_baselines = {key: mean for key, mean in means.items() if key[0] in BASELINES and mean == mean}
    best = max(of_baselines, key=of_baselines.get) if of_baselines else None
    floor = next((mean for key, mean in means.items() if key[0] == "context_mean"), float("nan"))
    rows = []
    for key in sorted(means, key=lambda k: -np.nan_to_num(means[k], nan=-2)):
        table = tables[key]
        by_seed = table.filter(regex=r"^seed \d+$").mean().dropna()
        row = {"regime": regime, "model": key[0], "features": key[1], "seeds": len(by_seed), "pairs": len(table)}
        row |= {"pearson_delta": means[key], "sd": by_seed.std(), "baseline": _named(best)}
        row |= {"difference": np.nan, "low": np.nan, "high": np.nan, "harm": np.nan}
        if best is not None and key != best:
            row |= _against(table, tables[best])
        row |= {"gap_closed": gap_closed(means[key], floor, ceiling), "ceiling": ceiling}
        row |= {name: table[name].mean() for name in METRICS if name != "pearson_delta"}
        rows.append(row | {"fallback": table["fallback"].mean()})
    return rows


def _against(table: pd.DataFrame, best: pd.DataFrame) -> dict[str, float]:
    ours, theirs = table["pearson_delta"].align(best["pearson_delta"], join="inner")
    found = paired_bootstrap(ours, theirs, ours.index.get_level_values("perturbation"))
    known = (ours.notna() & theirs.notna()).to_numpy()
    worse = is_worse(ours, theirs)[known].mean() if known.any() else np.nan
    return {"difference": found.mean, "low": found.low, "high": found.high, "harm": worse}


def _named(key: tuple[str, str] | None) -> str:
    from stateshift.evaluation.comparison.experiment.candidates import NO_FEATURES

    if key is None:
        return ""
    return key[0] if key[1] == NO_FEATURES else f"{key[0]}, {key[1]}"
