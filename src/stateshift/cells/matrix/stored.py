"""The files behind cells: h5ad and zarr opened safely, their matrices read in blocks."""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stateshift.cells.matrix.scale import ValueFacts, csr_row_sums, dense_row_sums
from stateshift.cells.matrix.tables import as_text, table_length
from stateshift.errors import StateshiftError, first_line, some, suggestion, with_hidden_letters
from stateshift.files import intact, is_disk_full
from stateshift.hdf5 import open_hdf5

VALUES_AT_ONCE = 8_000_000
READERS = ("h5py", "anndata", "zarr", "numcodecs")
SPARSE = {"csr_matrix": "csr", "csc_matrix": "csc"}
KINDS = {"data": "fiub", "indices": "iu", "indptr": "iu"}
"""Kinds of numbers of a matrix's parts."""
SAID = {
    "base": int | float | np.number, "scale": str, "control": str, "simulated": bool | int | np.number | np.bool_,
    "columns": dict, "embedding_genes": dict, "prepared": dict,
}  # fmt: skip
"""Kinds of entries of ``uns["log1p"]`` and ``uns["stateshift"]``."""


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """An h5ad file or a zarr store for reading, as the group that anndata writes.

    Raises
    ------
    StateshiftError
        It is missing, truncated, neither HDF5 nor zarr, no AnnData, or a zarr store that unpickles.
    """
    import zarr

    path = Path(path)
    if not path.exists():
        raise StateshiftError(f"{path}: there is no such file.")
    try:
        if path.is_dir():
            _refuse_pickles(path)
            group = zarr.open_group(path, mode="r", use_consolidated=False)
        else:
            group = open_hdf5(path)
    except StateshiftError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error
    try:
        missing = [part for part in ("obs", "var", "X") if part not in group or _is_null(group[part])]
        if missing:
            raise StateshiftError(f"{path} is no AnnData file: it has no {', '.join(missing)}.")
        yield group
    except StateshiftError:
        raise
    except Exception as error:
        if is_disk_full(error) or not (isinstance(error, OSError | KeyError | RuntimeError) or _in_reading(error)):
            raise
        raise _unreadable(path, error) from error
    finally:
        if not path.is_dir():
            group.close()


