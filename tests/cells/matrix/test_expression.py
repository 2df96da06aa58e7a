import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, random

from stateshift.cells.matrix import expression
from stateshift.cells.matrix.expression import Expression, Part


def whole(seed: int) -> np.ndarray:
    return random(30, 7, 0.4, random_state=seed, dtype=np.float32).toarray()


@pytest.mark.parametrize("layout", [np.asarray, csr_matrix])
@given(rows=st.lists(st.integers(0, 59), max_size=40))
@settings(max_examples=25, deadline=None)
def test_rows_of_several_parts_come_in_the_order_asked_for(layout, rows):
    X = Expression([layout(whole(0)), csr_matrix(whole(1))])
    both = np.concatenate([whole(0), whole(1)])
    np.testing.assert_array_equal(X.dense(rows), both[rows])
    np.testing.assert_array_equal(X.csr(rows).toarray(), both[rows])
    total, squares = X.sums(rows)
    np.testing.assert_allclose(total, both[rows].sum(axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(squares, (both[rows] ** 2).sum(axis=0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layouts", [[csr_matrix], [np.asarray], [np.asarray, csr_matrix], [csr_matrix, csr_matrix]])
def test_no_row_is_a_row_of_zeros(layouts):
    X = Expression([layout(whole(0)) for layout in layouts])
    expected = np.stack([np.zeros(7), whole(0)[3], np.zeros(7), whole(0)[29]])
    np.testing.assert_array_equal(X.dense([-1, 3, -1, 29]), expected)
    assert X.dense([-1, 3]).dtype == np.float32


def test_a_part_of_more_values_than_32_bits_count_is_read_in_blocks(monkeypatch):
    monkeypatch.setattr(expression, "LIMIT_OF_INT32", 20)
    X = csr_matrix(whole(0))
    part = Part(X.shape, data=X.data, indices=X.indices, indptr=X.indptr.astype(np.int64))
    assert len(part._blocks) > 3
    rows = np.array([29, 0, 13, 13, 7])
    np.testing.assert_array_equal(part.csr(rows).toarray(), whole(0)[rows])


def test_blocks_are_views_of_the_arrays():
    X = csr_matrix(whole(0))
    part = Part(X.shape, data=X.data, indices=X.indices, indptr=X.indptr.astype(np.int64))
    assert np.shares_memory(part._blocks[0].data, X.data)
    assert np.shares_memory(part._blocks[0].indices, X.indices)


def test_a_boolean_mask_chooses_rows_and_none_have_no_mean():
    X = Expression([whole(0)])
    mask = np.arange(30) % 2 == 0
    np.testing.assert_allclose(X.mean(mask), whole(0)[mask].mean(axis=0), rtol=1e-6)
    assert np.isnan(X.mean(np.zeros(30, bool))).all()
