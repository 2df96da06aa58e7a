"""The cells that a prediction starts from, as its run was trained on them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from stateshift.cells import Cells, Expression, read_cells
from stateshift.cells.every_gene import refuse_other_values, scale_of_X
from stateshift.cells.loading import IN_MEMORY, Storage
from stateshift.errors import InputProblems, StateshiftError, some
from stateshift.files import intact
from stateshift.run import WAY_OUT, RunDirectory

logger = logging.getLogger(__name__)


def named_columns(run: RunDirectory, columns: Mapping[str, str] | None) -> dict[str, str]:
    """``[columns]`` of a run's experiment, and what a user says otherwise of the cells to predict from."""
    import toml

    with intact(run.experiment_file, WAY_OUT):
        declared = dict(toml.load(run.experiment_file).get("columns", {}))
    return declared | {k: v for k, v in (columns or {}).items() if v is not None}


def read_population(
    run: RunDirectory, path: str | Path, columns: Mapping[str, str] | None, storage: Storage = IN_MEMORY
) -> Cells:
    """A file's cells on the run's genes and scale, and every gene that the run predicts beside them.

    Parameters
    ----------
    run
        The run directory.
    path
        An h5ad file or zarr store. A run on an array of ``obsm`` reads the array, and ``X`` for the genes that it
        predicts beyond it; a file without the array gives its genes from ``X``.
    columns
        Where they are named otherwise than in training.
    storage
        Where the matrix is kept.

    Raises
    ------
    StateshiftError
        Genes, columns or an embedding that the run needs are absent, or the scale is another.
    """
    named = named_columns(run, columns)
    given = {k: v for k, v in (columns or {}).items() if v is not None}
    try:
        cells = _read(path, named, run, storage)
    except InputProblems as error:
        # cells from elsewhere may name their columns otherwise than the training files did
        theirs = {role: named.get(role) for role in ("scale", "embedding")}
        try:
            cells = _read(path, {**theirs, **given}, run, storage)
        except StateshiftError:
            flags = "--pert-col, --cell-type-key and --control-pert name the columns of these cells."
            raise InputProblems(error.where, [*error.problems, flags]) from None
        logger.warning("%s: the experiment's columns are not there; those of conventional names are used", path)
    config = run.config()
    _refuse_other_scale(cells, config["scale"], path, bool(run.imported_from))
    if cells.every_gene is not None:
        _refuse_other_scale(cells.every_gene, config["every_gene_scale"], path, bool(run.imported_from))
    return cells


def _read(path: str | Path, columns: Mapping[str, str | None], run: RunDirectory, storage: Storage) -> Cells:
    """The array or ``X``, and every gene where the run predicts more than that."""
    genes, every_gene, key = run.genes(), run.every_gene(), columns.get("embedding")
    if key is None:
        return read_cells(path, columns, genes=genes, storage=storage)
    X, without_array = None, {**columns, "embedding": None}
    if every_gene:
        if run.config()["scale"] != "embedding":
            without_array["scale"] = scale_of_X(Path(path), columns.get("scale"))
        X = read_cells(path, without_array, genes=every_gene, storage=storage)
    try:
        array = _read_array(path, columns, run)
    except InputProblems:
        raise
    except StateshiftError as error:
        if run.config()["scale"] == "embedding" or _numbered(genes, key):
            raise
        X = X or read_cells(path, without_array)
        places = pd.Index(X.genes).get_indexer(genes)
        absent = [gene for gene, place in zip(genes, places) if place < 0]
        if absent:
            raise StateshiftError(
                f"{str(error).rstrip('.')}; and X lacks {len(absent):,} of the run's {len(genes):,} genes: {some(absent)}."
            ) from error
        logger.info("%s: the run's genes are not those of its obsm `%s`: they are read from X", path, key)
        array = replace(X, X=Expression([X.X.csr()[:, places]]), genes=genes)
        # with every gene, the scale of X is the one that decides
        return replace(array, every_gene=X, scale=run.config()["scale"]) if every_gene else array
    if X is not None and array.scale != "embedding" and not run.imported_from:
        refuse_other_values(array, X, f"{path}: obsm `{key}`")
    return replace(array, every_gene=X)


def _read_array(path: str | Path, columns: Mapping[str, str | None], run: RunDirectory) -> Cells:
    """The ``obsm`` array on the run's genes; of a run whose columns have no names, the array as it lies."""
    genes, key = run.genes(), columns["embedding"]
    if run.imported_from is None or run.config()["scale"] == "embedding":
        return read_cells(path, columns, genes=genes)
    if not _numbered(genes, key):
        return read_cells(path, columns, genes=genes, array_genes=genes)
    array = read_cells(path, columns, array_genes=genes)
    if len(array.genes) != len(genes):
        raise StateshiftError(
            f"{path}: obsm `{key}` has {len(array.genes):,} columns, and the run was trained on {len(genes):,}."
        )
    named = "" if array.genes == genes else f", which are {some(array.genes, 3)}"
    logger.warning(
        "%s: the run doesn't name the genes of obsm `%s`: its columns are taken in their order%s", path, key, named
    )
    return replace(array, genes=genes)


def _numbered(genes: list[str], key: str) -> bool:
    """Whether the columns of an array go by their numbers, for want of names."""
    return genes == [f"{key}_{i}" for i in range(len(genes))]


def _refuse_other_scale(cells: Cells, trained: str, path: str | Path, imported: bool) -> None:
    if cells.scale == trained or (imported and "embedding" not in (cells.scale, trained)):
        return  # arc-state does not say which of the log1p scales it was trained on
    raise StateshiftError(
        f"{path} is on scale {cells.scale} and the run was trained on {trained}: normalise the cells likewise, "
        f'or declare it by uns["stateshift"] = {{"scale": "{trained}"}} if it is so.'
    )
