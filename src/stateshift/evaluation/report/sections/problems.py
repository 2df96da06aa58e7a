"""The report's first part: what was found wrong or missing, in one list."""

from __future__ import annotations

from stateshift.evaluation.flags import flag_sentences
from stateshift.evaluation.report import page
from stateshift.evaluation.report.sources import Source
from stateshift.evaluation.result import Evaluation

OFF = 0.03
"""How far the share inside may lie from the level before it is a problem."""


def problems_section(found: Source) -> list[str]:
    """HTML of what evaluations flag, what intervals miss, and the parts that this page lacks."""
    lines = [page.heading("Problems found", anchor="problems")]
    problems = [said for name, e in found.evaluations.items() for said in _of_evaluation(e, _prefix(found, name))]
    if not found.evaluations and not found.comparisons:
        problems.append("No evaluation lies here yet: nothing is said of how good the model is.")
    if problems:
        lines.append(page.listing(problems))
    else:
        lines.append(page.paragraph("None by the checks that were made."))
    absent = list(found.absent)
    if not found.runs:
        absent.append("No run is here: nothing is said of training, splits and features.")
    if absent:
        lines += [page.heading("What this page lacks", 3), page.listing(absent)]
    return lines


def _prefix(found: Source, name: str) -> str:
    return f"{name}: " if len(found.evaluations) > 1 else ""


def _of_evaluation(evaluation: Evaluation, prefix: str) -> list[str]:
    said = [prefix + flag for flag in flag_sentences(evaluation.flags)]
    intervals = evaluation.about.get("intervals")
    if intervals:
        for row in intervals["by"]:
            if abs(row["covered"] - intervals["level"]) > OFF:
                where = "" if row["regime"] == "all" else f" of regime {row['regime']}"
                wrong = "narrow" if row["covered"] < intervals["level"] else "wide"
                said.append(
                    f"{prefix}The {intervals['level']:.0%} intervals{where} are too {wrong}: they hold {row['covered']:.1%} of the "
                    f"true effects ({row['pairs']:,} pairs)."
                )
    return said
