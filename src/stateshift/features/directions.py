"""Sparse or wide descriptions of genes as a few dense columns that keep their similarities."""

from __future__ import annotations

from typing import Any

import numpy as np

WIDTH = 512
"""Columns of a source that reduces, where the user names none."""


def leading_directions(rows: Any, width: int) -> np.ndarray:
    """Rows (P, D), dense or sparse, in their leading singular directions, each of length one: (P, F) float32.

    Products of two rows are then their cosine, of the part that these directions hold: latent semantic analysis
    (Deerwester et al., J. Am. Soc. Inf. Sci. 41, 391, 1990). Rows of zeros stay zero; F is at most the rank.

    Examples
    --------
    >>> rows = leading_directions(np.array([[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), 5)
    >>> np.allclose(rows @ rows.T, [[1, 1, 0], [1, 1, 0], [0, 0, 1]], atol=1e-6)
    True
    """
    from sklearn.utils.extmath import randomized_svd

    n = min(width, *rows.shape)
    left, singular, _ = randomized_svd(rows, n, random_state=0)
    kept = singular > 1e-6 * max(singular.max(initial=0), 1e-12)
    return unit_rows(left[:, kept] * singular[kept]).astype(np.float32)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their length; rows of zeros stay zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-12)
