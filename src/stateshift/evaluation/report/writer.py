"""One self-contained HTML page of runs and evaluations: what was done, what it beats, and where it does not."""

from __future__ import annotations

from pathlib import Path

import stateshift
from stateshift.errors import StateshiftError
from stateshift.evaluation.evaluator import Evaluation
from stateshift.evaluation.report import page
from stateshift.evaluation.report.evaluation_section import evaluation_section
from stateshift.evaluation.report.run_section import is_run, run_section
from stateshift.files import written_beside


def write_report(source: Path | str, output: Path | str, overwrite: bool = False) -> Path:
    """Write one HTML page of the run directories and evaluations in a folder.

    Parameters
    ----------
    source
        A run directory, an evaluation's folder, or a folder with any of these below it.
    output
        The ``.html`` file. It fetches nothing: styles and figures are inside.
    overwrite
        Replace an existing file.

    Raises
    ------
    StateshiftError
        The folder is missing, or holds neither a run nor an evaluation.
    """
    source = Path(source)
    if not source.is_dir():
        raise StateshiftError(f"{source}: there is no such folder; give a run directory or an evaluation's folder.")
    folders = [source, *sorted(p for p in source.rglob("*") if p.is_dir() and not p.name.startswith("."))]
    runs = [folder for folder in folders if is_run(folder)]
    scored = [folder for folder in folders if (folder / "evaluation.json").is_file()]
    if not runs and not scored:
        raise StateshiftError(
            f"{source} holds neither a run (genes.txt, splits.json, …) nor an evaluation (evaluation.json): "
            "train first, or evaluate with an output folder."
        )
    evaluations = {_place(folder, source): Evaluation.load(folder) for folder in scored}
    body = _head(source, evaluations)
    for name, evaluation in evaluations.items():
        body += evaluation_section(evaluation, name)
    for run in runs:
        body += run_section(run, _place(run, source))
    if not evaluations:
        body.append(page.paragraph("No evaluation lies here yet: nothing is said of how good the model is.", "note"))
    body.append(f"<footer>Written by stateshift {page.text(stateshift.__version__)}.</footer>")
    title = f"stateshift report: {source.resolve().name}"
    with written_beside(output, overwrite) as part:
        part.write_text(page.page(title, body), encoding="utf-8")
    return Path(output)


def _head(source: Path, evaluations: dict[str, Evaluation]) -> list[str]:
    lines = [page.heading(source.resolve().name, 1), page.paragraph("stateshift report", "soft")]
    if any(evaluation.about.get("simulated") for evaluation in evaluations.values()):
        lines.append(
            page.paragraph(
                "The effects here are simulated: they show that the way works and say nothing about biology.", "note"
            )
        )
    return lines


def _place(folder: Path, source: Path) -> str:
    """A folder's name within the source, or its own name."""
    return source.resolve().name if folder == source else folder.relative_to(source).as_posix()
