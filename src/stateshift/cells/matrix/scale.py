"""The scale of a matrix: declared, or proven by its values, and always said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, issparse

from stateshift.errors import StateshiftError, suggestion

TO_1E4 = "to_1e4"
"""Declared of what is to be brought to log1p_1e4: counts, or log1p of any total a cell."""
SCALES = ("counts", "log1p_1e4", "log1p", TO_1E4)
BROUGHT = ("counts", TO_1E4)
"""Scales that don't stay what they were found as."""
LOG1P_LIMIT = 15.0
LARGEST = np.finfo(np.float32).max
SIZE_FACTOR = 1e4


@dataclass
class ValueFacts:
    """What the values of a matrix say of its scale, gathered block by block.

    Parameters
    ----------
    n_cells
        Rows of the whole matrix.
    least, most
        Of the finite values that are stored.
    whole
        Whether all values are whole numbers.
    n_bad, bad_rows
        NaN and infinite values, and the rows (n,) that hold any.
    linear_sums
        Sum of expm1 of every row (n,), while the values can be logarithms.
    totals, linear_totals
        Sum of every row (n,) over the wanted genes, and of its expm1 while the values can be logarithms.
    looked_at, fractional
        Rows (n,) in blocks that reach values no logarithm has, and those of them that hold fractions.
    """

    n_cells: int
    least: float = np.inf
    most: float = -np.inf
    whole: bool = True
    n_bad: int = 0
    bad_rows: np.ndarray = field(init=False)
    linear_sums: np.ndarray = field(init=False)
    totals: np.ndarray = field(init=False)
    linear_totals: np.ndarray = field(init=False)
    looked_at: np.ndarray = field(init=False)
    fractional: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.bad_rows, self.linear_sums = np.zeros(self.n_cells, bool), np.zeros(self.n_cells)
        self.totals, self.linear_totals = np.zeros(self.n_cells), np.zeros(self.n_cells)
        self.looked_at, self.fractional = np.zeros(self.n_cells, bool), np.zeros(self.n_cells, bool)

    def add(
        self,
        values: np.ndarray,
        rows: slice,
        row_sums: Callable[[np.ndarray], np.ndarray],
        wanted: np.ndarray | None = None,
    ) -> None:
        """Look at the values of one block.

        Parameters
        ----------
        values
            The stored values, one axis.
        rows
            The rows that they belong to.
        row_sums
            Sums numbers that lie as ``values`` do over each of those rows.
        wanted
            Which of the values are of a wanted gene; None for all.
        """
        # what float32, in which all is kept, calls infinite is so
        finite = np.isfinite(values) if values.dtype.kind != "f" else np.abs(values) <= LARGEST
        if not finite.all():
            self.n_bad += int((~finite).sum())
            self.bad_rows[rows] |= row_sums(~finite) > 0
            return
        if not len(values):
            return
        most = float(values.max())
        self.least, self.most = min(self.least, float(values.min())), max(self.most, most)
        fractions = values != np.rint(values)
        whole = not fractions.any()
        if most >= LOG1P_LIMIT:
            self.looked_at[rows] = True
            if not whole:
                self.fractional[rows] |= row_sums(fractions) > 0
        self.whole = self.whole and whole
        self.totals[rows] += row_sums(values if wanted is None else values * wanted)
        if self.most < LOG1P_LIMIT:
            linear = np.expm1(values.astype(np.float64))
            sums = row_sums(linear)
            self.linear_sums[rows] += sums
            self.linear_totals[rows] += sums if wanted is None else row_sums(linear * wanted)

    def scale(self, uns: Mapping[str, Any], declared: str | None, where: str) -> str:
        """Name the scale, as `find_scale` does."""
        self.refuse_bad_values(where)
        if self.least < 0:
            raise StateshiftError(
                f"{where} holds negative values (least {self.least:.3g}); counts or log1p expression are "
                "needed, scaled data are not (is the unscaled matrix in .raw or a layer?)."
            )
        if self.most <= 0:
            raise StateshiftError(f"{where} is all zeros.")
        scale = declared or dict(uns.get("stateshift", {})).get("scale")
        if scale == "embedding":
            raise StateshiftError(
                f"{where} holds an embedding, not expression: decode it to genes first, or train on expression."
            )
        if scale is not None:
            return self._agreeing(str(scale), where)
        marked = "log1p" in uns
        base = dict(uns["log1p"] or {}).get("base") if marked else None
        if base is not None and not np.isclose(float(base), np.e):
            raise StateshiftError(
                f'{where}: uns["log1p"] says base {float(base):g}; natural logarithms are needed: '
                f"multiply X by ln {float(base):g}, and declare the scale."
            )
        if self.whole and (not marked or self.most >= LOG1P_LIMIT):
            return "counts"
        if self.most < LOG1P_LIMIT and not self.whole:
            factor = self._size_factor()
            if factor is not None and np.isclose(factor, SIZE_FACTOR, rtol=1e-2):
                return "log1p_1e4"
            if marked or factor is not None:
                return "log1p"
        raise StateshiftError(
            f"{where}: its scale can't be told: {self._doubt()}. Declare it: [columns] scale = "
            '"counts", "log1p_1e4", "log1p" or "to_1e4" (log1p of any total, to be brought to 1e4) in the TOML, --scale where a command has it, or '
            'adata.uns["stateshift"] = {"scale": "log1p_1e4"} in the file; normalise first where it is none of '
            "these (scanpy.pp.normalize_total, scanpy.pp.log1p)."
        )

    def brought(self, values: np.ndarray, found: str, rows: slice | np.ndarray) -> np.ndarray:
        """Values found on a scale of `BROUGHT` as log1p_1e4.

        Parameters
        ----------
        values
            Of the wanted genes.
        found
            Their scale.
        rows
            The row of each value, or what makes an array of rows that lies as `values` do.
        """
        if found == TO_1E4:
            return log1p_of_counts(np.expm1(values.astype(np.float64)), self.linear_totals[rows])
        return log1p_of_counts(values, self.totals[rows])

    def refuse_empty_cells(self, found: str, where: str) -> None:
        """Cells without any expression can't be normalised."""
        refuse_empty_cells(self.linear_totals if found == TO_1E4 else self.totals, where)

    def refuse_bad_values(self, where: str) -> None:
        """A StateshiftError where any value is NaN or infinite."""
        if self.n_bad:
            raise StateshiftError(
                f"{where} holds {self.n_bad:,} NaN or infinite values in {self.bad_rows.sum():,} cells "
                f"(first in row {np.argmax(self.bad_rows)}): drop those cells or genes first."
            )

    def _agreeing(self, scale: str, where: str) -> str:
        """A declared scale, refused where the values contradict it."""
        if scale not in SCALES:
            raise StateshiftError(f"{where}: `{scale}` is no scale{suggestion(scale, SCALES)}.")
        if scale == TO_1E4 and self.whole:
            return "counts"
        if scale == "counts" and not self.whole:
            raise StateshiftError(f"{where}: the scale is declared `counts`, and it holds fractions.")
        if scale != "counts" and self.most >= LOG1P_LIMIT:
            raise StateshiftError(f"{where}: the scale is declared `{scale}`, and it reaches {self.most:.0f}.")
        if scale != "counts" and self.whole:
            raise StateshiftError(
                f"{where}: the scale is declared `{scale}`, and it holds whole numbers alone: counts?"
            )
        # predicted cells are moved a little, and often all alike: another total is one that is far off
        factor = self._size_factor()
        if scale == "log1p_1e4" and factor is not None and not np.isclose(factor, SIZE_FACTOR, rtol=0.1):
            raise StateshiftError(
                f"{where}: the scale is declared `log1p_1e4`, and every cell's expm1 sums to {factor:,.0f}: declare `log1p`."
            )
        return scale

    def _size_factor(self) -> float | None:
        """What every cell's expm1 sums to; None where that differs between cells, or there is one cell alone."""
        sums = self.linear_sums[self.linear_sums > 0]
        if self.most >= LOG1P_LIMIT or len(sums) < 2 or not np.allclose(sums, np.median(sums), rtol=1e-2):
            return None
        return float(np.median(sums))

    def _doubt(self) -> str:
        counts = int((self.looked_at & ~self.fractional & (self.totals > 0)).sum())
        if self.most >= LOG1P_LIMIT and counts:
            return (
                f"it mixes scales: {counts:,} cells hold whole numbers up to {self.most:.0f}, as counts do, and others "
                "fractions; bring all cells to one"
            )
        if self.most >= LOG1P_LIMIT:
            return f"it holds fractions up to {self.most:.0f}, neither counts nor log1p"
        if self.whole:
            return 'it holds whole numbers, and uns["log1p"] marks it as log1p'
        return (
            f"it holds fractions up to {self.most:.3g} which no uns marks as log1p, and the cells' totals differ, "
            "as they do where genes were cut away after normalising, or where the values are no logarithms"
        )


