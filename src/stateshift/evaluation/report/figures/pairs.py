"""Figures of one pair, and the map of all: what the report's explorer draws, for a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stateshift.evaluation.report.detail import Detail, Map
from stateshift.evaluation.report.detail.detail import FDR, RESPONSES
from stateshift.evaluation.report.figures.canvas import INK, MISSED, QUIET, SAME, kinds, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = 8


def scatter(detail: Detail, row: int) -> Figure:
    """Predicted over measured changes of a pair's genes; the strongest named, with their intervals."""
    figure, axes = new_figure(4.6, 4.4)
    true, predicted = detail.measured[row], detail.predicted[row]
    _points(axes, detail, row, true, predicted)
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    axes.plot(ends, ends, color=INK, linewidth=0.7, linestyle="--")
    strongest = np.argsort(-np.abs(true), kind="stable")[:LABELS]
    if detail.half_widths is not None:
        axes.errorbar(
            true[strongest], detail.centres[row, strongest], detail.half_widths[row, strongest],
            fmt="none", ecolor=INK, elinewidth=0.6, alpha=0.6,
        )  # fmt: skip
    _names(axes, detail, strongest, true, predicted)
    axes.set_xlabel("measured change (mean log1p)")
    axes.set_ylabel("predicted change (mean log1p)")
    return _titled(figure, detail, row)


def volcano(detail: Detail, row: int) -> Figure:
    """False discovery rates over the measured changes of a pair's genes, the predicted direction in colour."""
    figure, axes = new_figure(4.6, 4.4)
    true, height = detail.measured[row], -np.log10(np.maximum(detail.fdr[row], 5e-324))
    _points(axes, detail, row, true, height)
    axes.axhline(-np.log10(FDR), color=INK, linewidth=0.7, linestyle="--")
    axes.axvline(0, color=INK, linewidth=0.5)
    _names(axes, detail, np.argsort(-np.abs(true), kind="stable")[:LABELS], true, height)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("measured change (mean log1p)")
    axes.set_ylabel("−log10 false discovery rate")
    return _titled(figure, detail, row)


def maps(detail: Detail, by_name: dict[str, Map]) -> Figure:
    """A panel a map, a point a pair coloured by context, or a perturbation where contexts share its place."""
    figure, panels = new_figure(4.4 * len(by_name), 4.0, columns=len(by_name))
    for axes, (title, found) in zip(np.atleast_1d(panels), by_name.items()):
        if len(found.others):
            axes.scatter(*found.others.T, s=10, color=QUIET, linewidths=0, label="other genes")
        if found.by_perturbation:
            axes.scatter(*found.places.T, s=18, color=SAME, alpha=0.85, linewidths=0, label="predicted")
        else:
            for context, colour, rows in kinds(detail.rows["context"]):
                axes.scatter(*found.places[rows].T, s=18, color=colour, alpha=0.85, linewidths=0, label=context)
        axes.legend(frameon=False, labelcolor=INK, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=4)
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xlabel(f"first component ({found.explained[0]:.0%})")
        axes.set_ylabel(f"second component ({found.explained[1]:.0%})")
    return figure


def _points(axes: Axes, detail: Detail, row: int, x: np.ndarray, y: np.ndarray) -> None:
    said = detail.responses()[row]
    for kind, (name, colour) in enumerate(zip(RESPONSES, (QUIET, SAME, MISSED))):
        genes = np.flatnonzero(said == kind)
        axes.scatter(x[genes], y[genes], s=9, color=colour, linewidths=0, alpha=0.85, label=f"{name} ({len(genes):,})")
    axes.legend(frameon=False, labelcolor=INK, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)


def _names(axes: Axes, detail: Detail, genes: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Name the genes, the first of those whose names would lie on one another."""
    (low, high), height = axes.get_xlim(), np.ptp(axes.get_ylim())
    named: list[int] = []
    for i in genes:
        if any(abs(x[i] - x[j]) < 0.2 * (high - low) and abs(y[i] - y[j]) < 0.04 * height for j in named):
            continue
        named.append(i)
        left = x[i] > low + 0.8 * (high - low)
        axes.annotate(
            detail.genes[i], (x[i], y[i]), (-4 if left else 4, 2), textcoords="offset points", fontsize=7, color=INK,
            ha="right" if left else "left",
        )  # fmt: skip


def _titled(figure: Figure, detail: Detail, row: int) -> Figure:
    pair = detail.rows.loc[row]
    figure.suptitle(f"{pair['perturbation']} in {pair['context']}", fontsize=10, color=INK)
    return figure
