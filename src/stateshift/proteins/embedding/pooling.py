"""From residue rows to one vector a protein."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stateshift.errors import StateshiftError, suggestion

POOLINGS = ("mean", "mean_bos_eos", "cls", "max", "weighted")
OF_GENES = tuple(pooling for pooling in POOLINGS if pooling != "weighted")
"""Those that need no table of weights: what a gene's features are made by."""


def check_pooling(pooling: str, among: Sequence[str] = POOLINGS) -> None:
    """Raise where no pooling of those has the name."""
    if pooling not in among:
        raise StateshiftError(f"`{pooling}` is no pooling{suggestion(pooling, among)}.")


def pool(
    residues: np.ndarray,
    pooling: str = "mean",
    *,
    bos: np.ndarray | None = None,
    eos: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """One vector of a protein's residue rows.

    Parameters
    ----------
    residues
        (L, D).
    pooling
        ``mean`` over residues; ``mean_bos_eos``: BOS and EOS rows count as one residue each; ``cls``: the
        BOS row; ``max``: the largest value of each column; ``weighted``: the mean weighted by `weights`.
    bos, eos
        (D,), where the pooling needs them.
    weights
        (L,), none negative, not all zero.

    Returns
    -------
    numpy.ndarray
        (D,) float32; sums are taken in double precision.

    Raises
    ------
    StateshiftError
        The pooling is unknown or what it needs is not there.

    Examples
    --------
    >>> rows = np.array([[1.0, 0.0], [3.0, 2.0]])
    >>> pool(rows), pool(rows, "max"), pool(rows, "weighted", weights=np.array([3.0, 1.0]))
    (array([2., 1.], dtype=float32), array([3., 2.], dtype=float32), array([1.5, 0.5], dtype=float32))
    """
    check_pooling(pooling)
    if (pooling == "cls" and bos is None) or (pooling == "mean_bos_eos" and (bos is None or eos is None)):
        raise StateshiftError(f"Pooling `{pooling}` needs the rows of BOS and EOS, which residues alone don't hold.")
    if pooling == "cls":
        return np.asarray(bos, dtype=np.float32)
    if pooling == "max":
        return residues.max(axis=0).astype(np.float32)
    total = residues.sum(axis=0, dtype=np.float64)
    if pooling == "mean":
        return (total / len(residues)).astype(np.float32)
    if pooling == "mean_bos_eos":
        return ((total + bos + eos) / (len(residues) + 2)).astype(np.float32)
    return _weighted(residues, weights)


def _weighted(residues: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    if weights is None or np.shape(weights) != (len(residues),):
        got = "none" if weights is None else f"an array of shape {np.shape(weights)}"
        raise StateshiftError(f"Pooling `weighted` needs a weight for each of {len(residues)} residues, not {got}.")
    weights = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise StateshiftError("Pooling `weighted` needs finite weights, none negative and not all zero.")
    return (weights @ residues / weights.sum()).astype(np.float32)