def csr_row_sums(indptr: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function that sums the values of each row of a CSR block.

    Examples
    --------
    >>> csr_row_sums(np.array([0, 2, 2, 3]))(np.array([1.0, 2.0, 5.0]))
    array([3., 0., 5.])
    """
    starts, filled = np.asarray(indptr[:-1]), np.diff(indptr) > 0

    def row_sums(values: np.ndarray) -> np.ndarray:
        sums = np.zeros(len(starts))
        if filled.any():
            sums[filled] = np.add.reduceat(values, starts[filled], dtype=np.float64)
        return sums

    return row_sums


def dense_row_sums(n_rows: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that sums the values of each row of a dense block, given on one axis."""
    return lambda values: values.reshape(n_rows, -1).sum(axis=1, dtype=np.float64)


def find_scale(X: csr_matrix, uns: Mapping[str, Any], declared: str | None, where: str) -> str:
    """Name the scale of X: ``counts``, ``log1p_1e4`` or ``log1p`` (size factor unknown, or another).

    Declared beats ``uns["stateshift"]["scale"]`` beats the values; ``to_1e4`` declares counts or log1p of any total. What values prove: whole numbers are
    counts, unless they stay below 15 and ``uns["log1p"]`` is there; fractions below 15 are log1p where every cell's expm1 sums to the same, of 1e4 where that is
    1e4, or where that mark of scanpy's is there. Nothing else is guessed.

    Raises
    ------
    StateshiftError
        NaN, infinite or negative values; a scale that the values contradict; values that prove none.
    """
    facts = ValueFacts(X.shape[0])
    facts.add(X.data, slice(None), csr_row_sums(X.indptr))
    return facts.scale(uns, declared, where)


def to_log1p(
    X: Any, uns: Mapping[str, Any], declared: str | None = None, where: str = "X"
) -> tuple[csr_matrix, str, str]:
    """X on a log1p scale.

    Counts, and what is declared ``to_1e4``, are brought to a total of 1e4 a cell, then log1p.

    Returns
    -------
    tuple
        CSR float32 (n, G), its scale now, and the scale it was found on.
    """
    X = csr_matrix(X) if not issparse(X) else X.tocsr()
    facts = ValueFacts(X.shape[0])
    facts.add(X.data, slice(None), csr_row_sums(X.indptr))
    found = facts.scale(uns, declared, where)
    if found not in BROUGHT:
        return X.astype(np.float32), found, found
    facts.refuse_empty_cells(found, where)
    values = facts.brought(X.data, found, np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)))
    return csr_matrix((values, X.indices, X.indptr), X.shape), "log1p_1e4", found


def log1p_of_counts(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """ln(1 + 1e4 · counts / totals), float32."""
    return np.log1p(counts.astype(np.float64) * (SIZE_FACTOR / totals)).astype(np.float32)


def refuse_empty_cells(totals: np.ndarray, where: str) -> None:
    """Cells without any count can't be normalised."""
    if (totals == 0).any():
        raise StateshiftError(f"{where}: {(totals == 0).sum():,} cells hold no counts at all: drop them first.")
