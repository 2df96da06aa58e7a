"""Move a population by a mean effect and keep it a population."""

from __future__ import annotations

from typing import TypeVar

Array = TypeVar("Array")


def shift_population(x: Array, effect: Array, mean: Array) -> Array:
    """Shift cells so that their mean moves by exactly `effect`, and none goes below zero.

    Per gene with control mean m and effect e, both log1p: the part of e within [−m, m] scales the
    expressing cells by 1 + e/m, which keeps zeros zero; what exceeds m is added to every cell. The new
    mean is max(m + e, 0). Works on numpy arrays and torch tensors alike.

    Parameters
    ----------
    x
        Control cells (..., S, G).
    effect
        Mean effect (..., G).
    mean
        Mean of the control cells (..., G), without padded rows.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.array([[0.0, 2.0], [2.0, 2.0]])
    >>> shift_population(cells, np.array([-0.5, 3.0]), cells.mean(0))
    array([[0., 5.],
           [1., 5.]])
    """
    scaled = effect.clip(-mean, mean)
    factor = 1 + scaled / (mean + (mean == 0))
    beyond = (effect - mean).clip(min=0)
    shifted = x * factor[..., None, :]
    shifted += beyond[..., None, :]
    return shifted
