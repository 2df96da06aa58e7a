"""The training perturbation that is nearest in feature space: how far a prediction reaches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stateshift.effects.from_features.feature_space import FeatureSpace
from stateshift.feature_table import FeatureTable, genes_of


def nearest_trained(
    features: FeatureTable, trained: Sequence[str], perturbations: Sequence[str], apart: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Distance to the nearest trained perturbation, in the standardised feature space of all trained ones.

    Columns are centred and scaled over the trained perturbations and the vectors divided by √F, so that two
    perturbations that have nothing to do with each other lie about √2 apart, at any width.

    Parameters
    ----------
    features
        Vectors of the genes of both.
    trained
        Perturbations that were measured; repeats count once.
    perturbations
        R names.
    apart
        Whether perturbations that share a gene with the one that is asked about are passed over, as if it had not been trained on.

    Returns
    -------
    tuple
        Distances (R,), NaN where nothing is left to be near to, and the names of the nearest, "" there.

    Examples
    --------
    >>> table = FeatureTable(["A", "B", "C"], np.array([[0.0], [1.0], [0.9]], dtype="float32"))
    >>> distances, names = nearest_trained(table, ["A", "B"], ["C", "A"])
    >>> distances.round(2).tolist(), names
    ([0.2, 0.0], ['B', 'A'])
    >>> nearest_trained(table, ["A", "B"], ["A"], apart=True)[1]
    ['B']
    """
    names = list(dict.fromkeys(trained))
    space = FeatureSpace.of(features, names, "nearest")
    asked = list(dict.fromkeys(perturbations))
    a, b = space(asked), space(names)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    if apart:
        holding: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            for gene in genes_of(name):
                holding.setdefault(gene, []).append(i)
        for row, perturbation in zip(squares, asked):
            row[[i for gene in genes_of(perturbation) for i in holding.get(gene, [])]] = np.inf
    first, least = squares.argmin(axis=1), squares.min(axis=1)
    distances = np.where(np.isfinite(least), np.sqrt(np.where(least < 1e-9, 0, least)), np.nan)
    found = dict(zip(asked, zip(distances, (names[i] if np.isfinite(s) else "" for i, s in zip(first, least)))))
    return np.array([found[p][0] for p in perturbations]), [found[p][1] for p in perturbations]
