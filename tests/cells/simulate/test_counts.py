"""Counts: the negative binomial that scipy knows, drawn row by row."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stateshift.cells.simulate.counts import draw_counts

MEANS = (0.02, 0.3, 1.0, 4.0, 15.9, 16.1, 60.0)
DRAWS = 40_000


def drawn(dispersion: float, seed: int = 0) -> np.ndarray:
    means = np.tile(np.float32(MEANS), (DRAWS, 1))
    return draw_counts(means, dispersion, np.random.default_rng(seed)).toarray()


@pytest.mark.parametrize("dispersion", [0.25, 2.0])
def test_counts_follow_the_negative_binomial_of_scipy(dispersion):
    counts = drawn(dispersion)
    r = 1 / dispersion
    for column, mean in enumerate(MEANS):
        reference = stats.nbinom(r, r / (r + mean))
        cuts = np.unique(reference.ppf([0.2, 0.5, 0.8, 0.95]))
        found = (counts[:, [column]] <= cuts).mean(axis=0)
        error = np.sqrt(reference.cdf(cuts) * reference.sf(cuts) / DRAWS)
        assert np.abs(found - reference.cdf(cuts)).max() < 4.5 * error.max()


def test_variance_is_mean_and_dispersion_times_its_square():
    counts = drawn(0.25)
    means = np.array(MEANS)
    assert counts.mean(axis=0) == pytest.approx(means, rel=0.15)
    assert counts.var(axis=0)[1:] == pytest.approx((means + 0.25 * means**2)[1:], rel=0.1)


def test_without_dispersion_to_speak_of_counts_are_poisson():
    counts = drawn(1e-9)
    assert counts.var(axis=0)[1:] == pytest.approx(np.array(MEANS[1:]), rel=0.06)


def test_zeros_are_not_stored_and_columns_are_in_order():
    means = np.random.default_rng(1).gamma(0.3, 2.0, (50, 300)).astype(np.float32)
    X = draw_counts(means, 0.3, np.random.default_rng(2))
    assert (X.data >= 1).all()
    assert (X.data == np.round(X.data)).all()
    assert all((np.diff(X.indices[a:b]) > 0).all() for a, b in zip(X.indptr, X.indptr[1:]))
    assert X.dtype == np.float32
    assert X.sum() == pytest.approx(means.sum(), rel=0.05)


def test_a_row_of_no_counts_keeps_its_place():
    means = np.float32([[0, 0, 0], [900, 0, 0], [0, 0, 0], [0, 0, 900]])
    X = draw_counts(means, 0.1, np.random.default_rng(0))
    assert X.indptr.tolist() == [0, 0, 1, 1, 2]
    assert X.indices.tolist() == [0, 2]
