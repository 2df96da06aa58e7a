"""Scores of a model beside its baselines: means, and perturbation by perturbation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.evaluation.report.figures.canvas import ACCENT, INK, OTHER, kinds, new_figure
from stateshift.evaluation.result import Evaluation
from stateshift.evaluation.scores import ALL, METRICS
from stateshift.evaluation.tables import ORDER, ranked_models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 40


def best_baseline(evaluation: Evaluation, metric: str = "pearson_delta", context: str = ALL) -> str | None:
    """The baseline with the best mean of a metric; None where no baseline has a value."""
    rows = evaluation.summary
    rows = rows[(rows["context"] == context) & (rows["metric"] == metric)].set_index("model")["mean"]
    rows = rows[rows.index.isin(evaluation.baselines)].dropna()
    if rows.empty:
        return None
    return str(rows.idxmax() if METRICS[metric].higher_is_better else rows.idxmin())


def side_by_side(evaluation: Evaluation, baseline: str, metric: str) -> pd.DataFrame:
    """One row a pair: ``context``, ``perturbation``, the ``model``'s score and the ``baseline``'s."""
    wide = evaluation.scores.pivot(index=["context", "perturbation"], columns="model", values=metric)
    wide = wide[[evaluation.model, baseline]].dropna()
    wide.columns = ["model", "baseline"]
    return wide.reset_index()


def model_means(evaluation: Evaluation, context: str = ALL) -> Figure:
    """A panel a metric, a bar a model: the means over all pairs, and the ceiling as a line."""
    models = ranked_models(evaluation, context)[::-1]
    rows = evaluation.summary[evaluation.summary["context"] == context].set_index(["model", "metric"])["mean"]
    of = evaluation.ceilings
    ceilings = of[of["context"] == context].dropna(subset="ceiling").set_index("metric")["ceiling"].to_dict()
    figure, panels = new_figure(8.4, 0.6 + 0.32 * len(models), columns=len(ORDER))
    for i, (axes, metric) in enumerate(zip(panels, ORDER)):
        values = [rows[(model, metric)] for model in models]
        colours = [ACCENT if model == evaluation.model else OTHER for model in models]
        axes.barh(range(len(models)), np.nan_to_num(values), color=colours, height=0.62)
        axes.set_yticks(range(len(models)), models if i == 0 else [""] * len(models))
        axes.axvline(0, color=INK, linewidth=0.6)
        if metric in ceilings:
            axes.axvline(ceilings[metric], color=INK, linewidth=1, linestyle=":")
        axes.set_title(
            f"{METRICS[metric].label} {'↑' if METRICS[metric].higher_is_better else '↓'}", fontsize=9, color=INK
        )
        axes.locator_params(axis="x", nbins=4)
    return figure


def against_baseline(evaluation: Evaluation, baseline: str, metric: str = "pearson_delta") -> Figure:
    """A point a (context, perturbation): the model's score over the baseline's, with the line of equality."""
    table = side_by_side(evaluation, baseline, metric)
    figure, axes = new_figure(4.6, 4.2)
    for context, colour, rows in kinds(table["context"]):
        part = table[rows]
        axes.scatter(part["baseline"], part["model"], s=22, color=colour, alpha=0.8, label=context, linewidths=0)
    ends = [np.nanmin(table[["baseline", "model"]]), np.nanmax(table[["baseline", "model"]])]
    axes.plot(ends, ends, color=INK, linewidth=0.7, linestyle="--")
    axes.set_xlabel(f"{baseline}: {METRICS[metric].label}")
    axes.set_ylabel(f"{evaluation.model}: {METRICS[metric].label}")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return figure


def by_perturbation(evaluation: Evaluation, baseline: str, metric: str = "pearson_delta") -> tuple[Figure, int]:
    """A row a (context, perturbation), the model's and the baseline's score joined; and how many were left out.

    The rows with the largest differences, at most 40.
    """
    table = side_by_side(evaluation, baseline, metric)
    table["gap"] = table["model"] - table["baseline"]
    left_out = max(0, len(table) - MOST_ROWS)
    table = table.reindex(table["gap"].abs().sort_values(ascending=False).index)[:MOST_ROWS].sort_values("gap")
    figure, axes = new_figure(6.4, 0.9 + 0.2 * len(table))
    rows = np.arange(len(table))
    axes.hlines(rows, table["baseline"], table["model"], color=OTHER, linewidth=1)
    axes.scatter(table["baseline"], rows, s=18, color=OTHER, label=baseline, zorder=3, linewidths=0)
    axes.scatter(table["model"], rows, s=24, color=ACCENT, label=evaluation.model, zorder=4, linewidths=0)
    several = table["context"].nunique() > 1
    names = [f"{r.perturbation} · {r.context}" if several else r.perturbation for r in table.itertuples()]
    axes.set_yticks(rows, names, fontsize=7)
    axes.set_ylim(-0.8, len(table) - 0.2)
    axes.set_xlabel(METRICS[metric].label)
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure, left_out
