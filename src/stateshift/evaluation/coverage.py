"""How many true effects the intervals of a prediction hold, and how wide they are beside the mean baseline's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from stateshift.cells.regimes import REGIMES

if TYPE_CHECKING:
    from rich.table import Table

    from stateshift.evaluation.result import Evaluation

EVERY = "all"
COLUMNS = ["regime", "route", "pairs", "perturbations", "covered", "half_width", "mean_covered", "mean_half_width"]


def interval_coverage(scores: pd.DataFrame, model: str) -> pd.DataFrame:
    """Coverage and width of a model's intervals by regime and route, and over all pairs first.

    Parameters
    ----------
    scores
        Of `stateshift.evaluation.Evaluation`.
    model
        The evaluated model.

    Returns
    -------
    DataFrame
        One row a (regime, route), ``all`` first: ``pairs`` and ``perturbations`` that have an interval; ``covered``, the share of
        their true (pair, gene) effects inside; ``half_width``, mean over pairs and genes; ``mean_covered`` and
        ``mean_half_width`` of the mean baseline's own intervals for the same pairs. Empty where there are no intervals.
    """
    own = scores[(scores["model"] == model) & scores["covered"].notna()]
    if own.empty:
        return pd.DataFrame(columns=COLUMNS)
    # a second prediction may be called `mean` too
    named = "mean (baseline)" if (scores["model"] == "mean (baseline)").any() else "mean"
    mean = scores[(scores["model"] == named) & (scores["model"] != model)]
    keys = ["context", "perturbation"]
    rows = own.merge(
        mean[[*keys, "covered", "half_width"]].rename(columns=lambda c: c if c in keys else f"mean_{c}"), "left", keys
    )
    order = [*REGIMES, ""]
    parts = [((EVERY, EVERY), rows)]
    parts += sorted(
        rows.fillna({"route": ""}).groupby(["regime", "route"]),
        key=lambda part: (order.index(part[0][0]), part[0][1]),
    )
    return pd.DataFrame([_row(*key, part) for key, part in parts], columns=COLUMNS)


def _row(regime: str, route: str, part: pd.DataFrame) -> dict[str, Any]:
    means = part[["covered", "half_width", "mean_covered", "mean_half_width"]].mean()
    counts = {"pairs": len(part), "perturbations": int(part["perturbation"].nunique())}
    return {"regime": regime, "route": route, **counts, **means.to_dict()}


def coverage_rows(evaluation: Evaluation) -> list[list[str]]:
    """`interval_coverage` as words and figures, a line a regime and route."""
    lines = []
    for row in interval_coverage(evaluation.scores, evaluation.model).to_dict("records"):
        narrower = f"{1 - row['half_width'] / row['mean_half_width']:+.0%}" if row["mean_half_width"] > 0 else "–"
        figures = [f"{row['covered']:.1%}", f"{row['half_width']:.3g}", *_of_mean(row), narrower]
        lines.append([row["regime"], row["route"], f"{row['pairs']:,}", *figures])
    return lines


HEADER = ("regime", "route", "pairs", "covered", "±", "mean covers", "mean ±", "narrower")


def coverage_table(evaluation: Evaluation) -> Table:
    """A rich table of the intervals, which the evaluation has to have."""
    from rich.table import Table
    from rich.text import Text

    level = evaluation.about["intervals"]["level"]
    table = Table(
        title=f"{level:.0%} intervals of {evaluation.model}",
        caption="covered: true effects inside; ±: mean half-width; beside them the mean baseline's own intervals",
    )
    for i, name in enumerate(HEADER):
        table.add_column(name, justify="left" if i < 2 else "right")
    for line in coverage_rows(evaluation):
        table.add_row(*map(Text, line))
    return table


def _of_mean(row: dict[str, Any]) -> list[str]:
    known = row["mean_covered"] == row["mean_covered"]
    return [f"{row['mean_covered']:.1%}", f"{row['mean_half_width']:.3g}"] if known else ["–", "–"]


def interval_sentences(evaluation: Evaluation) -> list[str]:
    """What the intervals hold, and how wide they are beside the mean baseline's; none without intervals."""
    if "intervals" not in evaluation.about:
        return []
    every, *parts = interval_coverage(evaluation.scores, evaluation.model).to_dict("records")
    by = ", ".join(f"{row['regime']} {row['route']} {row['covered']:.1%}".strip() for row in parts)
    said = (
        f"Intervals: the {evaluation.about['intervals']['level']:.0%} intervals of {evaluation.model} hold "
        f"{every['covered']:.1%} of the true effects over {every['pairs']:,} pairs"
        + (f" ({by})" if len(parts) > 1 else f" ({parts[0]['regime'] or 'no regime'})")
    )
    if not every["mean_half_width"] > 0:
        return [said + "."]
    ratio = every["half_width"] / every["mean_half_width"]
    wide = f"{abs(1 - ratio):.0%} {'narrower' if ratio <= 1 else 'wider'} than"
    return [
        f"{said}; their mean half-width {every['half_width']:.3g} is {wide} the mean baseline's own "
        f"({every['mean_half_width']:.3g}, which hold {every['mean_covered']:.1%})."
    ]
