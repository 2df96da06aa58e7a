"""The report's part on an evaluation: what the model beats and what it does not, tables, figures, notes."""

from __future__ import annotations

import math

from stateshift.errors import some
from stateshift.evaluation.ceilings import TIERS, ceiling_sentences, percent, tiers
from stateshift.evaluation.coverage import HEADER as COVERAGE_HEADER
from stateshift.evaluation.coverage import coverage_rows, interval_sentences
from stateshift.evaluation.pairing import ORACLE
from stateshift.evaluation.report import page
from stateshift.evaluation.report.detail import Detail
from stateshift.evaluation.report.figures.canvas import inline_svg
from stateshift.evaluation.report.figures.intervals import calibration, coverage_bars
from stateshift.evaluation.report.figures.scores import (
    against_baseline,
    best_baseline,
    by_perturbation,
    model_means,
    side_by_side,
)
from stateshift.evaluation.result import Evaluation
from stateshift.evaluation.scores import ALL, METRICS
from stateshift.evaluation.tables import (
    FEW,
    ORDER,
    counted,
    number,
    ranked_models,
    sentences,
    verdict,
    with_interval,
)
from stateshift.metrics import FEWEST_GROUPS

COVERAGE_MEANING = (
    "covered: true changes inside; ±: mean half-width (units of log1p); beside them the mean baseline's own intervals, and how much "
    "narrower the model's are."
)


def evaluation_section(evaluation: Evaluation, name: str, anchor: str, detail: Detail | None) -> list[str]:
    """HTML of one evaluation: sentences, table, figures, notes; `detail` where its cells were read."""
    about, scores = evaluation.about, evaluation.scores
    contexts = sorted(scores["context"].unique())
    own = scores[scores["model"] == evaluation.model]
    lines = [page.heading(f"Evaluation: {name}" if name and name != "evaluation" else "Evaluation", anchor=anchor)]
    where = f"in {some(contexts, 12)}"
    lines.append(page.paragraph(f"{about.get('predicted', '?')} against {about.get('truth', '?')} {where}", "soft"))
    lines.append(
        page.facts(
            {
                "perturbations scored": own["perturbation"].nunique(),
                "pairs with a context": len(own),
                "contexts": len(contexts),
                "genes": f"{about.get('genes', 0):,}",
                "scale": about.get("scale", "?"),
                "true cells": f"{int(own['n_true'].sum()):,}",
            }
        )
    )
    lines += [
        page.heading("What it beats, and what it does not", 3),
        page.listing([*sentences(evaluation), *ceiling_sentences(evaluation)]),
    ]
    lines.append(page.paragraph(_harm(evaluation)))
    lines += [page.heading("All models", 3), _models_table(evaluation, ALL)]
    lines.append(
        page.paragraph(
            f"Below each baseline's mean: {evaluation.model} minus the baseline, with a 95 % interval from a paired "
            f"bootstrap over perturbations, each drawn with all its contexts ({FEW}); green and ✓ where the interval "
            "lies on the better side of zero, red and ✗ on the worse.",
            "soft",
        )
    )
    svg = inline_svg(model_means(evaluation), f"Mean scores of {', '.join(ranked_models(evaluation))}")
    lines.append(
        page.figure(
            svg,
            "Means over all scored pairs of context and perturbation; dotted: a second experiment of the same size.",
        )
    )
    lines += _floor_and_ceiling(evaluation)
    if len(contexts) > 1:
        for context in contexts:
            lines += [page.heading(context, 3), _models_table(evaluation, context)]
    lines += _by_perturbation(evaluation)
    lines += _intervals(evaluation, detail)
    if evaluation.official is not None:
        lines += _official(evaluation)
    if evaluation.notes:
        lines += [page.heading("What was left out, and why", 3), page.listing(evaluation.notes)]
    return lines


def _harm(evaluation: Evaluation) -> str:
    """On how many perturbations the best baseline would have been the better choice."""
    baseline = best_baseline(evaluation)
    if baseline is None:
        return "No Pearson delta is defined here: the true effects are constant."
    pairs = side_by_side(evaluation, baseline, "pearson_delta")
    worse = int((pairs["model"] < pairs["baseline"]).sum())
    perturbations = pairs["perturbation"].nunique()
    scored = counted(len(pairs), perturbations)
    said = f"By Pearson delta {evaluation.model} is worse than {baseline} on {worse} of {scored}"
    ending = f"; that baseline knows the answers ({ORACLE})." if baseline == ORACLE else "."
    few = " With so few perturbations the intervals are rough." if FEWEST_GROUPS <= perturbations < 10 else ""
    return said + ending + few


