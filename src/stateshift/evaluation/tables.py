"""An evaluation as tables for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from stateshift.evaluation.result import Evaluation
from stateshift.evaluation.scores import ALL, METRICS
from stateshift.metrics import FEWEST_GROUPS

if TYPE_CHECKING:
    from rich.table import Table

ORDER = ("pearson_delta", "mae", "pds_l1", "pds_cosine")
FEW = f"– with fewer than {FEWEST_GROUPS}"


def ranked_models(evaluation: Evaluation, context: str = ALL) -> list[str]:
    """The evaluated model, then the others from the highest Pearson delta down."""
    rows = evaluation.summary
    rows = rows[(rows["context"] == context) & (rows["metric"] == "pearson_delta")].set_index("model")["mean"]
    return [evaluation.model, *rows.drop(evaluation.model).sort_values(ascending=False, na_position="last").index]


def verdict(row: pd.Series) -> str:
    """What the interval of the model's difference to a baseline says.

    ``better``, ``worse``, ``open`` (zero lies within) or ``few`` (too few perturbations for an interval).
    """
    if not (math.isfinite(row["low"]) and math.isfinite(row["high"])):
        return "few"
    if row["low"] <= 0 <= row["high"]:
        return "open"
    return "better" if (row["low"] > 0) == METRICS[row["metric"]].higher_is_better else "worse"


def number(value: float, signed: bool = False) -> str:
    """Three decimals, or three digits below 0.01, zero below 1e-6; a dash where there is no value.

    Examples
    --------
    >>> number(0.51234), number(0.00123, signed=True), number(float("nan")), number(0)
    ('0.512', '+0.00123', '–', '0.000')
    """
    if not math.isfinite(value):
        return "–"
    if abs(value) < 1e-6:
        return "0.000"
    return f"{value:{'+' if signed else ''}{'.3g' if abs(value) < 0.01 else '.3f'}}"


def with_interval(row: pd.Series) -> str:
    """A difference and its interval, a dash where there is none.

    Examples
    --------
    >>> with_interval({"difference": 0.2, "low": 0.1, "high": 0.3})
    '+0.200 [+0.100, +0.300]'
    >>> with_interval({"difference": 0.2, "low": float("nan"), "high": float("nan")})
    '+0.200 [–]'
    """
    if not (math.isfinite(row["low"]) and math.isfinite(row["high"])):
        return f"{number(row['difference'], True)} [–]"
    return f"{number(row['difference'], True)} [{number(row['low'], True)}, {number(row['high'], True)}]"


def counted(pairs: int, perturbations: int) -> str:
    """How much was compared, in words.

    Examples
    --------
    >>> counted(8, 8), counted(16, 8)
    ('8 perturbations', '16 pairs (context, perturbation) of 8 perturbations')
    """
    said = f"{perturbations} perturbation{'s' if perturbations != 1 else ''}"
    return said if pairs == perturbations else f"{pairs} pairs (context, perturbation) of {said}"


def summary_table(evaluation: Evaluation, context: str = ALL) -> Table:
    """A rich table: a row a model; below a baseline's mean the model's difference to it with 95 % interval."""
    from rich.table import Table
    from rich.text import Text

    rows = evaluation.summary[evaluation.summary["context"] == context].set_index(["model", "metric"], drop=False)
    own = evaluation.scores[evaluation.scores["model"] == evaluation.model]
    own = own if context == ALL else own[own["context"] == context]
    table = Table(
        title=f"{context}: {counted(len(own), own['perturbation'].nunique())}",
        caption=f"second line: {evaluation.model} minus the baseline [95 % paired bootstrap over perturbations; {FEW}]",
        show_lines=True,
    )
    table.add_column("model")
    for metric in ORDER:
        table.add_column(f"{METRICS[metric].label} {'↑' if METRICS[metric].higher_is_better else '↓'}", justify="right")
    colours = {"better": "green", "worse": "red", "open": "dim", "few": "dim"}
    for model in ranked_models(evaluation, context):
        cells = []
        for metric in ORDER:
            row = rows.loc[(model, metric)]
            cell = Text(number(row["mean"]))
            if model != evaluation.model and math.isfinite(row["difference"]):
                cell.append("\n" + with_interval(row), style=colours[verdict(row)])
            cells.append(cell)
        table.add_row(Text(model, style="bold" if model == evaluation.model else ""), *cells)
    return table


def official_table(evaluation: Evaluation) -> Table:
    """cell-eval's scores as a rich table; an evaluation without them is an error of the caller."""
    from rich.table import Table

    if evaluation.official is None:
        raise ValueError("the evaluation holds no official scores")
    table = Table("context", "model", title="cell-eval, profile vcc")
    for label in ("DES ↑", "PDS ↑", "MAE ↓", "score ↑"):
        table.add_column(label, justify="right")
    for row in evaluation.official.itertuples():
        table.add_row(row.context, row.model, *(number(v) for v in (row.des, row.pds, row.mae, row.score)))
    return table