def _is_null(element: Any) -> bool:
    """Whether an element holds None, as anndata 0.12.0 writes an absent ``X``."""
    return element.attrs.get("encoding-type") == "null"


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr store."""
    return path.is_dir() and any((path / name).is_file() for name in (".zgroup", "zarr.json"))


def read_uns(group: Any, path: Path) -> dict[str, dict[str, Any]]:
    """``uns["log1p"]`` and ``uns["stateshift"]``, where they are there: what is said of the values.

    Raises
    ------
    StateshiftError
        One of them holds something else than what scanpy and we write; a mark of another kind is somebody else's.
    """
    from anndata.io import read_elem

    said = {}
    for name in sorted({"log1p", "stateshift"} & set(group.get("uns", {}))):
        held = read_elem(group["uns"][name])
        if name == "stateshift" and not isinstance(held, dict):
            continue  # somebody else's
        wrong = [] if isinstance(held, dict) else [""]
        wrong = wrong or [f'["{key}"]' for key, kind in SAID.items() if not isinstance(held.get(key), kind | None)]
        if wrong:
            raise StateshiftError(
                f'{path}: uns["{name}"]{wrong[0]} is not what scanpy or stateshift writes: delete it.'
            )
        said[name] = held
    return said


@dataclass
class StoredMatrix:
    """A matrix of an open file: ``X``, or an array of ``obsm``.

    Parameters
    ----------
    element
        The HDF5 or zarr dataset or sparse group.
    where
        File and key, for errors.
    kind
        ``dense``, ``csr`` or ``csc``.
    shape
        (n, G).
    n_values
        Values that are stored.
    sums_repeats
        Whether two values of one place are their sum, as to scipy; they are refused otherwise.
    """

    element: Any
    where: str
    kind: str
    shape: tuple[int, int]
    n_values: int
    sums_repeats: bool = False

    @property
    def loaded_bytes(self) -> int:
        """Bytes once it is loaded: float32, with int32 columns and int64 row starts where it is sparse."""
        return self.n_values * 4 if self.kind == "dense" else self.n_values * 8 + (self.shape[0] + 1) * 8

    def look(self, index: np.ndarray | None = None) -> ValueFacts:
        """Facts of all values, in one pass that keeps none of them; totals are over the columns of ``index``."""
        facts, n = ValueFacts(self.shape[0]), self.shape[0]
        wanted = np.isin(np.arange(self.shape[1]), index) if index is not None else None
        if self.kind == "csc":
            for values, rows, columns in self.columns():
                kept = None if wanted is None else wanted[columns]
                facts.add(values, slice(None), lambda v, r=rows: np.bincount(r, v, n), kept)
        elif self.kind == "csr":
            for start, stop, (values, columns, starts) in self.rows():
                facts.add(values, slice(start, stop), csr_row_sums(starts), None if wanted is None else wanted[columns])
        else:
            for start, stop, block in self.rows():
                kept = None if wanted is None else np.tile(wanted, stop - start)
                facts.add(block.ravel(), slice(start, stop), dense_row_sums(stop - start), kept)
        return facts

    def rows(self) -> Iterator[tuple[int, int, Any]]:
        """Row blocks (first, last + 1, block): an array, or the values, columns and row starts of CSR."""
        if self.kind == "dense":
            step = max(1, VALUES_AT_ONCE // max(1, self.shape[1]))
            for start in range(0, self.shape[0], step):
                stop = min(start + step, self.shape[0])
                yield start, stop, self.element[start:stop]
            return
        indptr = self.indptr()
        for start, stop in row_ranges(indptr, VALUES_AT_ONCE):
            window = slice(int(indptr[start]), int(indptr[stop]))
            values, columns = self.element["data"][window], self.element["indices"][window]
            starts = indptr[start : stop + 1] - window.start
            self._refuse_bad_places(columns, starts, self.shape[1])
            yield start, stop, (values, columns, starts)

    def columns(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Pieces of a CSC matrix in its order: values, their rows and their columns."""
        indptr = self.indptr()
        for start in range(0, self.n_values, VALUES_AT_ONCE):
            stop = min(start + VALUES_AT_ONCE, self.n_values)
            columns = np.searchsorted(indptr, np.arange(start, stop), side="right") - 1
            rows = self.element["indices"][start:stop]
            starts = np.append(np.flatnonzero(np.diff(columns, prepend=-1)), len(rows))
            self._refuse_bad_places(rows, starts, self.shape[0])
            yield self.element["data"][start:stop], rows, columns

    def some(self, rows: np.ndarray) -> np.ndarray:
        """A few rows, dense."""
        if self.kind == "dense":
            return np.stack([self.element[int(r)] for r in rows])
        out = np.zeros((len(rows), self.shape[1]), np.float32)
        if self.kind == "csr":
            indptr = self.indptr()
            for i, r in enumerate(rows):
                window = slice(int(indptr[r]), int(indptr[r + 1]))
                out[i, self.element["indices"][window]] = self.element["data"][window]
            return out
        wanted = pd.Index(rows)
        for values, at, column in self.columns():
            place = wanted.get_indexer(at)
            out[place[place >= 0], column[place >= 0]] = values[place >= 0]
        return out

    def _refuse_bad_places(self, indices: np.ndarray, starts: np.ndarray, limit: int) -> None:
        """Indices outside the matrix, which would be values of other cells, or one place given two values."""
        if not len(indices):
            return
        if indices.min() < 0 or indices.max() >= limit:
            raise StateshiftError(f"{self.where} is damaged: it holds indices beyond its {limit:,} places.")
        if self.sums_repeats:
            return
        rises = np.empty(len(indices), bool)
        np.greater(indices[1:], indices[:-1], out=rises[1:])
        rises[starts[:-1][starts[:-1] < len(rises)]] = True
        if rises.all():
            return
        line = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        order = np.lexsort((indices, line))
        if ((np.diff(indices[order]) == 0) & (np.diff(line[order]) == 0)).any():
            raise StateshiftError(
                f"{self.where} holds two values for one place: run X.sum_duplicates() and write the file anew."
            )

    def indptr(self) -> np.ndarray:
        """Starts of the rows (CSR) or columns (CSC), int64; a StateshiftError where they make no matrix."""
        indptr = self.element["indptr"][:].astype(np.int64)
        lines = self.shape[0] if self.kind == "csr" else self.shape[1]
        fits = len(indptr) == lines + 1 and indptr[0] == 0 and indptr[-1] == self.n_values
        fits = fits and self.element["data"].shape == self.element["indices"].shape
        if not fits or (np.diff(indptr) < 0).any():
            raise StateshiftError(f"{self.where} is damaged: its indptr doesn't fit its values.")
        return indptr


