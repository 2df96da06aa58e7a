"""Labels and names that read well and are wrong: all checks of them, in their order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stateshift.cells.checks.aliases import alias_notes, alias_problems, names_here, renamed_between
from stateshift.cells.checks.cell_types import spelling_notes, spelling_problems
from stateshift.cells.checks.copies import look_for_copies
from stateshift.cells.checks.gene_names import name_notes, name_problems
from stateshift.cells.checks.groups import group_notes
from stateshift.cells.population import Cells
from stateshift.cells.splits import split_groups
from stateshift.cells.survey import Survey
from stateshift.errors import StateshiftError
from stateshift.genes import GeneNames


def look_at_labels(survey: Survey, cells: Cells, split: np.ndarray) -> tuple[list[str], list[str]]:
    """Sentences on what must not train as it is, and on what is allowed and worth knowing.

    What would make training, or the scores after it, wrong is a problem: a gene, a cell type or cells that
    train under one name and are held out under another, perturbations that name no genes, ids whose versions
    keep files apart. What only limits the use of a model, or its accuracy, is a note.

    Parameters
    ----------
    survey
        The files, with at least one that was read.
    cells, split
        Their cells without the matrix, and the split of each.
    """
    groups, whole = split_groups(cells, split), survey.every_gene or survey
    problems, notes = look_for_copies(survey, split)
    try:
        names = names_here()
    except StateshiftError as error:
        names = GeneNames()
        problems.append(str(error))
    problems = [
        *name_problems(whole, cells),
        *alias_problems(groups, names),
        *spelling_problems(groups),
        *problems,
    ]
    notes = [
        *_splits_left_out(split),
        *name_notes(whole, replace(cells, genes=whole.genes)),
        *alias_notes(groups, names),
        *spelling_notes(groups),
        *group_notes(groups, cells, split),
        *notes,
    ]
    if whole.files[0].is_expression:
        notes += renamed_between([(f.name, f.genes) for f in whole.files], whole.genes, names)
    return problems, notes


def _splits_left_out(split: np.ndarray) -> list[str]:
    notes = []
    if not (split == "test").any():
        notes.append("No test split is declared: a run trains on everything, and nothing can be scored afterwards.")
    if not (split == "val").any():
        notes.append(
            "No validation split is declared: a tenth of the training cells chooses the checkpoint; of a model that starts from "
            "a backbone (model=anchored), pairs that are held back whole."
        )
    return notes
