"""Checks of the values and their scale."""

from __future__ import annotations

import numpy as np

from stateshift.cells.matrix.scale import SCALES
from stateshift.challenge.candidate import Candidate
from stateshift.challenge.facts import CellFacts
from stateshift.challenge.validation.outcome import Validation
from stateshift.errors import StateshiftError, some

PROVES = 3
"""Values of a cell that are not whole by chance: one or two may be, among many cells."""
APART = 1.25
"""Factor between two totals of a cell from which log1p values of one say little of the other."""


def check_values(outcome: Validation, found: Candidate, facts: CellFacts) -> str | None:
    """Check NaN, negative values, the scale and the season's limits; returns the scale where it is known."""
    bad, rules = facts.values.n_bad, outcome.season.values
    outcome.add("finite", f"{bad:,} values are NaN or infinite" if bad else None, "no NaN, no infinity")
    negative = facts.n_negative
    outcome.add("not negative", f"{negative:,} values are negative" if negative else None, "none below 0")
    stored = int(facts.stored.sum())
    if rules.most_stored is not None:
        problem = f"{stored:,} values are not 0; the season allows {rules.most_stored:,}: predict fewer genes a cell"
        outcome.add("stored values", problem if stored > rules.most_stored else None, f"{stored:,} are not 0")
    if bad or negative:
        return None
    scale = _check_scale(outcome, found, facts)
    if scale == "counts" and rules.scale == "counts" and rules.most_counts is not None:
        over = facts.values.totals > rules.most_counts
        problem = None
        if over.any():
            problem = (
                f"{int(over.sum()):,} cells hold more than {rules.most_counts:,} counts (up to "
                f"{facts.values.totals.max():,.0f}; {some(_groups(facts, over), 4)})"
            )
        outcome.add("counts of a cell", problem, f"{facts.values.totals.max():,.0f} of at most {rules.most_counts:,}")
    return scale


def _check_scale(outcome: Validation, found: Candidate, facts: CellFacts) -> str | None:
    rules, values = outcome.season.values, facts.values
    fractions, whole = facts.fractions, ~facts.fractions & (facts.stored >= PROVES)
    mixed = None
    if fractions.any() and whole.any():
        few = whole if whole.sum() < fractions.sum() else fractions
        mixed = (
            f"{int(whole.sum()):,} cells hold whole numbers alone and {int(fractions.sum()):,} hold fractions "
            f"({some(_groups(facts, few), 4)}): counts and log1p values don't go into one file"
        )
    outcome.add("one scale", mixed, "all cells are alike")
    if mixed:
        return None
    try:
        scale = _scale(found, facts, rules.scale, outcome.where)
    except StateshiftError as error:
        said = str(error).removeprefix(f"{outcome.where}: ").removeprefix(f"{outcome.where} ").rstrip(".")
        outcome.add("scale", said, "")
        return None
    said = "declared" if found.declared else "read off the values"
    if rules.scale == "counts":
        problem = f"{scale} ({said}), and the season wants whole counts: `stateshift challenge export RUN` draws them"
        outcome.add("scale", None if scale == "counts" else problem, f"counts ({said})")
        return scale if scale in SCALES else None
    if scale == "counts":
        outcome.add("scale", None, f"counts ({said}): brought to the median total and log1p")
        return scale
    base = found.uns.get("log1p", {}).get("base")
    if isinstance(base, int | float | np.number) and not np.isclose(base, np.e):
        said = f'uns["log1p"] says base {base:g}, and the season\'s tool takes values for natural logarithms'
        outcome.add("logarithm", said, "", status="warn")
    problem = None
    if values.most >= rules.below:
        problem = f"values reach {values.most:.3g}; log1p values lie in [0, {rules.below:g})"
    elif not fractions.any():
        problem = f"{scale} and yet all whole numbers: the season's tool would take them for counts"
    outcome.add("scale", problem, f"{scale} ({said}), {values.least:.3g} to {values.most:.3g} where not 0")
    return scale


def check_total(outcome: Validation, facts: CellFacts, real: CellFacts | None) -> None:
    """Whether log1p values are of the total a cell that the season's own are of: metrics compare the two as they stand."""
    name = "total of a cell"
    if real is None:
        outcome.leave_open(name, "no control cells of the season to compare with: name them with --controls")
        return
    ours, theirs = (float(np.median(f.values.linear_sums)) for f in (facts, real))
    if real.values.whole:
        theirs = float(np.median(real.values.totals))
    problem = None
    if not 1 / APART < ours / max(theirs, 1) < APART:
        problem = (
            f"cells are log1p of {ours:,.0f} counts and the season's control cells of {theirs:,.0f}: `stateshift challenge "
            "export RUN` emits cells on the season's, as does a run whose [columns] declare no to_1e4"
        )
    outcome.add(name, problem, f"log1p of {ours:,.0f} counts, as the season's control cells", status="warn")


def _scale(found: Candidate, facts: CellFacts, wanted: str, where: str) -> str:
    """Of values that declare none: whole ones are counts, and fractions what the season wants, if it wants such."""
    if not facts.fractions.any() and facts.values.most > 0 and found.declared in (None, "counts"):
        return "counts"
    if found.declared is None and facts.values.most > 0:
        return "fractions" if wanted == "counts" else wanted
    return facts.values.scale(found.uns, found.declared, where)


def _groups(facts: CellFacts, cells: np.ndarray) -> list[str]:
    """Names of the groups of a mask of cells (n,)."""
    return facts.spelling(np.bincount(facts.of_group[cells], minlength=len(facts.groups)) > 0)
