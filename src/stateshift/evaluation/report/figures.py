"""Figures of the report as inline SVG that takes its text colour from the page, light or dark."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stateshift.evaluation.coverage import interval_coverage
from stateshift.evaluation.evaluator import Evaluation
from stateshift.evaluation.scores import ALL, METRICS
from stateshift.evaluation.tables import ORDER, ranked_models

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# drawn in this colour, then replaced by currentColor
INK = "#010203"
ACCENT, OTHER = "#d9480f", "#7c8a99"
CONTEXT_COLOURS = ("#d9480f", "#1c7ed6", "#2b8a3e", "#9c36b5", "#e67700", "#0b7285", "#c2255c", "#5c940d")
MOST_ROWS = 40


def training_curves(metrics: pd.DataFrame) -> str | None:
    """Every loss column of a ``metrics.csv`` against its step (or row); None where there is none."""
    step = metrics["step"] if "step" in metrics else pd.Series(range(len(metrics)))
    losses = [
        c for c in metrics.columns if "loss" in str(c).lower() and pd.to_numeric(metrics[c], "coerce").notna().any()
    ]
    if not losses:
        return None
    figure, axes = _figure(7.2, 3.0)
    for colour, name in zip(_cycle(len(losses)), losses):
        values = pd.to_numeric(metrics[name], "coerce")
        there = values.notna()
        style = {"marker": "o", "markersize": 3} if there.sum() <= 30 else {}
        axes.plot(step[there], values[there], label=str(name), color=colour, linewidth=1.4, **style)
    axes.set_xlabel("step" if "step" in metrics else "row")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return _svg(figure, "Training curves: " + ", ".join(map(str, losses)))


def model_means(evaluation: Evaluation, context: str = ALL) -> str:
    """A panel a metric, a bar a model: the means over all pairs."""
    models = ranked_models(evaluation, context)[::-1]
    rows = evaluation.summary[evaluation.summary["context"] == context].set_index(["model", "metric"])["mean"]
    figure, panels = _figure(8.4, 0.6 + 0.32 * len(models), columns=len(ORDER))
    for i, (axes, metric) in enumerate(zip(panels, ORDER)):
        values = [rows[(model, metric)] for model in models]
        colours = [ACCENT if model == evaluation.model else OTHER for model in models]
        axes.barh(range(len(models)), np.nan_to_num(values), color=colours, height=0.62)
        axes.set_yticks(range(len(models)), models if i == 0 else [""] * len(models))
        axes.axvline(0, color=INK, linewidth=0.6)
        axes.set_title(
            f"{METRICS[metric].label} {'↑' if METRICS[metric].higher_is_better else '↓'}", fontsize=9, color=INK
        )
        axes.locator_params(axis="x", nbins=4)
    return _svg(figure, "Mean scores of " + ", ".join(models[::-1]))


def against_baseline(evaluation: Evaluation, baseline: str, metric: str) -> str:
    """A point a (context, perturbation): the model's score over the baseline's, with the line of equality."""
    table = _side_by_side(evaluation, baseline, metric)
    figure, axes = _figure(4.6, 4.2)
    contexts = sorted(table["context"].unique())
    for colour, context in zip(_cycle(len(contexts)), contexts):
        part = table[table["context"] == context]
        axes.scatter(part["baseline"], part["model"], s=22, color=colour, alpha=0.8, label=context, linewidths=0)
    ends = [np.nanmin(table[["baseline", "model"]]), np.nanmax(table[["baseline", "model"]])]
    axes.plot(ends, ends, color=INK, linewidth=0.7, linestyle="--")
    axes.set_xlabel(f"{baseline}: {METRICS[metric].label}")
    axes.set_ylabel(f"{evaluation.model}: {METRICS[metric].label}")
    if len(contexts) <= len(CONTEXT_COLOURS):
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return _svg(figure, f"{METRICS[metric].label} of {evaluation.model} over {baseline}, a point a perturbation")


def by_perturbation(evaluation: Evaluation, baseline: str, metric: str) -> tuple[str, int]:
    """A row a (context, perturbation), the model's and the baseline's score joined; and how many were left out.

    The rows with the largest differences, at most 40.
    """
    table = _side_by_side(evaluation, baseline, metric)
    table["gap"] = table["model"] - table["baseline"]
    left_out = max(0, len(table) - MOST_ROWS)
    table = table.reindex(table["gap"].abs().sort_values(ascending=False).index)[:MOST_ROWS].sort_values("gap")
    figure, axes = _figure(6.4, 0.9 + 0.2 * len(table))
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
    return _svg(figure, f"{METRICS[metric].label} by perturbation, {evaluation.model} and {baseline}"), left_out


def intervals(evaluation: Evaluation) -> str:
    """Coverage and mean half-width by regime and route, the model's and the mean baseline's side by side."""
    rows = interval_coverage(evaluation.scores, evaluation.model)[::-1]
    level = evaluation.about["intervals"]["level"]
    figure, (covered, width) = _figure(8.4, 0.9 + 0.42 * len(rows), columns=2)
    at = np.arange(len(rows))
    for axes, name in ((covered, "covered"), (width, "half_width")):
        axes.barh(at + 0.19, rows[name], color=ACCENT, height=0.36, label=evaluation.model)
        axes.barh(at - 0.19, rows[f"mean_{name}"], color=OTHER, height=0.36, label="mean")
    labels = [f"{r.regime} · {r.route}" if r.route and r.route != r.regime else r.regime for r in rows.itertuples()]
    covered.set_yticks(at, labels)
    width.set_yticks(at, [""] * len(rows))
    covered.axvline(level, color=INK, linewidth=0.8, linestyle="--")
    covered.set_xlim(0, 1)
    covered.set_title("covered", fontsize=9, color=INK)
    width.set_title("half-width", fontsize=9, color=INK)
    width.legend(frameon=False, labelcolor=INK, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.12), ncols=2)
    return _svg(figure, f"Coverage and half-widths of the {level:.0%} intervals of {evaluation.model}")


def _side_by_side(evaluation: Evaluation, baseline: str, metric: str) -> pd.DataFrame:
    wide = evaluation.scores.pivot(index=["context", "perturbation"], columns="model", values=metric)
    wide = wide[[evaluation.model, baseline]].dropna()
    wide.columns = ["model", "baseline"]
    return wide.reset_index()


def _cycle(count: int) -> list[str]:
    return [CONTEXT_COLOURS[i % len(CONTEXT_COLOURS)] for i in range(count)]


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Axes | np.ndarray]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots(1, columns)
    for one in np.atleast_1d(axes):
        one.patch.set_alpha(0)
        one.tick_params(colors=INK, labelsize=8)
        one.xaxis.label.set_color(INK)
        one.yaxis.label.set_color(INK)
        for side, spine in one.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(INK)
            spine.set_linewidth(0.6)
    return figure, axes


def _svg(figure: Figure, described: str) -> str:
    """The figure's ``<svg>`` element: text kept as text, the same bytes for the same data."""
    import matplotlib

    settings = {"svg.fonttype": "none", "svg.hashsalt": described}
    with matplotlib.rc_context(settings):
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(described, quote=True)}"', 1)
