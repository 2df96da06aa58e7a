"""Every gene of the files behind an obsm array: what a run predicts beyond what its network reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from stateshift.cells.experiment import Experiment
from stateshift.cells.matrix.stored import opened, read_uns, refuse_repeats, stored_matrix
from stateshift.cells.matrix.tables import read_table
from stateshift.cells.population import Cells
from stateshift.cells.survey import NAME_THEM, FoundFile, Survey, gene_axis
from stateshift.errors import StateshiftError, some

LOOKED_AT = 64
"""Cells of a file whose values in the obsm array are held against those in X."""


def survey_every_gene(experiment: Experiment, survey: Survey) -> Survey | None:
    """``X`` of files of which an ``obsm`` array is read, on the genes that all hold or that ``[columns] genes`` lists.

    Problems and notes are added to those of `survey`.

    Returns
    -------
    Survey or None
        None where ``X`` itself is read, where it adds no gene to the array's, and where something is wrong.
    """
    if not survey.files or survey.files[0].embedding is None:
        return None
    if survey.problems:
        return None
    first, listed = survey.files[0], "genes" in experiment.columns
    if listed and first.is_expression and set(survey.genes) == set(_listed(experiment)):
        return None
    try:
        whole = Survey([_whole(file) for file in survey.files], [], survey.control)
    except StateshiftError as error:
        survey.problems.append(f"{error} {_need(first)}")
        return None
    empty = [file.name for file in whole.files if not file.genes]
    if empty:
        survey.problems.append(f"X of {some(empty, 3)} holds no genes. {_need(first)}")
        return None
    whole.genes = gene_axis(experiment, whole)
    survey.problems += whole.problems
    survey.notes += whole.notes
    strange = [g for g in survey.genes if g not in set(whole.genes)] if first.is_expression else []
    if strange:
        survey.problems.append(
            f"obsm `{first.embedding}` holds {len(strange):,} genes that X doesn't: {some(strange)}. {_need(first)}"
        )
    if survey.problems or (first.is_expression and len(whole.genes) == len(survey.genes)):
        return None
    survey.notes.append(_note(first, len(survey.genes), len(whole.genes)))
    return whole


def scale_of_X(path: Path, declared: str | None) -> str | None:
    """The scale declared of an array of genes as far as it is said of ``X`` too, which may hold counts beside it."""
    if declared in (None, "counts"):
        return declared
    with opened(path) as group:
        X = stored_matrix(group, path)
        values = X.some(looked_at(X.shape[0]))
    return None if (values == np.rint(values)).all() else declared


def other_values(survey: Survey, cells: Cells) -> list[str]:
    """A sentence for each file whose array isn't what ``X`` holds of its genes, of cells that were read.

    Parameters
    ----------
    survey
        The files.
    cells
        Theirs, with `Cells.every_gene`.
    """
    if cells.scale == "embedding":
        return []
    problems, start = [], 0
    for file in survey.files:
        here = np.arange(start, start + len(file.obs))
        problems += _other_values(cells, cells.every_gene, here, f"{file.path}: obsm `{file.embedding}`")
        start += len(file.obs)
    return problems


def refuse_other_values(array: Cells, X: Cells, where: str) -> None:
    """A StateshiftError where the array of one file isn't what its ``X`` holds of the array's genes."""
    for sentence in _other_values(array, X, np.arange(len(array)), where):
        raise StateshiftError(sentence)


def _other_values(array: Cells, X: Cells, rows: np.ndarray, where: str) -> list[str]:
    few = looked_at(len(rows))
    places = pd.Index(X.genes).get_indexer(array.genes)
    return differences(array.X.dense(rows[few]), X.X.dense(rows[few])[:, places], few, array.genes, where)


def looked_at(n_cells: int) -> np.ndarray:
    """Rows of a file, spread over it, on which an array is held against X."""
    return np.unique(np.linspace(0, n_cells - 1, min(LOOKED_AT, n_cells)).astype(int))


def differences(array: np.ndarray, X: np.ndarray, rows: np.ndarray, genes: list[str], where: str) -> list[str]:
    """A sentence where an array of genes isn't X of these genes: effects on one would be added to the other.

    Parameters
    ----------
    array, X
        Values (k, G) of both on the array's genes, log1p.
    rows, genes
        What the rows and columns are.
    where
        The file, and the array.
    """
    differ = np.argwhere(~np.isclose(array, X, rtol=1e-3, atol=1e-3))
    if not len(differ):
        return []
    row, gene = differ[0]
    return [
        f"{where} isn't X on its genes: {genes[gene]} in row {rows[row]} is {array[row, gene]:.3g} there and "
        f"{X[row, gene]:.3g} in X, log1p. A run predicts every gene of X, on one scale: make the array anew from X "
        "(stateshift data prepare)."
    ]


def _whole(file: FoundFile) -> FoundFile:
    """``X`` of a file of which an array was found."""
    with opened(file.path) as group:
        genes = [str(g) for g in read_table(group, "var").index]
        uns = read_uns(group, file.path)
        matrix = stored_matrix(group, file.path)
    if len(genes) != matrix.shape[1]:
        raise StateshiftError(f"{file.path}: X has {matrix.shape[1]:,} columns, and var has {len(genes):,} rows.")
    refuse_repeats(genes, str(file.path))
    return replace(
        file, genes=genes, embedding=None, is_expression=True, kind=matrix.kind, n_values=matrix.n_values,
        loaded_bytes=matrix.loaded_bytes, uns=uns,
    )  # fmt: skip


def _listed(experiment: Experiment) -> list[str]:
    from stateshift.genes import read_names

    return read_names(experiment.resolve(experiment.columns["genes"]))[1]


def _need(file: FoundFile) -> str:
    """What X is wanted for, and how to do without it where that can be."""
    alone = (
        "; to predict the array's own genes alone, list them in a file, [columns] genes" if file.is_expression else ""
    )
    return f"Beside obsm `{file.embedding}`, a run predicts every gene of X, as counts or log1p{alone}."


def _note(file: FoundFile, held: int, every: int) -> str:
    if file.is_expression:
        return (
            f"obsm `{file.embedding}` holds {held:,} of the {every:,} genes of X: the network models those, and ridge effects "
            "the others; with model.output_space=all the network gives all."
        )
    return (
        f"obsm `{file.embedding}` names no genes: it is read as an embedding, and the network gives the {every:,} genes of "
        f"X; if its columns are genes, {NAME_THEM}."
    )
