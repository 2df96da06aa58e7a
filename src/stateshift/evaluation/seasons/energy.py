"""The energy distance between two populations of cells."""

from __future__ import annotations

import numpy as np
from scipy.sparse import issparse

ROWS_AT_ONCE = 1024


def energy_distance(x: np.ndarray, y: np.ndarray, within_y: float | None = None) -> float:
    """2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖ over all pairs of cells, each with itself too (Székely & Rizzo 2013).

    Parameters
    ----------
    x, y
        Cells (n, G) and (m, G), dense or CSR.
    within_y
        E‖y − y'‖ where it is known (`mean_distance`): controls are compared with many perturbations.

    Examples
    --------
    >>> energy_distance(np.array([[0.0], [2.0]]), np.array([[5.0]]))
    7.0
    """
    within_y = mean_distance(y) if within_y is None else within_y
    return 2 * mean_distance(x, y) - mean_distance(x) - within_y


def mean_distance(x: np.ndarray, y: np.ndarray | None = None) -> float:
    """Mean Euclidean distance of all pairs of rows of x and y, or of x and itself."""
    x = _dense(x)
    y = x if y is None else _dense(y)
    squares, total = np.einsum("ij,ij->i", y, y, dtype=np.float64), 0.0
    for start in range(0, len(x), ROWS_AT_ONCE):
        part = x[start : start + ROWS_AT_ONCE]
        far = np.einsum("ij,ij->i", part, part, dtype=np.float64)[:, None] + squares - 2.0 * (part @ y.T)
        if y is x:
            # what rounding leaves of a cell's distance to itself would be a root of it
            far[np.arange(len(part)), np.arange(start, start + len(part))] = 0.0
        total += np.sqrt(np.maximum(far, 0.0)).sum()
    return float(total / (len(x) * len(y)))


def _dense(cells: np.ndarray) -> np.ndarray:
    return np.asarray(cells.toarray() if issparse(cells) else cells, dtype=np.float64)