def _models_table(evaluation: Evaluation, context: str) -> str:
    rows = evaluation.summary[evaluation.summary["context"] == context].set_index(["model", "metric"], drop=False)
    header = [f"{METRICS[m].label} {'↑' if METRICS[m].higher_is_better else '↓'}" for m in ORDER]
    lines = []
    for model in ranked_models(evaluation, context):
        cells = [f"<td>{page.text(model)}</td>"]
        for metric in ORDER:
            row = rows.loc[(model, metric)]
            below = ""
            if model != evaluation.model and math.isfinite(row["difference"]):
                below = f'<small class="{verdict(row)}">{page.text(with_interval(row))}</small>'
            cells.append(f"<td>{page.text(number(row['mean']))}{below}</td>")
        kind = ' class="ours"' if model == evaluation.model else ""
        lines.append(f"<tr{kind}>{''.join(cells)}</tr>")
    return page.raw_table(["model", *header], lines)


def _floor_and_ceiling(evaluation: Evaluation) -> list[str]:
    """The scores between what the context's mean and what a second experiment reach, and by how well effects repeat."""
    rows = evaluation.ceilings[evaluation.ceilings["context"] == ALL].to_dict("records")
    if not rows:
        return [page.paragraph("No floor and ceiling: the evaluation is of an earlier version.", "soft")]
    header = ("", f"floor: {rows[0]['floor_name']}", evaluation.model, "a second experiment", "gap closed", "harm")
    lines = [
        page.heading("Between floor and ceiling", 3),
        page.table(
            header,
            [
                (
                    METRICS[row["metric"]].label, number(row["floor"]), number(row["score"]), number(row["ceiling"]),
                    percent(row["gap_closed"]), percent(row["harm"]),
                )
                for row in rows
            ],
        ),
        page.paragraph(
            "A second experiment: one half of the true cells against the other, brought to its size (PDS: at least that). Harm: "
            "pairs on which the floor is better.",
            "soft",
        ),
    ]  # fmt: skip
    by_tier = tiers(evaluation.scores)
    shown = [tier for tier in TIERS if tier in set(by_tier["tier"])]
    if shown:
        wide = by_tier.pivot(index="model", columns="tier", values="pearson_delta")
        pairs = by_tier.groupby("tier")["pairs"].first()
        models = [model for model in ranked_models(evaluation) if model in wide.index]
        lines += [
            page.heading("Pearson delta by how well the measured effect repeats", 3),
            page.table(
                ("model", *(f"{tier} ({pairs[tier]:,} pairs)" for tier in shown)),
                [(model, *(number(wide.loc[model, tier]) for tier in shown)) for model in models],
            ),
        ]
    return lines


def _by_perturbation(evaluation: Evaluation) -> list[str]:
    baseline = best_baseline(evaluation)
    if baseline is None:
        return []
    lines = [page.heading("By perturbation", 3)]
    svg = inline_svg(against_baseline(evaluation, baseline), f"Pearson delta of {evaluation.model} over {baseline}")
    lines.append(page.figure(svg, f"Above the line {evaluation.model} is nearer the truth than {baseline}."))
    drawn, left_out = by_perturbation(evaluation, baseline)
    ending = f" {left_out} with smaller differences are not drawn; scores.csv holds them." if left_out else ""
    svg = inline_svg(drawn, f"Pearson delta by perturbation, {evaluation.model} and {baseline}")
    lines.append(page.figure(svg, f"Pearson delta of {evaluation.model} and {baseline}.{ending}"))
    return lines


def _intervals(evaluation: Evaluation, detail: Detail | None) -> list[str]:
    if "intervals" not in evaluation.about:
        return [page.paragraph(f"{evaluation.model} gives no intervals.", "soft")]
    level = evaluation.about["intervals"]["level"]
    svg = inline_svg(coverage_bars(evaluation), f"Coverage and half-widths of the {level:.0%} intervals")
    lines = [
        page.heading(f"{level:.0%} intervals", 3),
        page.listing(interval_sentences(evaluation)),
        page.table(COVERAGE_HEADER, coverage_rows(evaluation), left=2),
        page.paragraph(COVERAGE_MEANING, "soft"),
        page.figure(
            svg, f"Left: the share of true effects inside, beside the {level:.0%} that are aimed at (line). Right: mean half-widths."
        ),
    ]  # fmt: skip
    drawn = None if detail is None else calibration(detail)
    if drawn is not None:
        lines.append(
            page.figure(
                inline_svg(drawn, "Calibration of the intervals"),
                f"Left: the share of true effects inside over the share aimed at. Only {level:.0%} is calibrated (dotted); the "
                "other levels scale its half-widths as a normal error would. Right: the share inside from narrow to wide.",
            )
        )
    return lines


def _official(evaluation: Evaluation) -> list[str]:
    rows = [
        (row.context, row.model, number(row.des), number(row.pds), number(row.mae), number(row.score))
        for row in evaluation.official.itertuples()
    ]
    header = ("context", "model", "DES ↑", "PDS ↑", "MAE ↓", "score ↑")
    return [page.heading("The challenge's own scores (cell-eval, profile vcc)", 3), page.table(header, rows)]
