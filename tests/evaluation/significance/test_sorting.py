"""The radix sort beside numpy's, on values that need all of its ways."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.evaluation.significance.sorting import ascending

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "values",
    [
        RNG.lognormal(0, 3, 20_000),
        RNG.lognormal(0, 1, 20_000).astype(np.float32).astype(np.float64),
        RNG.integers(1, 40, 20_000).astype(np.float64),
        1.0 + RNG.permutation(500) * np.finfo(np.float64).eps,
        np.concatenate([[1e-300, 1e300], 1.0 + RNG.permutation(500) * 1e-9]),
        np.full(7, 2.5),
        np.array([3.0]),
        np.empty(0),
    ],
    ids=["doubles", "singles", "whole", "last bit", "far apart", "equal", "one", "none"],
)
def test_values_come_in_ascending_order_with_the_places_they_had(values):
    found, places = ascending(values)
    assert np.array_equal(found, np.sort(values))
    assert np.array_equal(places, np.argsort(values, kind="stable"))
