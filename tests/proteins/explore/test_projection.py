"""The map against numpy's singular values, its signs, and tables that colour it."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins.explore.projection import principal_components, project, read_columns
from stateshift.proteins.explore.stored import Embeddings


def held(matrix):
    return Embeddings("x.h5", "made", {}, {f"p{i}": row for i, row in enumerate(matrix)})


@pytest.fixture
def matrix():
    return np.random.default_rng(0).standard_normal((8, 5)) * [5, 3, 1, 1, 1]


def test_scores_and_shares_are_those_of_the_singular_value_decomposition(matrix):
    found = project(held(matrix))
    left, values, right = np.linalg.svd(matrix - matrix.mean(0), full_matrices=False)
    for i in range(2):
        sign = np.sign(right[i][np.abs(right[i]).argmax()])
        np.testing.assert_allclose(found.table[f"PC{i + 1}"], sign * left[:, i] * values[i], atol=1e-6)
    np.testing.assert_allclose(found.explained, (values**2 / (values**2).sum())[:2], rtol=1e-6)


def test_signs_do_not_hang_on_the_order_of_the_proteins(matrix):
    forward, _ = principal_components(matrix)
    backward, _ = principal_components(matrix[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-9)


def test_proteins_on_a_line_have_no_second_component():
    scores, explained = principal_components(np.array([[0.0], [1.0], [5.0]]))
    assert explained == (1.0, 0.0)
    np.testing.assert_allclose(scores, [[-2, 0], [-1, 0], [3, 0]])


def test_residue_rows_alone_are_averaged_and_that_is_said(matrix):
    rows = {f"p{i}": np.stack([row - 1, row + 1]) for i, row in enumerate(matrix)}
    found = project(Embeddings("x.h5", "made", rows))
    np.testing.assert_allclose(found.table["PC1"], project(held(matrix)).table["PC1"], atol=1e-5)
    assert found.notes == ("There is no protein level: a protein's vector is the mean over its rows.",)


@pytest.mark.parametrize(
    ("matrix", "told"),
    [
        (np.ones((2, 3)), "holds 2 proteins: a map needs three"),
        (np.ones((4, 3)), "All vectors are alike"),
        ([np.ones(3), np.ones(4), np.ones(3)], "several widths"),
        (np.array([[1.0, 2.0], [np.inf, 0.0], [0.0, 0.0]]), "not finite in p1"),
    ],
)
def test_what_has_no_map_is_refused(matrix, told):
    with pytest.raises(StateshiftError, match=told):
        project(held(matrix))


def test_a_tables_columns_are_joined_by_id_and_what_lacks_is_noted(tmp_path, matrix):
    (tmp_path / "t.tsv").write_text("name\tfamily\n" + "".join(f"p{i}\tf{i % 2}\n" for i in range(7)))
    found = project(held(matrix), read_columns(tmp_path / "t.tsv", "family"))
    assert found.table["family"].tolist()[:7] == ["f0", "f1", "f0", "f1", "f0", "f1", "f0"]
    assert found.notes == ("1 ids are not in the table: p7.",)


def test_numbers_for_ids_are_read_as_texts(tmp_path):
    (tmp_path / "t.csv").write_text("x,id\n0.5,1\n0.7,2\n")
    assert read_columns(tmp_path / "t.csv", "x").index.tolist() == ["1", "2"]


def test_ids_stand_as_they_are_written_and_other_columns_are_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("id,x\n007,1.5\nNA,2\n1e3,\n")
    table = read_columns(tmp_path / "t.csv", "x")
    assert table.index.tolist() == ["007", "NA", "1e3"]
    assert table["x"].iloc[:2].tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,family\na,x\n", r"has no column `famly` \(did you mean `family`\?\)"),
        ("id,famly\na,x\na,y\n", "column `id` names a more than once"),
        ("", "can't be read as a csv"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(StateshiftError, match=told):
        read_columns(tmp_path / "t.csv", "famly")


def test_a_table_of_other_proteins_shows_ids_of_both_sides(tmp_path, matrix):
    (tmp_path / "t.csv").write_text("id,x\nq1,1\n")
    with pytest.raises(
        StateshiftError, match=r"The table's ids \(q1\) and those of x.h5 \(p0, p1, p2 and 5 more\) share none"
    ):
        project(held(matrix), read_columns(tmp_path / "t.csv", "x"))
