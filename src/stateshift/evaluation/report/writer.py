"""One self-contained HTML page of runs, evaluations and predictions: what was done, what it beats, and where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import stateshift
from stateshift.errors import StateshiftError
from stateshift.evaluation.report import page
from stateshift.evaluation.report.explorer import explorer_section
from stateshift.evaluation.report.explorer.section import script
from stateshift.evaluation.report.figures.named import maps_of
from stateshift.evaluation.report.sections.comparison import comparison_section
from stateshift.evaluation.report.sections.evaluation import evaluation_section
from stateshift.evaluation.report.sections.problems import problems_section
from stateshift.evaluation.report.sections.run import run_section
from stateshift.evaluation.report.sections.words import words_section
from stateshift.evaluation.report.sources import Source, read_source
from stateshift.files import written_beside


def write_report(
    source: Path | str,
    output: Path | str,
    *,
    prediction: Path | str | None = None,
    truth: Path | str | None = None,
    gene_sets: Path | str | None = None,
    columns: Mapping[str, str | None] | None = None,
    scale: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page of what a folder holds: runs, evaluations, and one prediction pair by pair.

    Parameters
    ----------
    source
        A run directory, an evaluation's or a comparison's folder, a folder with any of these below it, or predicted cells.
    output
        The ``.html`` file. It fetches nothing: styles, figures, data and script are inside.
    prediction, truth
        The cells to show pair by pair; by default those that the first evaluation names, beside its folder or in
        `source`. Predicted cells with a truth that no evaluation is of are evaluated. Pairs are those of
        `stateshift.evaluation.evaluate`; which genes respond, its truth says by the rank-sum test at a false discovery rate
        of 0.05.
    gene_sets
        A GMT file, whose sets stand beside the top genes; by default the one that a run's features were made of.
    columns
        The truth's ``perturbation``, ``cell_type`` and ``control``; by default those that the cells were evaluated or
        predicted with.
    scale
        The truth's scale, where its values don't say.
    overwrite
        Replace an existing file.

    Returns
    -------
    Path
        `output`. At 300 pairs × 2,000 genes the page is below 5 MB; where pairs × genes are more than 600,000, the genes of
        the strongest effects are kept for the plots, and the page says so.

    Raises
    ------
    StateshiftError
        There is no such folder or file, nothing in it to tell of, or cells that `evaluate` refuses.
    """
    output = Path(output)
    if output.suffix.lower() != ".html":
        raise StateshiftError(f"{output}: a report is written as .html, name {output.with_suffix('.html').name}.")
    if output.exists() and not overwrite:
        raise StateshiftError(f"{output} exists already: choose another name or pass --overwrite.")
    found = read_source(source, prediction=prediction, truth=truth, gene_sets=gene_sets, columns=columns, scale=scale)
    body = _body(found)
    with written_beside(output, overwrite) as part:
        text = page.page(f"stateshift report: {found.name}", body, script() if found.detail is not None else "")
        part.write_text(text, encoding="utf-8")
    return output


def _body(found: Source) -> list[str]:
    anchors = {"problems": "Problems found"}
    parts = []
    for i, (name, evaluation) in enumerate(found.evaluations.items()):
        anchors[f"evaluation-{i}"] = f"Evaluation {name}" if name not in ("", "evaluation") else "Evaluation"
        shown = found.detail if found.detail is not None and found.shown == name else None
        parts += evaluation_section(evaluation, name, f"evaluation-{i}", shown)
    if found.detail is not None:
        anchors["perturbations"] = "Perturbation by perturbation"
        parts += explorer_section(found.detail, maps_of(found), found.gene_sets)
    for i, (name, folder) in enumerate(found.comparisons.items()):
        anchors[f"comparison-{i}"] = f"Comparison {name}"
        parts += comparison_section(folder, name, f"comparison-{i}")
    for i, (name, run) in enumerate(found.runs.items()):
        anchors[f"run-{i}"] = f"Run {name}"
        parts += run_section(run, name, f"run-{i}")
    if words := words_section(found):
        anchors["words"] = "What the words mean"
    head = _head(found)
    footer = f"<footer>Written by stateshift {page.text(stateshift.__version__)}.</footer>"
    return [*head, page.contents(anchors), *problems_section(found), *parts, *words, footer]


def _head(found: Source) -> list[str]:
    lines = [page.heading(found.name, 1), page.paragraph("stateshift report", "soft")]
    simulated = any(evaluation.about.get("simulated") for evaluation in found.evaluations.values())
    if simulated or (found.detail is not None and found.detail.simulated):
        lines.append(
            page.paragraph(
                "The effects here are simulated: they show that the way works and say nothing about biology.", "note"
            )
        )
    return lines