def row_ranges(indptr: np.ndarray, n_values: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows of at most so many values, or of one row.

    Examples
    --------
    >>> list(row_ranges(np.array([0, 2, 4, 9, 10]), 4))
    [(0, 2), (2, 3), (3, 4)]
    """
    start, n = 0, len(indptr) - 1
    while start < n:
        stop = int(np.searchsorted(indptr, indptr[start] + n_values, side="right")) - 1
        stop = min(max(stop, start + 1), n)
        yield start, stop
        start = stop


def stored_matrix(group: Any, path: Path, obsm: str | None = None) -> StoredMatrix:
    """``X`` or an array of ``obsm`` of an open file.

    Raises
    ------
    StateshiftError
        The key is absent, the array has another length than ``obs``, or no two axes.
    """
    if obsm is None:
        element, where = group["X"], f"{path}: X"
    else:
        keys = list(group["obsm"]) if "obsm" in group else []
        if obsm not in keys:
            raise StateshiftError(f"{path}: obsm has no `{obsm}`{suggestion(obsm, keys)}.")
        element, where = group["obsm"][obsm], f"{path}: obsm `{obsm}`"
    with intact(where, "Write the file anew with anndata."):
        return _matrix_of(element, where, table_length(group["obs"]))


def _matrix_of(element: Any, where: str, n_obs: int) -> StoredMatrix:
    legacy = element.attrs.get("h5sparse_format")  # of anndata before 0.7
    encoding = str(element.attrs.get("encoding-type", "array" if legacy is None else f"{as_text(legacy)}_matrix"))
    if encoding in SPARSE:
        shape = tuple(int(s) for s in element.attrs["shape" if legacy is None else "h5sparse_shape"])
        parts = {name: (element[name].dtype.kind, len(element[name].shape)) for name in ("data", "indices", "indptr")}
        wrong = [name for name, (kind, axes) in parts.items() if axes != 1 or kind not in KINDS[name]]
        if wrong or len(shape) != 2 or min(shape) < 0:
            raise ValueError(f"its {wrong[0] if wrong else 'shape'} is that of no sparse matrix")
        # values beyond the last row's end belong to no row
        ends, stored = element["indptr"], element["data"].shape[0]
        last = int(ends[ends.shape[0] - 1]) if ends.shape[0] else 0
        kind, n_values = SPARSE[encoding], min(max(last, 0), stored)
    elif hasattr(element, "dtype") and len(element.shape) == 2 and element.dtype.kind in KINDS["data"]:
        shape, kind, n_values = tuple(element.shape), "dense", int(np.prod(element.shape))
    else:
        raise StateshiftError(f"{where} is stored as `{encoding}`: a dense, CSR or CSC matrix of numbers is needed.")
    if shape[0] != n_obs:
        raise StateshiftError(
            f"{where} has {shape[0]:,} rows, and obs has {n_obs:,}: write the file anew with anndata."
        )
    return StoredMatrix(element, where, kind, shape, n_values)


def whole_matrix(element: Any, where: str) -> Any:
    """A matrix in memory as it is stored; sparse indices that lead outside of it would crash whatever uses them.

    Raises
    ------
    StateshiftError
        Its parts make no matrix.
    """
    from anndata.io import read_elem

    X = read_elem(element)
    if hasattr(X, "check_format"):
        try:
            X.check_format(full_check=True)
        except ValueError as error:
            raise StateshiftError(f"{where} is damaged: {first_line(error)}. Write the file anew.") from error
    return X


def refuse_repeats(genes: list[str], where: str) -> None:
    """A gene named twice can't be told from itself, and one that is blank or holds letters that don't show from its neighbour."""
    if hidden := with_hidden_letters(genes):
        raise StateshiftError(
            f"{where}: var_names are blank or hold letters that don't show: {some(hidden, 3)}. Rename them."
        )
    if len(set(genes)) != len(genes):
        twice = pd.Index(genes)[pd.Index(genes).duplicated()].unique()
        raise StateshiftError(
            f"{where}: var_names hold {some(twice, 4)} more than once: sum or drop the copies, or run "
            "adata.var_names_make_unique() where they are different genes."
        )


def _refuse_pickles(store: Path) -> None:
    """Zarr arrays of Python objects may be pickled: reading one runs what its maker wants.

    Links could lead to arrays that this look doesn't reach.
    """
    for link in (p for p in store.rglob("*") if p.is_symlink()):
        raise StateshiftError(f"{link} is a link inside a zarr store: copy what it leads to into the store.")
    for name in (".zarray", ".zmetadata", "zarr.json"):
        for file in store.rglob(name):
            if "pickle" in json.dumps(json.loads(file.read_text())).lower():
                raise StateshiftError(f"{file} declares a pickled array, which can run any code: it is not read.")


def _in_reading(error: Exception) -> bool:
    """Whether it arose in a package that takes files apart: damage ends there in errors of any kind."""
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.partition(".")[0] in READERS for name in modules)


def _unreadable(path: Path, error: Exception) -> StateshiftError:
    return StateshiftError(
        f"{path} can't be read as an AnnData file (truncated, or neither HDF5 nor zarr?): {first_line(error)}"
    )
