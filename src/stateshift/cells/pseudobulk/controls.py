"""The control cells of one context, by batch, and what they weigh beside a perturbation's cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stateshift.cells.matrix.expression import Expression
from stateshift.cells.pseudobulk.moments import Moments, sums_by_label


@dataclass
class Strata:
    """Where each cell comes from: a stratum is a batch of a file within a context.

    Parameters
    ----------
    of_cell
        Array (n,): the stratum of each cell, 0 … S − 1.
    context, place
        Arrays (S,): codes of each stratum's context, and of its (context, file).
    contexts
        The names behind ``context``, sorted.
    """

    of_cell: np.ndarray
    context: np.ndarray
    place: np.ndarray
    contexts: list[str]

    @classmethod
    def of(cls, obs: pd.DataFrame) -> Strata:
        """The strata of ``obs["context"]``, ``obs["file"]`` and ``obs["batch"]``."""
        context, names = pd.factorize(obs["context"].astype(str).to_numpy(dtype=object), sort=True)
        file, files = pd.factorize(obs["file"].astype(str).to_numpy(dtype=object))
        batch, batches = pd.factorize(obs["batch"].astype(str).to_numpy(dtype=object))
        place = context * len(files) + file
        strata, of_cell = np.unique(place * len(batches) + batch, return_inverse=True)
        place = strata // len(batches)
        return cls(of_cell, place // len(files), place, list(names))


@dataclass
class ContextControls:
    """Control cells of one context, by stratum and random half.

    Parameters
    ----------
    place
        Array (S,): codes of the strata's files.
    n
        Array (S, 2): control cells of each half.
    half_means
        Array (S, 2, G) float64: their means; zero where there is none.
    means, linear
        Arrays (S, G) float64: means of all, of the values and of their expm1.
    variance
        Array (S, G) float64: of a cell within its stratum.
    """

    place: np.ndarray
    n: np.ndarray
    half_means: np.ndarray
    means: np.ndarray
    linear: np.ndarray | None
    variance: np.ndarray

    @classmethod
    def read(
        cls,
        X: Expression,
        rows: np.ndarray,
        stratum: np.ndarray,
        half: np.ndarray,
        place: np.ndarray,
        with_linear: bool,
    ) -> ContextControls:
        """Read control cells once.

        Parameters
        ----------
        X
            The cells.
        rows, stratum, half
            Arrays (k,): the controls' rows, their strata 0 … S − 1 and halves 0 or 1.
        place
            Array (S,), as above.
        with_linear
            Whether the values are log1p.
        """
        S, G = len(place), X.shape[1]
        sums = sums_by_label(X, rows, stratum * 2 + half, 2 * S, with_linear)
        n, total = sums.n.reshape(S, 2), sums.total.reshape(S, 2, G)
        in_all = np.maximum(n.sum(axis=1), 1)[:, None]
        merged = Moments(n.sum(axis=1), total.sum(axis=1), sums.squares.reshape(S, 2, G).sum(axis=1), None)
        return cls(
            place,
            n,
            total / np.maximum(n, 1)[:, :, None],
            merged.total / in_all,
            None if sums.linear is None else sums.linear.reshape(S, 2, G).sum(axis=1) / in_all,
            _variances(merged, place),
        )

    @property
    def mean(self) -> np.ndarray:
        """Mean of the context's control cells, each counted once, (G,)."""
        n = self.n.sum(axis=1)
        return n @ self.means / n.sum()


def control_weights(perturbed: np.ndarray, controls: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, int]:
    """What the control mean of each stratum weighs beside a group of perturbed cells.

    A stratum weighs its share of the perturbed cells; the share of a stratum without controls goes to the
    strata of its place by their number of controls, which is the mean over the controls of its file and context.

    Parameters
    ----------
    perturbed, controls, place
        Arrays (S,): perturbed cells, control cells, and the place of each stratum.

    Returns
    -------
    tuple
        Weights (S,) that sum to one, NaN where a place has no control at all; perturbed cells without
        controls in their stratum.

    Examples
    --------
    >>> control_weights(np.array([2, 1, 1]), np.array([2, 3, 0]), np.array([0, 0, 0]))
    (array([0.6, 0.4, 0. ]), 1)
    """
    matched = np.where(controls > 0, perturbed, 0)
    missing = np.bincount(place, perturbed - matched)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.divide(missing, np.bincount(place, controls), out=np.zeros(len(missing)), where=missing > 0)
        weights = (matched + each[place] * controls) / perturbed.sum()
    return weights, int(missing.sum())


def _variances(sums: Moments, place: np.ndarray) -> np.ndarray:
    """Variance of a cell within each stratum (S, G).

    A stratum of one cell has the variance within the strata of its place, taken together; where these are
    all of one cell, the variance about their common mean; NaN where the place has one cell.
    """
    squares_within = np.maximum(sums.squares - sums.total**2 / np.maximum(sums.n, 1)[:, None], 0)
    variance = squares_within / np.maximum(sums.n - 1, 1)[:, None]
    for p in np.unique(place[sums.n == 1]):
        mine = place == p
        n = sums.n[mine].sum()
        free = n - (sums.n[mine] > 0).sum()
        if free:
            pooled = squares_within[mine].sum(axis=0) / free
        elif n > 1:
            about_all = sums.squares[mine].sum(axis=0) - sums.total[mine].sum(axis=0) ** 2 / n
            pooled = np.maximum(about_all, 0) / (n - 1)
        else:
            pooled = np.nan
        variance[mine & (sums.n == 1)] = pooled
    return variance
