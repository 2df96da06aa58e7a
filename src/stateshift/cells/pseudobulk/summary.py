"""An effect table in a few lines: how reliable, and what is strongest."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stateshift.cells.pseudobulk.table import EffectTable

GENES_NAMED = 3


def context_summary(table: EffectTable) -> pd.DataFrame:
    """One row a context of an estimated table.

    Returns
    -------
    pd.DataFrame
        ``context``, ``perturbations``, ``cells``, ``n_unmatched``, and quartiles of ``reliability``:
        ``q25``, ``q50``, ``q75`` (NaN where no row has one).
    """
    frame = pd.DataFrame(
        {
            "context": table.contexts,
            "cells": table.n_cells,
            "n_unmatched": table.n_unmatched,
            "reliability": table.reliability,
        }
    )
    rows = frame.groupby("context", sort=True)
    summary = rows.agg(perturbations=("cells", "size"), cells=("cells", "sum"), n_unmatched=("n_unmatched", "sum"))
    for q in (25, 50, 75):
        summary[f"q{q}"] = rows["reliability"].quantile(q / 100)
    return summary.reset_index()


def strongest_effects(table: EffectTable, most: int = 10) -> pd.DataFrame:
    """The rows whose shrunk effects are largest, by their length over genes.

    Returns
    -------
    pd.DataFrame
        ``perturbation``, ``context``, ``cells``, ``reliability``, ``length`` (of the shrunk effect), ``genes``: the
        three largest shrunk effects, with their signs.
    """
    shrunk = np.nan_to_num(table.shrunk, nan=0.0)
    length = np.sqrt((shrunk.astype(np.float64) ** 2).sum(axis=1))
    best = np.argsort(-length, kind="stable")[:most]
    return pd.DataFrame(
        {
            "perturbation": [table.perturbations[r] for r in best],
            "context": [table.contexts[r] for r in best],
            "cells": table.n_cells[best],
            "reliability": table.reliability[best],
            "length": length[best],
            "genes": [_largest(table.genes, shrunk[r]) for r in best],
        }
    )


def _largest(genes: list[str], effect: np.ndarray) -> str:
    at = np.argsort(-np.abs(effect), kind="stable")[:GENES_NAMED]
    return ", ".join(f"{genes[i]} {effect[i]:+.2f}" for i in at if effect[i])
