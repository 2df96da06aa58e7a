"""Flags of predicted cells: pasted, constant, copied, repeated, shuffled, on two scales."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from stateshift.cells import Cells
from stateshift.cells.matrix.expression import ROWS_AT_ONCE

PASTED = 0.01
"""Share of the measured variance of cells, a tenth of their deviation: less than counting alone brings about in any
droplet experiment, whose cells differ by mostly that."""
MOST = 0.5
"""What holds for more than half of a group's cells holds for what is typical of it; under that a model may well mean it,
as cells that escape their guide are no other than controls."""
DIGITS = 3
"""Decimals of a cell's prints: the same cells, normalised by different tools, differ in the seventh."""


class CellFacts:
    """What each cell of a matrix is known by.

    Parameters
    ----------
    cells
        Log1p.

    Attributes
    ----------
    prints
        (n, 3): three random projections, the same for the same values.
    constant, whole
        (n,): one value in all genes; whole numbers alone, and not constant.
    """

    def __init__(self, cells: Cells):
        n, G = cells.X.shape
        axes = np.random.default_rng(0).normal(size=(G, 3))
        self.prints, self.constant, self.whole = np.zeros((n, 3)), np.zeros(n, bool), np.zeros(n, bool)
        for rows, X in blocks(cells):
            self.prints[rows] = np.round(X.astype(np.float64) @ axes, DIGITS)
            self.constant[rows] = X.min(axis=1).toarray().ravel() == X.max(axis=1).toarray().ravel()
            fractions = X.copy()
            fractions.data = (X.data != np.rint(X.data)).astype(np.float32)
            self.whole[rows] = (np.asarray(fractions.sum(axis=1)).ravel() == 0) & ~self.constant[rows]


def blocks(cells: Cells) -> Iterator[tuple[slice, object]]:
    """Rows of the matrix and where they stand, a part at a time."""
    for start in range(0, len(cells), ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, len(cells)))
        yield rows, cells.X.csr(np.arange(rows.start, rows.stop))


def shares(cells: Cells, of_cell: np.ndarray) -> dict[tuple[str, str], float]:
    """(context, perturbation) → share of its cells, controls left out."""
    kept = cells.obs.loc[~cells.is_control, ["context", "perturbation"]].assign(of=of_cell[~cells.is_control])
    return kept.groupby(["context", "perturbation"])["of"].mean().to_dict()


def copied(cells: Cells, prints: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """(n,): whether a cell's prints are among those of control cells (k, 3)."""
    seen = pd.MultiIndex.from_arrays(controls.T)
    return np.asarray(pd.MultiIndex.from_arrays(prints.T).isin(seen)) & (prints != 0).any(axis=1)


def repeated(cells: Cells, prints: np.ndarray) -> np.ndarray:
    """(n,): whether the same cell stands in another group too; controls and fallbacks are in no group.

    Measured cells never agree in all genes. A fallback (obs ``route``) is one effect on the same control cells, and says so.
    """
    obs = cells.obs
    counts = ~cells.is_control & (obs["route"] != "fallback").to_numpy() & (prints != 0).any(axis=1)
    table = pd.DataFrame(prints[counts]).assign(
        group=(obs["context"] + "\x1f" + obs["perturbation"])[counts].to_numpy()
    )
    several = table.groupby([0, 1, 2])["group"].transform("nunique") > 1
    found = np.zeros(len(cells), bool)
    found[counts] = several.to_numpy()
    return found


def within_along(cells: Cells, rows_of: list[np.ndarray], axes: np.ndarray) -> np.ndarray:
    """(K,): variance of the cells of each group along axes (G, k), summed over them; NaN under two cells."""
    found = np.full(len(rows_of), np.nan)
    for k, rows in enumerate(rows_of):
        if len(rows) > 1:
            along = np.vstack(
                [cells.X.csr(rows[i : i + ROWS_AT_ONCE]) @ axes for i in range(0, len(rows), ROWS_AT_ONCE)]
            )
            found[k] = along.var(axis=0, ddof=1).sum()
    return found
