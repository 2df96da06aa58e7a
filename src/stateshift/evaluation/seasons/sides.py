"""The two sides of a score: cells of one AnnData or file by perturbation, on the genes of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse

from stateshift.errors import InputProblems, StateshiftError, some, suggestion
from stateshift.genes.spelling import alike
from stateshift.hdf5 import open_hdf5

if TYPE_CHECKING:
    import h5py
    from anndata import AnnData


class RowsOnDisk:
    """Rows of a CSR matrix in an open h5ad, read in runs that lie together.

    Parameters
    ----------
    group
        The h5py group with ``data``, ``indices`` and ``indptr``.
    n_columns
        G.
    """

    def __init__(self, group: h5py.Group, n_columns: int):
        self.n_columns, self.starts = n_columns, group["indptr"][:]
        self.values, self.columns = group["data"], group["indices"]

    def __getitem__(self, rows: np.ndarray) -> csr_matrix:
        """The rows (n, G) of ascending numbers."""
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        values, columns = (
            np.concatenate([part[self.starts[r[0]] : self.starts[r[-1] + 1]] for r in runs] or [part[:0]])
            for part in (self.values, self.columns)
        )
        ends = np.r_[0, np.cumsum(self.starts[rows + 1] - self.starts[rows])]
        if len(columns) and not 0 <= columns.min() <= columns.max() < self.n_columns:
            raise StateshiftError(
                f"{self.values.file.filename} is damaged: X holds indices beyond its {self.n_columns:,} genes."
            )
        return csr_matrix((values, columns, ends), shape=(len(rows), self.n_columns))


@dataclass(frozen=True)
class Groups:
    """Cells by perturbation; calling it with a name reads that perturbation's cells.

    Parameters
    ----------
    X
        (n, G'), in memory or of a file that is open.
    rows
        Perturbation → its rows, ascending.
    columns
        The G columns of X to keep, in order; None for all as they are.
    """

    X: Any
    rows: dict[str, np.ndarray]
    columns: np.ndarray | None = None

    def __call__(self, name: str) -> csr_matrix | np.ndarray:
        """The cells (n, G) of a perturbation."""
        return self.take(self.rows[name])

    def take(self, rows: np.ndarray) -> csr_matrix | np.ndarray:
        """The cells (n, G) of some rows."""
        cells = self.X[np.sort(rows)]
        cells = cells.tocsr() if issparse(cells) else np.asarray(cells)
        if issparse(cells) and not cells.has_canonical_format:
            cells.sum_duplicates()
        if cells.dtype == np.float16:  # of which scipy makes no sparse matrix
            cells = cells.astype(np.float32)
        return cells if self.columns is None else cells[:, self.columns]

    def count(self, name: str) -> int:
        """How many cells a perturbation has."""
        return len(self.rows[name])


@dataclass(frozen=True)
class Source:
    """What a score needs of an AnnData, or of a file whose matrix stays on disk.

    Parameters
    ----------
    obs
        Labels of the cells; of a file only the columns that were asked for.
    columns
        Names of all columns of obs.
    genes
        ``var_names``.
    X
        (n, G').
    rows
        The cells that are meant, ascending; None for all.
    """

    obs: pd.DataFrame
    columns: list[str]
    genes: pd.Index
    X: Any
    rows: np.ndarray | None = None

    def labels(self, column: str) -> pd.Series:
        """A column of the cells that are meant, indexed by their rows."""
        found = self.obs[column].set_axis(range(len(self.obs)))
        return found if self.rows is None else found.iloc[self.rows]

    def where(self, column: str, value: str) -> Source:
        """Only the cells of one label."""
        labels = self.labels(column)
        return replace(self, rows=labels.index.to_numpy()[(labels.astype(str) == value).to_numpy()])


def opened(source: AnnData | str | Path | Source, *columns: str) -> Source:
    """An AnnData as it is; of a file the named columns of obs, where they are there, and its matrix left on disk.

    Raises
    ------
    StateshiftError
        No such file, or no h5ad.
    """
    if isinstance(source, Source):
        return source
    if not isinstance(source, str | Path):
        return Source(source.obs, list(source.obs.columns), source.var_names, source.X)
    import anndata as ad

    if not Path(source).is_file():
        raise StateshiftError(f"{source} doesn't exist.")
    try:
        file = open_hdf5(source)
    except (OSError, RuntimeError, KeyError) as error:
        raise StateshiftError(f"{source} is no h5ad: {error}.") from error
    if not {"obs", "var", "X"} <= set(file):
        raise StateshiftError(f"{source} is no h5ad with cells: it holds {some(file) or 'nothing'}.")
    if file["X"].attrs.get("encoding-type") != "csr_matrix" or "_index" not in file["obs"].attrs:
        file.close()
        adata = ad.read_h5ad(source, backed="r")
        return Source(adata.obs, list(adata.obs.columns), adata.var_names, adata.X)
    there = [str(name) for name in file["obs"].attrs["column-order"]]
    # names of cells, which nothing here asks for, are most of what there is to read of a small file
    read = {name: ad.io.read_elem(file["obs"][name]) for name in columns if name in there}
    n_cells, n_genes = (int(n) for n in file["X"].attrs["shape"])
    genes = pd.Index(ad.io.read_elem(file["var"][file["var"].attrs["_index"]]))
    return Source(pd.DataFrame(read, index=range(n_cells)), there, genes, RowsOnDisk(file["X"], n_genes))


def groups_of(source: Source, perturbation: str, genes: Sequence[str], who: str) -> Groups:
    """Cells by their label in ``obs[perturbation]``, their columns in the order of `genes`.

    Raises
    ------
    InputProblems
        The column is absent; cells have no label, or labels that differ in nothing but blanks or capitals; genes are
        absent or there twice.
    """
    problems, labels = [], None
    if perturbation not in source.columns:
        problems.append(f"obs has no column `{perturbation}`{suggestion(perturbation, source.columns)}")
    else:
        labels = source.labels(perturbation)
        if labels.isna().any():
            problems.append(f"{int(labels.isna().sum()):,} cells have no `{perturbation}`")
        problems += [f"obs `{perturbation}` spells one label in several ways: {ways}" for ways in spelt_twice(labels)]
    if not source.genes.is_unique:
        problems.append(f"genes more than once: {some(source.genes[source.genes.duplicated()].unique(), 4)}")
    else:
        absent = sorted(set(genes) - set(source.genes))
        if absent:
            problems.append(f"{len(absent):,} genes of the truth are absent: {some(absent, 4)}")
    if problems:
        raise InputProblems(who, problems)
    found, positions = labels.groupby(labels, observed=True).indices, labels.index.to_numpy()
    columns = None if list(source.genes) == list(genes) else source.genes.get_indexer(genes)
    return Groups(source.X, {str(name): np.sort(positions[rows]) for name, rows in found.items()}, columns)


def spelt_twice(labels: pd.Series) -> list[str]:
    """Labels that are one without blanks around them and capitals, as ``'TP53', 'TP53 '``."""
    names = sorted(str(name) for name in labels.dropna().unique())
    return [", ".join(map(repr, found)) for found in alike(names, lambda name: name.strip().casefold())]


def both_sides(
    predicted: Source, truth: Source, perturbation: str, control: str
) -> tuple[Groups, Groups, list[str], list[str]]:
    """The prediction's and the truth's cells, the perturbations to score, and the truth's genes.

    Raises
    ------
    InputProblems
        As of `groups_of`; the truth has no controls; the two sides hold other perturbations.
    """
    genes = [str(g) for g in truth.genes]
    true = groups_of(truth, perturbation, genes, "the truth")
    shown = groups_of(predicted, perturbation, genes, "the prediction")
    names = sorted(set(true.rows) - {control})
    problems = []
    if control not in true.rows:
        problems.append(f"the truth has no control `{control}`{suggestion(control, true.rows)}")
    absent, more = sorted(set(names) - set(shown.rows)), sorted(set(shown.rows) - set(true.rows) - {control})
    if absent:
        problems.append(f"{len(absent)} perturbations of the truth are not predicted: {some(absent, 4)}")
    if more:
        problems.append(f"{len(more)} predicted perturbations are not in the truth: {some(more, 4)}")
    problems += [
        f"the two sides spell one label in several ways: {ways}" for ways in spelt_twice(pd.Series(absent + more))
    ]
    if not names:
        problems.append("the truth holds controls alone")
    if problems:
        raise InputProblems("the two sides of the score", problems)
    return shown, true, names, genes
