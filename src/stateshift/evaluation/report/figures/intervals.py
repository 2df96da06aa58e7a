"""What the intervals hold: by regime, by level and by width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stateshift.evaluation.coverage import interval_coverage
from stateshift.evaluation.report.detail import Detail
from stateshift.evaluation.report.figures.canvas import ACCENT, INK, OTHER, cycle, new_figure
from stateshift.evaluation.result import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
BINS = 5


def coverage_bars(evaluation: Evaluation) -> Figure:
    """Coverage and mean half-width by regime and route, the model's and the mean baseline's side by side."""
    rows = interval_coverage(evaluation.scores, evaluation.model)[::-1]
    level = evaluation.about["intervals"]["level"]
    figure, (covered, width) = new_figure(8.4, 0.9 + 0.42 * len(rows), columns=2)
    at = np.arange(len(rows))
    for axes, name in ((covered, "covered"), (width, "half_width")):
        axes.barh(at + 0.19, rows[name], color=ACCENT, height=0.36, label=evaluation.model)
        axes.barh(at - 0.19, rows[f"mean_{name}"], color=OTHER, height=0.36, label="mean")
    labels = [f"{r.regime} · {r.route}" if r.route and r.route != r.regime else r.regime for r in rows.itertuples()]
    covered.set_yticks(at, labels)
    width.set_yticks(at, [""] * len(rows))
    covered.axvline(level, color=INK, linewidth=0.8, linestyle="--")
    covered.set_xlim(0, 1)
    covered.set_title("share of true changes inside", fontsize=9, color=INK)
    width.set_title("mean half-width (mean log1p)", fontsize=9, color=INK)
    width.legend(frameon=False, labelcolor=INK, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.12), ncols=2)
    return figure


def coverage_by_level(detail: Detail) -> dict[str, np.ndarray]:
    """Of each regime, and of all, the share of true effects inside at each of `LEVELS`.

    Only the level of the prediction is calibrated; half-widths of the others are that one's, scaled as a normal error's
    quantiles are.
    """
    from scipy.stats import norm

    known = np.isfinite(detail.half_widths)
    distance = np.abs(detail.centres - detail.measured) / np.where(detail.half_widths > 0, detail.half_widths, np.nan)
    scaled = norm.ppf(0.5 + LEVELS / 2) / norm.ppf(0.5 + detail.level / 2)
    regimes = detail.rows["regime"].to_numpy()
    parts = {"all": np.ones(len(regimes), bool)} | {r: regimes == r for r in sorted(set(regimes)) if r}
    found = {}
    for name, rows in parts.items():
        values = distance[rows][known[rows]]
        values = values[np.isfinite(values)]
        if len(values):
            found[name] = np.array([(values <= k).mean() for k in scaled])
    return found if len(found) != 2 else {"all": found["all"]}


def coverage_by_width(detail: Detail) -> tuple[np.ndarray, np.ndarray]:
    """Share inside of five parts of equally many (pair, gene), from the narrowest intervals up, and their mean half-widths."""
    known = np.isfinite(detail.half_widths)
    width = detail.half_widths[known]
    inside = np.abs(detail.centres - detail.measured)[known] <= width + 1e-9
    parts = np.array_split(np.argsort(width, kind="stable"), BINS)
    return np.array([inside[p].mean() for p in parts]), np.array([width[p].mean() for p in parts])


def calibration(detail: Detail) -> Figure | None:
    """Left: the share inside over the share aimed at; right: the share inside by width. None without intervals or a truth."""
    if detail.half_widths is None or detail.measured is None or not np.isfinite(detail.half_widths).any():
        return None
    figure, (by_level, by_width) = new_figure(8.4, 3.4, columns=2)
    curves = coverage_by_level(detail)
    by_level.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle="--")
    for colour, (name, shares) in zip(cycle(len(curves)), curves.items()):
        by_level.plot(LEVELS, shares, color=colour, linewidth=1.4, marker="o", markersize=3, label=name)
    by_level.axvline(detail.level, color=INK, linewidth=0.6, linestyle=":")
    by_level.set_xlabel("share aimed at")
    by_level.set_ylabel("share of true changes inside")
    if len(curves) > 1:
        by_level.legend(frameon=False, labelcolor=INK, fontsize=8)
    shares, widths = coverage_by_width(detail)
    by_width.plot(widths, shares, color=ACCENT, marker="o", markersize=4, linewidth=1.4)
    by_width.axhline(detail.level, color=INK, linewidth=0.7, linestyle="--")
    by_width.set_ylim(min(0.5, shares.min() - 0.05), 1)
    by_width.set_xlabel("mean half-width (mean log1p), by fifths")
    by_width.set_ylabel("share of true changes inside")
    return figure
