"""Perturbations in two dimensions: by what is predicted of them and by their features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stateshift.evaluation.report.detail.detail import Detail
from stateshift.feature_table import FeatureTable


@dataclass(frozen=True)
class Map:
    """Two principal components.

    Parameters
    ----------
    places
        (R, 2): a row a pair of the `Detail`, NaN where it has no place.
    explained
        The share of the variance along each.
    others
        (N, 2): what is there for orientation.
    other_names
        Their N names.
    by_perturbation
        Whether a perturbation has the same place in all contexts.
    """

    places: np.ndarray
    explained: tuple[float, float]
    others: np.ndarray
    other_names: list[str]
    by_perturbation: bool


def effect_map(detail: Detail) -> Map | None:
    """The pairs by their predicted effects; None with fewer than three."""
    if len(detail.predicted) < 3:
        return None
    places, explained = _components(detail.predicted)
    return None if places is None else Map(places, explained, np.empty((0, 2)), [], False)


def feature_map(detail: Detail, features: FeatureTable) -> Map | None:
    """The perturbations by their features, among the table's other genes; None with fewer than three that have features.

    A double's vector is the sum of its genes', as the models have it. Columns are standardised.
    """
    names = list(dict.fromkeys(detail.rows["perturbation"]))
    known = [name for name in names if not features.missing([name])]
    others = [gene for gene in features.genes if gene not in set(known)]
    if len(known) < 3:
        return None
    vectors = features.matrix([*known, *others]).astype(np.float64)
    spread = vectors.std(axis=0)
    places, explained = _components((vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1))
    if places is None:
        return None
    at = dict(zip(known, places))
    of_rows = np.array([at.get(name, (np.nan, np.nan)) for name in detail.rows["perturbation"]])
    return Map(of_rows, explained, places[len(known) :], others, True)


def _components(values: np.ndarray) -> tuple[np.ndarray | None, tuple[float, float]]:
    from sklearn.decomposition import PCA

    if min(values.shape) < 2 or not np.ptp(values, axis=0).any():
        return None, (0.0, 0.0)
    fitted = PCA(2, svd_solver="randomized", random_state=0)
    places = fitted.fit_transform(values)
    return places, tuple(float(share) for share in fitted.explained_variance_ratio_)
