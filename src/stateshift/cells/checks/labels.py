"""What is wrong, or worth knowing, in labels and gene names that read well."""

from __future__ import annotations

import numpy as np

from stateshift.cells.population import Cells
from stateshift.cells.survey import Survey


def problems_of(survey: Survey, cells: Cells, split: np.ndarray) -> list[str]:
    """Sentences on what must not train as it is."""
    return []


def notes_of(survey: Survey, cells: Cells, split: np.ndarray) -> list[str]:
    """Sentences on what is allowed and worth knowing."""
    notes = []
    if not (split == "test").any():
        notes.append("No test split is declared: a run trains on everything, and nothing can be scored afterwards.")
    if not (split == "val").any():
        notes.append("No validation split is declared: a tenth of the training cells chooses the checkpoint.")
    ensembl = sum(g.startswith("ENS") for g in cells.genes)
    if ensembl > len(cells.genes) / 2:
        notes.append("var_names look like Ensembl ids: gene symbols are needed to predict and to submit by name.")
    return notes
