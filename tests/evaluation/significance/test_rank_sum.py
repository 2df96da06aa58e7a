"""The rank-sum test of all perturbations against controls that are sorted once, beside scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.stats import false_discovery_control, mannwhitneyu

from stateshift.errors import StateshiftError
from stateshift.evaluation.significance import false_discovery_rates, rank_sum_test, sorted_controls


def scipys(cells: np.ndarray, controls: np.ndarray) -> np.ndarray:
    # in 64 bits: scipy tests single precision in single precision
    p = mannwhitneyu(np.float64(cells), np.float64(controls), axis=0, method="asymptotic").pvalue
    return np.nan_to_num(p, nan=1.0)


@st.composite
def groups(draw) -> tuple[list[np.ndarray], np.ndarray]:
    """Groups of 1 to 12 cells and 1 to 30 controls of 9 genes: sparse, tied or neither."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    dense, whole = draw(st.floats(0, 1)), draw(st.booleans())

    def some(n: int) -> np.ndarray:
        X = rng.gamma(1, 2, (n, 9)) * (rng.random((n, 9)) < dense)
        X[:, 0], X[:, 1] = 0, 3
        return np.round(X) if whole else X

    return [some(n) for n in sizes], some(draw(st.integers(1, 30)))


@given(groups(), st.booleans(), st.sampled_from([np.float32, np.float64]))
@settings(max_examples=80, deadline=None)
def test_p_values_are_scipys_to_1e_9_relative(drawn, sparse, precision):
    cells, controls = [x.astype(precision) for x in drawn[0]], drawn[1].astype(precision)
    form = csr_matrix if sparse else np.asarray
    names = [str(i) for i in range(len(cells))]
    found = rank_sum_test(lambda name: form(cells[int(name)]), names, sorted_controls(form(controls), "log1p"))
    expected = np.stack([scipys(x, controls) for x in cells])
    np.testing.assert_allclose(found.p_values, expected, rtol=1e-9)
    np.testing.assert_allclose(found.fdr, [false_discovery_control(p) for p in expected], rtol=1e-9)


def test_many_threads_find_what_one_finds():
    rng = np.random.default_rng(0)
    cells = {str(i): csr_matrix(rng.poisson(1, (20, 40)).astype(np.float32)) for i in range(12)}
    controls = sorted_controls(csr_matrix(rng.poisson(1, (50, 40)).astype(np.float32)), "log1p")
    one, four = (rank_sum_test(cells.__getitem__, list(cells), controls, threads=n) for n in (1, 4))
    assert np.array_equal(one.p_values, four.p_values)
    assert np.array_equal(one.fold_changes, four.fold_changes)


def test_zeros_that_are_stored_and_values_stored_in_parts_count_as_what_they_are():
    X = csr_matrix((np.array([0.0, 1, 1, 2]), np.array([0, 1, 1, 0]), np.array([0, 1, 3, 4])), shape=(3, 2))
    controls = np.array([[0.0, 1], [1, 0], [3, 2], [0, 2]])
    stored = rank_sum_test(lambda _: X, ["A"], sorted_controls(csr_matrix(controls), "log1p"))
    plain = rank_sum_test(lambda _: X.toarray(), ["A"], sorted_controls(controls, "log1p"))
    assert np.array_equal(stored.p_values, plain.p_values)
    assert np.array_equal(stored.fold_changes, plain.fold_changes)


def test_fold_changes_by_hand_zero_means_included():
    cells = np.log1p([[3.0, 0, 4, 0], [3, 0, 4, 0]])
    controls = sorted_controls(np.log1p([[1.0, 0, 0, 2], [1, 0, 0, 2]]), "log1p")
    found = rank_sum_test(lambda _: cells, ["A"], controls).fold_changes
    assert found[0].tolist() == pytest.approx([np.log2(3), 0, np.inf, -np.inf])


def test_counts_are_compared_by_million_and_rare_genes_by_the_controls_alone_are_not_tested():
    counts = np.array([[8.0, 2, 0, 990], [0, 2, 0, 998]]) * 1000
    controls = sorted_controls(np.array([[4.0, 0, 0, 996], [4, 0, 1e-6, 996]]), "counts")
    found = rank_sum_test(lambda _: counts, ["A"], controls, fewest_cpm=5.0)
    assert found.tested.tolist() == [True, False, False, True]
    assert np.isnan(found.fdr[0]).tolist() == [False, True, True, False]
    assert found.fold_changes[0, [0, 3]].tolist() == pytest.approx([0, np.log2(994 / 996)], abs=1e-9)
    assert found.fold_changes[0, 1] == pytest.approx(np.log2((2000 + 1e-9) / 1e-9))
    assert np.array_equal(found.fdr[0, found.tested], false_discovery_control(found.p_values[0, found.tested]))


def test_a_cell_without_counts_stays_at_zero():
    controls = sorted_controls(np.array([[0.0, 0], [1, 3]]), "counts")
    assert controls.cells.mean.tolist() == [125_000, 375_000]


def test_false_discovery_rates_are_scipys():
    p = np.random.default_rng(0).random((5, 30)) ** 3
    np.testing.assert_allclose(false_discovery_rates(p), false_discovery_control(p, axis=1), rtol=1e-12)
    assert false_discovery_rates(np.empty((2, 0))).shape == (2, 0)


@pytest.mark.parametrize("values", [[[-1.0, 0]], [[np.nan, 1]]])
def test_values_that_are_no_expression_are_refused_with_whose_they_are(values):
    controls = sorted_controls(np.ones((3, 2)), "log1p")
    with pytest.raises(StateshiftError, match="KLF1: values are negative, NaN or infinite"):
        rank_sum_test(lambda _: np.array(values), ["KLF1"], controls)
    with pytest.raises(StateshiftError, match="the controls: values are negative, NaN or infinite"):
        sorted_controls(csr_matrix(values), "log1p")


def test_a_perturbation_without_cells_and_a_filter_of_log_values_are_refused():
    controls = sorted_controls(np.ones((3, 2)), "log1p")
    with pytest.raises(StateshiftError, match="KLF1: there are no cells"):
        rank_sum_test(lambda _: np.empty((0, 2)), ["KLF1"], controls)
    with pytest.raises(StateshiftError, match="needs counts"):
        rank_sum_test(lambda _: np.ones((2, 2)), ["KLF1"], controls, fewest_cpm=5)
    with pytest.raises(StateshiftError, match="No test was made of B"):
        rank_sum_test(lambda _: np.ones((2, 2)), ["A"], controls).rows(["B"])
