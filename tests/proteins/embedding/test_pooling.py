"""Residue rows into one vector, by each rule."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins.embedding.pooling import POOLINGS, pool

ROWS = np.array([[1.0, -2.0], [3.0, 0.0], [8.0, 5.0]], dtype=np.float32)
BOS, EOS = np.array([10.0, 20.0]), np.array([3.0, 7.0])
BY_HAND = {
    "mean": [4, 1],
    "mean_bos_eos": [5, 6],
    "cls": [10, 20],
    "max": [8, 5],
    "weighted": [(1 * 1 + 8 * 3) / 4, (-2 * 1 + 5 * 3) / 4],
}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_is_what_it_says(pooling):
    vector = pool(ROWS, pooling, bos=BOS, eos=EOS, weights=np.array([1, 0, 3]))
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, BY_HAND[pooling])


def test_a_mean_of_many_rows_is_summed_in_double_precision():
    rows = np.full((200_000, 1), 0.1, dtype=np.float32)
    assert abs(pool(rows)[0] - np.float32(0.1)) < 1e-8


def test_what_a_pooling_lacks_is_said():
    with pytest.raises(StateshiftError, match="did you mean `mean`"):
        pool(ROWS, "maen")
    for pooling in ("cls", "mean_bos_eos"):
        with pytest.raises(StateshiftError, match="needs the rows of BOS and EOS"):
            pool(ROWS, pooling)
    for weights in (None, np.ones(2)):
        with pytest.raises(StateshiftError, match="a weight for each of 3 residues"):
            pool(ROWS, "weighted", weights=weights)
    for weights in ([0, 0, 0], [1, -1, 3], [1, np.nan, 1]):
        with pytest.raises(StateshiftError, match="none negative and not all zero"):
            pool(ROWS, "weighted", weights=np.array(weights))
