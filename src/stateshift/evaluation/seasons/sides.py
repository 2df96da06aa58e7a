"""The two sides of a score: cells of one AnnData or file by perturbation, on the genes of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix, issparse

from stateshift.errors import InputProblems, StateshiftError, some, suggestion

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
        return cells if self.columns is None else cells[:, self.columns]

    def count(self, name: str) -> int:
        """How many cells a perturbation has."""
        return len(self.rows[name])


def opened(source: AnnData | str | Path) -> AnnData:
    """An AnnData as it is; a file's with its matrix left on disk."""
    import anndata as ad

    if not isinstance(source, str | Path):
        return source
    if not Path(source).is_file():
        raise StateshiftError(f"{source} doesn't exist.")
    return ad.read_h5ad(source, backed="r")


def groups_of(adata: AnnData, perturbation: str, genes: Sequence[str], who: str) -> Groups:
    """The cells of an AnnData by the values of ``obs[perturbation]``, their columns in the order of `genes`.

    Raises
    ------
    InputProblems
        The column is absent, cells have no label, or genes are absent or twice there.
    """
    problems = []
    if perturbation not in adata.obs:
        problems.append(f"obs has no column `{perturbation}`{suggestion(perturbation, adata.obs.columns)}")
    elif adata.obs[perturbation].isna().any():
        problems.append(f"{int(adata.obs[perturbation].isna().sum()):,} cells have no `{perturbation}`")
    if not adata.var_names.is_unique:
        problems.append(f"genes more than once: {some(adata.var_names[adata.var_names.duplicated()].unique(), 4)}")
    else:
        absent = sorted(set(genes) - set(adata.var_names))
        if absent:
            problems.append(f"{len(absent):,} genes of the truth are absent: {some(absent, 4)}")
    if problems:
        raise InputProblems(who, problems)
    found = adata.obs.groupby(adata.obs[perturbation], observed=True).indices
    same = list(adata.var_names) == list(genes)
    columns = None if same else adata.var_names.get_indexer(genes)
    X = adata.X
    if adata.isbacked and getattr(X, "format", "") == "csr":
        X = RowsOnDisk(adata.file["X"], adata.n_vars)
    return Groups(X, {str(name): np.sort(rows) for name, rows in found.items()}, columns)


def both_sides(
    predicted: AnnData, truth: AnnData, perturbation: str, control: str
) -> tuple[Groups, Groups, list[str], list[str]]:
    """The prediction's and the truth's cells, the perturbations to score, and the truth's genes.

    Raises
    ------
    InputProblems
        As of `groups_of`; the truth has no controls; the two sides hold other perturbations.
    """
    genes = [str(g) for g in truth.var_names]
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
    if not names:
        problems.append("the truth holds controls alone")
    if problems:
        raise InputProblems("the two sides of the score", problems)
    return shown, true, names, genes
