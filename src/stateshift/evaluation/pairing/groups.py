"""Cells by (context, perturbation): means, those of two random halves, and how much cells of a group differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stateshift.cells import Cells

SEPARATOR = "\x1f"


@dataclass
class Groups:
    """Groups of cells as means.

    What two halves share is signal: the inner product of their effects is the squared size of the effect without
    bias by noise, since the errors of different cells are independent.

    Parameters
    ----------
    place
        (context, perturbation) → row k of K; controls stand under their own name.
    means
        (K, G) float64, log1p.
    halves
        (K, 2, G) float32, means of two random halves; NaN where a half has no cell.
    counts
        (K,) cells.
    variance
        (K,): variance of the cells of a group, summed over genes; NaN for one cell.
    control
        The control's name.
    """

    place: dict[tuple[str, str], int]
    means: np.ndarray
    halves: np.ndarray
    counts: np.ndarray
    variance: np.ndarray
    control: str

    def controls(self, context: str) -> int | None:
        """The row of a context's controls, None without."""
        return self.place.get((context, self.control))


def group_cells(cells: Cells, seed: int = 0) -> Groups:
    """Mean expression of every group of cells, and of its halves.

    Groups of one size are parted alike, by the order of their cells: where the cells of every group start from the
    same controls in one order, as those of a prediction, halves of different groups start from the same controls too.
    """
    labels = cells.obs["context"] + SEPARATOR + cells.obs["perturbation"]
    codes, names = pd.factorize(labels.to_numpy(), sort=True)
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=len(names))
    K, G = len(names), len(cells.genes)
    means, halves, variance = np.empty((K, G)), np.full((K, 2, G), np.nan, np.float32), np.full(K, np.nan)
    for k, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        n = len(rows)
        drawn = np.random.default_rng([seed, n]).permutation(n)
        parts = rows[np.sort(drawn[: (n + 1) // 2])], rows[np.sort(drawn[(n + 1) // 2 :])]
        sums, squares = zip(*(cells.X.sums(part) for part in parts))
        means[k] = (sums[0] + sums[1]) / n
        for h, part in enumerate(parts):
            if len(part):
                halves[k, h] = sums[h] / len(part)
        if n > 1:
            variance[k] = max(0.0, (squares[0] + squares[1] - n * means[k] ** 2).sum() / (n - 1))
    place = {tuple(name.split(SEPARATOR)): k for k, name in enumerate(names)}
    return Groups(place, means, halves, counts, variance, cells.control)
