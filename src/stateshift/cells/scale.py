"""The scale of a matrix: declared, or read off where that can't be mistaken, and always said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, issparse

from stateshift.errors import StateshiftError, suggestion

SCALES = ("counts", "log1p_1e4", "log1p")
LOG1P_LIMIT = 15.0


def find_scale(X: csr_matrix, uns: Mapping[str, Any], declared: str | None, where: str) -> str:
    """Name the scale of X: ``counts``, ``log1p_1e4`` or ``log1p`` (size factor unknown).

    Declared beats ``uns["stateshift"]["scale"]`` beats the values: whole numbers are counts;
    fractions below 15 are log1p, of 1e4 where every cell's expm1 sums to that.

    Raises
    ------
    StateshiftError
        NaN, infinite or negative values; a scale that the values contradict; values that fit none.
    """
    values = X.data
    if not np.isfinite(values).all():
        rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        bad = ~np.isfinite(values)
        raise StateshiftError(
            f"{where}: X holds {bad.sum():,} NaN or infinite values in {len(np.unique(rows[bad])):,} cells "
            f"(first in row {rows[bad][0]}): drop those cells or genes first."
        )
    if len(values) and values.min() < 0:
        raise StateshiftError(
            f"{where}: X holds {(values < 0).sum():,} negative values (least {values.min():.3g}); counts or "
            "log1p expression are needed, scaled data are not (is the unscaled matrix in .raw or a layer?)."
        )
    if not len(values):
        raise StateshiftError(f"{where}: X is all zeros.")
    whole = bool(np.all(values == np.round(values)))
    scale = declared or dict(uns.get("stateshift", {})).get("scale")
    if scale is not None:
        if scale not in SCALES:
            raise StateshiftError(f"{where}: `{scale}` is no scale{suggestion(scale, SCALES)}.")
        if scale == "counts" and not whole:
            raise StateshiftError(f"{where}: the scale is declared `counts`, and X holds fractions.")
        if scale != "counts" and values.max() >= LOG1P_LIMIT:
            raise StateshiftError(f"{where}: the scale is declared `{scale}`, and X reaches {values.max():.0f}.")
        return scale
    if whole and "log1p" not in uns:
        return "counts"
    if values.max() >= LOG1P_LIMIT:
        raise StateshiftError(
            f"{where}: X holds fractions up to {values.max():.0f}: neither counts nor log1p. Declare "
            "[columns] scale, after normalising (scanpy.pp.normalize_total, scanpy.pp.log1p) where needed."
        )
    sums = np.asarray(np.expm1(X).sum(axis=1)).ravel()
    return "log1p_1e4" if np.allclose(sums, 1e4, rtol=1e-2) else "log1p"


def to_log1p(
    X: Any, uns: Mapping[str, Any], declared: str | None = None, where: str = "X"
) -> tuple[csr_matrix, str, str]:
    """X on a log1p scale.

    Counts are brought to a total of 1e4 a cell, then log1p.

    Returns
    -------
    tuple
        CSR float32 (n, G), its scale now, and the scale it was found on.
    """
    X = csr_matrix(X) if not issparse(X) else X.tocsr()
    found = find_scale(X, uns, declared, where)
    if found != "counts":
        return X.astype(np.float32), found, found
    totals = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    if (totals == 0).any():
        raise StateshiftError(f"{where}: {(totals == 0).sum():,} cells hold no counts at all: drop them first.")
    X = X.astype(np.float64)
    X.data = np.log1p(X.data * np.repeat(1e4 / totals, np.diff(X.indptr)))
    return X.astype(np.float32), "log1p_1e4", found
