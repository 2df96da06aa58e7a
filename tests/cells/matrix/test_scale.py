import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from stateshift.cells.matrix.scale import to_log1p
from stateshift.errors import StateshiftError

COUNTS = csr_matrix(np.array([[1.0, 0.0, 3.0], [0.0, 2.0, 2.0]]))


def test_counts_become_log1p_of_ten_thousand_as_scanpy_makes_it():
    import anndata as ad
    import scanpy as sc

    X, scale, found = to_log1p(COUNTS, {})
    reference = ad.AnnData(COUNTS.copy())
    sc.pp.normalize_total(reference, target_sum=1e4)
    sc.pp.log1p(reference)
    np.testing.assert_allclose(X.toarray(), reference.X.toarray(), rtol=1e-6)
    assert (scale, found, X.dtype) == ("log1p_1e4", "counts", np.float32)


@pytest.mark.parametrize("layout", [csc_matrix, np.asarray])
def test_any_layout_gives_the_same(layout):
    X, _, _ = to_log1p(layout(COUNTS.toarray()), {})
    np.testing.assert_allclose(X.toarray(), to_log1p(COUNTS, {})[0].toarray())


def test_log1p_values_stay_and_their_size_factor_is_recognised():
    X, _, _ = to_log1p(COUNTS, {})
    again, scale, _ = to_log1p(X, {"log1p": {}})
    assert scale == "log1p_1e4"
    np.testing.assert_array_equal(again.toarray(), X.toarray())
    of_a_million = csr_matrix(np.log1p(100 * np.expm1(X.toarray().astype(float))))
    assert to_log1p(of_a_million, {})[1] == "log1p"


def test_log1p_values_of_genes_cut_afterwards_need_a_mark_or_a_word():
    X = to_log1p(COUNTS, {})[0][:, [0, 2]]
    with pytest.raises(StateshiftError, match="its scale can't be told: .*the cells' totals differ"):
        to_log1p(X, {})
    assert to_log1p(X, {"log1p": {"base": None}})[1] == "log1p"
    assert to_log1p(X, {}, "log1p_1e4")[1] == "log1p_1e4"
    assert to_log1p(X, {"stateshift": {"scale": "log1p_1e4"}})[1] == "log1p_1e4"


def test_log1p_of_any_total_is_brought_to_ten_thousand_where_that_is_declared():
    counts = np.array([[1.0, 0.0, 3.0], [0.0, 2.0, 2.0]])
    logs = csr_matrix(np.log1p(counts * [[70.0], [3.0]]))
    X, scale, found = to_log1p(logs, {}, "to_1e4")
    np.testing.assert_allclose(X.toarray(), to_log1p(COUNTS, {})[0].toarray(), rtol=1e-6)
    assert (scale, found) == ("log1p_1e4", "to_1e4")
    assert to_log1p(COUNTS, {}, "to_1e4")[1:] == ("log1p_1e4", "counts")
    with pytest.raises(StateshiftError, match="declared `to_1e4`, and it reaches 16"):
        to_log1p(csr_matrix([[16.5, 1.0]]), {}, "to_1e4")


def test_whole_numbers_marked_log1p_are_ambiguous():
    with pytest.raises(StateshiftError, match='whole numbers, and uns\\["log1p"\\] marks it as log1p'):
        to_log1p(COUNTS, {"log1p": {}})


def test_another_base_of_logarithm_is_refused_with_the_factor():
    with pytest.raises(StateshiftError, match="says base 2; natural logarithms are needed: multiply X by ln 2"):
        to_log1p(csr_matrix([[0.5, 2.3], [1.5, 0.2]]), {"log1p": {"base": 2}})


@pytest.mark.parametrize(
    ("values", "declared", "message"),
    [
        ([[np.nan, 1.0]], None, "1 NaN or infinite values in 1 cells \\(first in row 0\\)"),
        ([[-0.5, 1.0]], None, "negative values \\(least -0.5\\)"),
        ([[0.5, 30.0]], None, "fractions up to 30, neither counts nor log1p"),
        (
            [[0.5, 1.2], [3.0, 30.0], [0.0, 0.0]],
            None,
            "mixes scales: 1 cells hold whole numbers up to 30, as counts do",
        ),
        ([[0.5, 1.0]], "counts", "declared `counts`, and it holds fractions"),
        ([[1.0, 30.0]], "log1p", "declared `log1p`, and it reaches 30"),
        ([[1.0, 3.0]], "logp1", "`logp1` is no scale \\(did you mean `log1p`\\?\\)"),
        ([[0.0, 0.0]], None, "is all zeros"),
        ([[0.0, 0.0], [1.0, 2.0]], None, "1 cells hold no counts at all"),
    ],
)
def test_impossible_values_are_refused(values, declared, message):
    with pytest.raises(StateshiftError, match=message):
        to_log1p(csr_matrix(np.array(values)), {}, declared, "my.h5ad")


def test_a_declared_scale_that_the_values_contradict_is_refused():
    with pytest.raises(StateshiftError, match="declared `log1p_1e4`, and it holds whole numbers alone: counts"):
        to_log1p(COUNTS, {}, "log1p_1e4")
    X = COUNTS.toarray()
    of_a_million = csr_matrix(np.log1p(1e6 * X / X.sum(axis=1, keepdims=True)))
    with pytest.raises(StateshiftError, match="declared `log1p_1e4`, and every cell's expm1 sums to 1,000,000"):
        to_log1p(of_a_million, {"stateshift": {"scale": "log1p_1e4"}})


def test_predicted_cells_that_are_all_moved_a_little_keep_their_declared_scale():
    X = COUNTS.toarray()
    moved = csr_matrix(np.log1p(1.05e4 * X / X.sum(axis=1, keepdims=True)))
    assert to_log1p(moved, {}, "log1p_1e4")[1] == "log1p_1e4"
    assert to_log1p(moved, {"log1p": {}})[1] == "log1p"
