"""Counts found again in the logarithms that were made of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stateshift.challenge.export.counts import LEAST, counts_of
from stateshift.errors import StateshiftError


def made(depth, n_genes=2000, cells=10, total=54_000):
    """Counts of cells of a depth, with genes of one count and of thousands, and log1p of them in float32."""
    rng = np.random.default_rng(0)
    shares = rng.lognormal(0, 2.5, n_genes)
    counts = rng.poisson(rng.lognormal(np.log(depth), 0.4, (cells, 1)) * shares / shares.sum()).astype(np.float32)
    return counts, np.log1p(counts / counts.sum(1, keepdims=True) * np.float32(total))


@pytest.mark.parametrize(("depth", "total"), [(300, 1e4), (54_000, 54_000), (500_000, 1e4)])
def test_every_count_is_found_again_whatever_the_depth_and_the_total(depth, total):
    counts, logs = made(depth, total=total)
    np.testing.assert_array_equal(counts_of(csr_matrix(logs), "f").toarray(), counts)


def test_genes_of_one_count_may_have_been_cut_away():
    counts, logs = made(54_000)
    least = np.where(counts > 0, counts, np.inf)
    kept = least.min(axis=0) > 3
    assert 3 < least[:, kept].min(axis=1).max() <= LEAST
    np.testing.assert_array_equal(counts_of(csr_matrix(logs[:, kept]), "f").toarray(), counts[:, kept])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [-0.5, np.nan, np.inf, 20.5])
def test_a_value_that_no_count_becomes_is_refused(value):
    logs = made(54_000)[1]
    logs[3, np.argmax(logs[3])] = value
    with pytest.raises(
        StateshiftError, match="f: its control cells hold fractions that are not log1p of scaled counts"
    ):
        counts_of(csr_matrix(logs), "f")


def test_smoothed_logarithms_are_refused():
    logs = made(54_000)[1]
    logs[3] = (logs[3] + logs[4]) / 2
    with pytest.raises(StateshiftError, match="not log1p of scaled counts"):
        counts_of(csr_matrix(logs), "f")
