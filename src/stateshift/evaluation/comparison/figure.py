"""A comparison as a picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from stateshift.effects.models import BASELINES
from stateshift.evaluation.report.figures.canvas import without_mathematics
from stateshift.files import written_beside


def draw_comparison(rows: pd.DataFrame, path: Path) -> None:
    """A panel a regime: mean Pearson delta of each row, baselines hollow, and the ceiling as a line.

    Where a row differs from the best baseline, its interval lies about that baseline's value plus the difference.
    """
    from matplotlib.figure import Figure

    regimes = list(dict.fromkeys(rows["regime"]))
    labels = [f"{m}, {f}" if f != "–" else m for m, f in zip(rows["model"], rows["features"])]
    rows = rows.assign(label=labels)
    order = rows[rows["regime"] == regimes[0]]["label"].tolist()[::-1]
    figure = Figure(figsize=(3.2 + 3.0 * len(regimes), 0.32 * len(order) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(regimes), sharey=True, squeeze=False)[0]
    for axes, regime in zip(panels, regimes):
        part = rows[rows["regime"] == regime].set_index("label")
        best = part["pearson_delta"].get(part["baseline"].iloc[0], float("nan"))
        for y, label in enumerate(order):
            if label not in part.index:
                continue
            row = part.loc[label]
            axes.plot([best + row["low"], best + row["high"]], [y, y], color="#4c72b0", linewidth=2, alpha=0.6)
            hollow = row["model"] in BASELINES
            axes.plot(row["pearson_delta"], y, "o", color="#4c72b0", markerfacecolor="white" if hollow else "#4c72b0")
        axes.axvline(best, color="#999999", linewidth=1, linestyle=":")
        axes.axvline(part["ceiling"].iloc[0], color="#c44e52", linewidth=1)
        axes.set_title(f"{regime} ({part['pairs'].max():,} pairs)", fontsize=9)
        axes.set_xlabel("Pearson delta", fontsize=8)
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(order)), order, fontsize=8)
    figure.supxlabel(
        "○ baseline   ● model, with its 95 % interval to the best baseline (dotted)   red: a second experiment",
        fontsize=7,
    )
    with written_beside(path, overwrite=True) as part:
        without_mathematics(figure).savefig(part, dpi=150)
