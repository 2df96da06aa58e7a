"""Cells that are there twice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from stateshift.cells.matrix.stored import opened, stored_matrix
from stateshift.cells.survey import FoundFile, Survey
from stateshift.errors import some

LOOKED_AT = 10
"""Cells of a pair of files that are compared by their values."""
ENOUGH_GENES = 20
"""Fewer shared genes can't tell one cell from another."""


def look_for_copies(survey: Survey, split: np.ndarray) -> tuple[list[str], list[str]]:
    """Problems and notes on cells that are there twice.

    Cells are the same where their names in obs are, and their values fall in the same order over the shared
    genes, so that counts and their log1p are told to be one; barcodes alone repeat between samples. Where
    such cells train in one file and are held out in the other, the scores would be of cells that trained:
    a problem. Cells that merely count twice, and names that repeat within a file, are notes.

    Parameters
    ----------
    survey
        The files.
    split
        Of every cell.
    """
    problems, notes = [], []
    for first, second, cells in _shared_names(survey, split):
        sides = cells[["split_first", "split_second"]].to_numpy(dtype=str)
        held_out, trains = np.isin(sides, ("val", "test")), sides == "train"
        leaking = cells[(held_out & trains[:, ::-1]).any(axis=1)]
        which = leaking if len(leaking) else cells
        if not _are_the_same(first, second, which):
            continue
        said = f"{_called(first)} and {_called(second)} hold the same cells"
        if len(leaking):
            problems.append(
                f"{said}, {len(leaking):,} of which train in one and are held out in the other ({some(leaking['name'], 2)}): "
                "leave one of the files out, or give both the same splits."
            )
        else:
            notes.append(f"{said} ({len(cells):,} names in common, {some(cells['name'], 2)}): they count twice.")
    for file in survey.files:
        repeated = file.obs.index[file.obs.index.duplicated()]
        if len(repeated):
            notes.append(
                f"{file.name}: {len(repeated):,} obs_names repeat others ({some(repeated.unique(), 3)}); cells are told apart "
                "by their rows, adata.obs_names_make_unique() gives each a name."
            )
    return problems, notes


def _shared_names(survey: Survey, split: np.ndarray) -> list[tuple[FoundFile, FoundFile, pd.DataFrame]]:
    """Pairs of files with obs_names of used cells in common, and those names with the row and the split in each."""
    if len(survey.files) < 2:
        return []
    starts = np.cumsum([0, *(len(f.obs) for f in survey.files)])
    names = pd.concat([f.obs.index.to_series() for f in survey.files], ignore_index=True)
    tables = []
    repeated = names.duplicated(keep=False).to_numpy() & (split != "")
    for start, stop in pairwise(starts):
        rows = start + np.flatnonzero(repeated[start:stop])
        table = pd.DataFrame({"name": names[rows], "row": rows - start, "split": split[rows]})
        tables.append(table.drop_duplicates("name"))
    pairs = []
    for i, first in enumerate(survey.files):
        for j in range(i + 1, len(survey.files)):
            cells = tables[i].merge(tables[j], on="name", suffixes=("_first", "_second"))
            if len(cells):
                pairs.append((first, survey.files[j], cells))
    return pairs


def _are_the_same(first: FoundFile, second: FoundFile, cells: pd.DataFrame) -> bool:
    """Whether half of some cells, or more, have values in the same order in two files, over the genes of both."""
    if first.path.resolve() == second.path.resolve():
        return True
    columns = pd.Index(second.genes).get_indexer(first.genes)
    if (columns >= 0).sum() < ENOUGH_GENES:
        return False
    looked_at = cells.iloc[np.linspace(0, len(cells) - 1, min(LOOKED_AT, len(cells))).astype(int)]
    ranks = [
        rankdata(_values(file, looked_at[row].to_numpy(), genes), method="dense", axis=1)
        for file, row, genes in (
            (first, "row_first", np.flatnonzero(columns >= 0)),
            (second, "row_second", columns[columns >= 0]),
        )
    ]
    varied = ranks[0].max(axis=1) > 1
    same = (ranks[0] == ranks[1]).all(axis=1) & varied
    return bool(same.sum() * 2 >= varied.sum() > 0)


def _called(file: FoundFile) -> str:
    return f"{file.path.name} of {file.obs['dataset'].iloc[0]}"


def _values(file: FoundFile, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A few rows of a file's matrix on some of its columns, dense."""
    with opened(file.path) as group:
        return stored_matrix(group, file.path, file.embedding).some(rows)[:, columns]
