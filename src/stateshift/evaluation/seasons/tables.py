"""A season's score for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from rich.table import Table

    from stateshift.evaluation.seasons.score_season import SeasonScore

LABELS = {
    "mae": "MAE ↓",
    "pds_l1": "PDS ↑",
    "des": "DES ↑",
    "pds_cosine": "cosine PDS ↑",
    "mse": "noise-corrected MSE ↓",
    "lfc_nmae": "fold-change error ↓",
    "direction_fidelity": "direction fidelity ↑",
    "direction_reach": "direction reach ↑",
    "jaccard": "Jaccard of responders ↑",
}


def season_table(score: SeasonScore) -> Table:
    """A row a context and member: its value, what it is measured by, and its score."""
    from rich.table import Table

    ends = {"baseline": "mean response (0)", "replicate": "replicate (1)"}
    if score.season == "2025":
        ends = {"baseline": "mean of the truth (0)"}
    table = Table("context", "member", title=f"the challenge's score of {score.season}")
    for label in ("value", *ends.values(), "score"):
        table.add_column(label, justify="right")
    for context, rows in score.members.groupby("context", sort=False):
        for row in rows.to_dict("records"):
            numbers = [row["value"], *(row[end] for end in ends), row["score"]]
            table.add_row(context, LABELS[row["member"]], *(_number(value) for value in numbers))
        table.add_row(context, "all", *[""] * (1 + len(ends)), _number(score.contexts[context].score), style="bold")
        table.add_section()
    return table


def season_sentences(score: SeasonScore) -> list[str]:
    """What the score says, and of 2025 the other measures."""
    n = len(score.contexts)
    said = [f"score {score.score:.4f}" + (f", the mean of {n} contexts" if n > 1 else "") + "."]
    undefined = score.members[score.members[["value", "baseline"]].isna().any(axis=1)]
    for context, rows in undefined.groupby("context", sort=False):
        names = " and ".join(LABELS[member][:-2] for member in rows["member"])
        said.append(f"{context}: so few perturbations or responding genes give no {names}, which counts as the worst.")
    if score.season == "2025":
        for row in score.means.to_dict("records"):
            values = [f"{k} {_number(v)}" for k, v in row.items() if k != "context" and pd.notna(v)]
            said.append(f"{row['context']}: {', '.join(values)}.")
    return said


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "–"
