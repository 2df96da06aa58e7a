"""Learning curves of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from stateshift.evaluation.report.figures.canvas import INK, cycle, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW_POINTS = 30


def loss_columns(metrics: pd.DataFrame) -> list[str]:
    """The columns of a ``metrics.csv`` that hold a loss."""
    return [
        c for c in metrics.columns if "loss" in str(c).lower() and pd.to_numeric(metrics[c], "coerce").notna().any()
    ]


def learning_curves(metrics: pd.DataFrame) -> Figure | None:
    """Losses of a ``metrics.csv`` against its step (or row), and Pearson delta of validation beside them.

    None where it holds no loss.
    """
    losses = loss_columns(metrics)
    if not losses:
        return None
    panels = [("loss", losses)]
    if "val_pearson_delta" in metrics and metrics["val_pearson_delta"].notna().any():
        panels.append(("Pearson delta", ["val_pearson_delta"]))
    figure, axes = new_figure(4.6 * len(panels) if len(panels) > 1 else 7.2, 3.0, columns=len(panels))
    for one, (label, names) in zip([axes] if len(panels) == 1 else axes, panels):
        _lines(one, metrics, names)
        one.set_ylabel(label)
    return figure


def _lines(axes, metrics: pd.DataFrame, names: list[str]) -> None:
    step = metrics["step"] if "step" in metrics else pd.Series(range(len(metrics)))
    for colour, name in zip(cycle(len(names)), names):
        values = pd.to_numeric(metrics[name], "coerce")
        there = values.notna()
        style = {"marker": "o", "markersize": 3} if there.sum() <= FEW_POINTS else {}
        axes.plot(step[there], values[there], label=str(name), color=colour, linewidth=1.4, **style)
    axes.set_xlabel("training step" if "step" in metrics else "row")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)