def responses_table(evaluation: Evaluation) -> Table:
    """Means of what was asked of responding genes, a row a context; an evaluation without them is a caller's error."""
    from rich.table import Table

    if evaluation.responses is None:
        raise ValueError("the evaluation holds no scores of responding genes")
    labels = {
        "des": "DES ↑", "precision": "precision ↑", "direction_match": "direction ↑", "lfc_spearman": "LFC Spearman ↑",
        "pr_auc": "PR AUC ↑", "roc_auc": "ROC AUC ↑", "score": "score of 2025 ↑",
    }  # fmt: skip
    table = Table("context", title=f"responding genes: {evaluation.model} against the truth's controls")
    for label in labels.values():
        table.add_column(label, justify="right")
    for context, means in evaluation.about["responses"].items():
        table.add_row(context, *(number(means[name]) for name in labels))
    return table


def sentences(evaluation: Evaluation, context: str = ALL) -> list[str]:
    """One sentence a metric: which baseline is best, and whether the model beats it, by how much with interval.

    Before them, one on each metric of a second prediction beside the first.
    """
    said = _on_second(evaluation, context)
    for metric in ORDER:
        label, up = METRICS[metric].label, METRICS[metric].higher_is_better
        rows = evaluation.summary
        rows = rows[(rows["context"] == context) & (rows["metric"] == metric)].set_index("model", drop=False)
        others = rows[rows.index.isin(evaluation.baselines)].dropna(subset=["mean"])
        own = rows.loc[evaluation.model]
        if others.empty or not math.isfinite(own["mean"]):
            said.append(f"{label}: no value, for want of two perturbations to tell apart.")
            continue
        best = others.loc[others["mean"].idxmax() if up else others["mean"].idxmin()]
        found = verdict(best)
        words = {"better": "better than", "worse": "worse than", "open": "not distinguishable from"}
        beside = f"is {words[found]}" if found in words else "stands beside"
        ending = "; too few perturbations to tell" if found == "few" else ""
        said.append(
            f"{label}: {evaluation.model} {number(own['mean'])} {beside} the best baseline, {best['model']} "
            f"({number(best['mean'])}): difference {with_interval(best)} over "
            f"{counted(int(best['pairs']), int(best['perturbations']))}{ending}; "
            f"{'higher' if up else 'lower'} is better."
        )
    return said


def columns_sentence(evaluation: Evaluation) -> str:
    """By which columns the truth's cells were found."""
    named = evaluation.about["columns"]
    return (
        f"The truth's columns: perturbation `{named['perturbation']}`, cell type `{named['cell_type']}`, "
        f"control `{named['control']}`."
    )


def _on_second(evaluation: Evaluation, context: str) -> list[str]:
    second = evaluation.about.get("against")
    if second is None:
        return []
    rows = evaluation.summary
    rows = rows[(rows["context"] == context) & (rows["model"] == second)].set_index("metric", drop=False)
    words = {"better": "better than", "worse": "worse than", "open": "not distinguishable from", "few": "beside"}
    return [
        f"{METRICS[metric].label}: {evaluation.model} is {words[verdict(rows.loc[metric])]} {second}: difference "
        f"{with_interval(rows.loc[metric])} over "
        f"{counted(int(rows.loc[metric, 'pairs']), int(rows.loc[metric, 'perturbations']))}."
        for metric in ORDER
    ]
