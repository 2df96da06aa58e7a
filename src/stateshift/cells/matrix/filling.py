"""From a stored matrix to the arrays that training reads: float32, on the genes wanted, log1p."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stateshift.cells.matrix.scale import BROUGHT, ValueFacts, csr_row_sums, dense_row_sums
from stateshift.cells.matrix.stored import VALUES_AT_ONCE, StoredMatrix, row_ranges

Allocate = Callable[[str, tuple[int, ...], type], np.ndarray]
"""Makes an array by name, shape and type: in memory, or in a file of a cache."""


@dataclass(frozen=True)
class Wanted:
    """What to make of a stored matrix.

    Parameters
    ----------
    index
        Column of each wanted gene in the file (G,); None for all in their order.
    is_expression
        Whether the values are expression, to be brought to log1p; else they are an embedding, kept as it is.
    scale
        As declared in ``[columns]``; None to find it.
    """

    index: np.ndarray | None = None
    is_expression: bool = True
    scale: str | None = None


def in_memory(_: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Allocate in memory; what is never written takes none."""
    return np.empty(shape, dtype)


def fill_arrays(
    stored: StoredMatrix,
    wanted: Wanted,
    uns: Mapping[str, Any],
    allocate: Allocate = in_memory,
    after_block: Callable[[], None] = lambda: None,
    values_a_pass: int = sys.maxsize,
) -> tuple[dict[str, np.ndarray], str, str]:
    """Read a matrix once, block by block.

    Counts, and what is declared ``to_1e4``, are normalised to 1e4 a cell over the wanted genes, then log1p; the scale is
    found on all genes.

    ``after_block`` is called when a block of some 8 million values is done. A CSC matrix is read once to count and
    once more for every ``values_a_pass`` values, which bounds what is written to at a time.

    Returns
    -------
    tuple
        ``dense``, or ``data``, ``indices`` and ``indptr``; the scale now; the scale it was found on. The
        scale of an embedding is ``embedding``.

    Raises
    ------
    StateshiftError
        NaN or infinite values, or a scale that can't be told.
    """
    facts = ValueFacts(stored.shape[0])
    given = stored, wanted.index, facts, allocate, after_block
    if stored.kind == "csc":
        arrays = _fill_csc(*given, values_a_pass)
    else:
        arrays = _fill_dense(*given) if stored.kind == "dense" else _fill_csr(*given)
    if not wanted.is_expression:
        facts.refuse_bad_values(stored.where)
        return arrays, "embedding", "embedding"
    found = facts.scale(uns, wanted.scale, stored.where)
    if found not in BROUGHT:
        return arrays, found, found
    facts.refuse_empty_cells(found, stored.where)
    _normalise(arrays, facts, found, after_block)
    return arrays, "log1p_1e4", found


def _fill_dense(
    stored: StoredMatrix, index: np.ndarray | None, facts: ValueFacts, allocate: Allocate, after_block: Callable
) -> dict:
    n_genes = stored.shape[1] if index is None else len(index)
    out = allocate("dense", (stored.shape[0], n_genes), np.float32)
    for start, stop, block in stored.rows():
        wanted = None if index is None else np.tile(np.isin(np.arange(stored.shape[1]), index), stop - start)
        facts.add(block.ravel(), slice(start, stop), dense_row_sums(stop - start), wanted)
        out[start:stop] = block if index is None else block[:, index]
        after_block()
    return {"dense": out}


def _fill_csr(
    stored: StoredMatrix, index: np.ndarray | None, facts: ValueFacts, allocate: Allocate, after_block: Callable
) -> dict:
    data, indices = (
        allocate(name, (stored.n_values,), dtype) for name, dtype in (("data", np.float32), ("indices", np.int32))
    )
    indptr = allocate("indptr", (stored.shape[0] + 1,), np.int64)
    column = _new_columns(stored, index)
    indptr[0] = end = 0
    for start, stop, (values, columns, starts) in stored.rows():
        columns = columns if column is None else column[columns]
        kept = None if column is None else columns >= 0
        facts.add(values, slice(start, stop), csr_row_sums(starts), kept)
        if kept is not None:
            values, columns = values[kept], columns[kept]
            starts = np.concatenate([[0], np.cumsum(kept)])[starts]
        data[end : end + len(values)], indices[end : end + len(values)] = values, columns
        indptr[start + 1 : stop + 1] = end + starts[1:]
        end += len(values)
        after_block()
    return {"data": data[:end], "indices": indices[:end], "indptr": indptr}


def _fill_csc(
    stored: StoredMatrix,
    index: np.ndarray | None,
    facts: ValueFacts,
    allocate: Allocate,
    after_block: Callable,
    values_a_pass: int,
) -> dict:
    """Count each row's values in one pass; put them in their places, a range of rows a pass."""
    n, column = stored.shape[0], _new_columns(stored, index)
    in_row = np.zeros(n, np.int64)
    for values, rows, columns in stored.columns():
        kept = None if column is None else column[columns] >= 0
        facts.add(values, slice(None), lambda v, r=rows: np.bincount(r, v, n), kept)
        in_row += np.bincount(rows if kept is None else rows[kept], minlength=n)
    indptr = allocate("indptr", (n + 1,), np.int64)
    indptr[0], indptr[1:] = 0, np.cumsum(in_row)
    data = allocate("data", (int(indptr[-1]),), np.float32)
    indices = allocate("indices", (int(indptr[-1]),), np.int32)
    free = np.array(indptr[:-1])
    for start, stop in row_ranges(np.array(indptr), values_a_pass):
        for values, rows, columns in stored.columns():
            kept = (rows >= start) & (rows < stop)
            if column is not None:
                columns = column[columns]
                kept &= columns >= 0
            values, rows, columns = values[kept], rows[kept], columns[kept]
            order = np.argsort(rows, kind="stable")
            rows = rows[order]
            taken = np.bincount(rows, minlength=n)
            nth_of_its_row = np.arange(len(rows)) - np.repeat(np.cumsum(taken) - taken, taken)
            place = free[rows] + nth_of_its_row
            data[place], indices[place] = values[order], columns[order]
            free += taken
        after_block()
    return {"data": data, "indices": indices, "indptr": indptr}


def _new_columns(stored: StoredMatrix, index: np.ndarray | None) -> np.ndarray | None:
    """New place of each column of the file, −1 for those left out; None where all stay."""
    if index is None:
        return None
    column = np.full(stored.shape[1], -1, np.int32)
    column[index] = np.arange(len(index))
    return column


def _normalise(arrays: dict[str, np.ndarray], facts: ValueFacts, found: str, after_block: Callable) -> None:
    """To log1p of 1e4 a cell, in place."""
    if "dense" in arrays:
        X = arrays["dense"]
        step = max(1, VALUES_AT_ONCE // max(1, X.shape[1]))
        for i in range(0, len(X), step):
            X[i : i + step] = facts.brought(X[i : i + step], found, np.arange(i, min(i + step, len(X)))[:, None])
            after_block()
        return
    data, indptr = arrays["data"], np.array(arrays["indptr"])
    for start, stop in row_ranges(indptr, VALUES_AT_ONCE):
        window = slice(int(indptr[start]), int(indptr[stop]))
        rows = np.repeat(np.arange(start, stop), np.diff(indptr[start : stop + 1]))
        data[window] = facts.brought(data[window], found, rows)
        after_block()
