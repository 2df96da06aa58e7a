"""Weights of residues from a table."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import InputProblems, StateshiftError
from stateshift.proteins.embedding.weights import read_weights

SEQUENCES = {"a": "MKV", "b": "MK"}


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_positions_are_one_based_and_residues_left_out_weigh_nothing(tmp_path, delimiter):
    rows = [("id", "position", "weight"), ("b", "1", "0.5"), ("a", "3", "2"), ("a", "1", "1")]
    (tmp_path / "w").write_text("\n".join(delimiter.join(row) for row in rows))
    weights = read_weights(tmp_path / "w", SEQUENCES)
    np.testing.assert_array_equal(weights["a"], [1, 0, 2])
    np.testing.assert_array_equal(weights["b"], [0.5, 0])


def test_every_wrong_row_and_every_protein_without_weights_is_named(tmp_path):
    (tmp_path / "w.csv").write_text("id,position,weight\nc,1,1\na,0,1\na,4,1\na,x,1\na,1,heavy\nb,1,1\nb,2,-1\n")
    with pytest.raises(InputProblems) as caught:
        read_weights(tmp_path / "w.csv", SEQUENCES)
    told = caught.value.problems
    assert [problem.partition(":")[0] for problem in told] == [*(f"line {n}" for n in range(2, 7)), "`a`", "`b`"]


def test_a_table_without_the_columns_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "w.csv").write_text("id,pos,weight\n")
    with pytest.raises(StateshiftError, match="needs the columns id, position, weight"):
        read_weights(tmp_path / "w.csv", SEQUENCES)
    with pytest.raises(StateshiftError, match="missing or no text"):
        read_weights(tmp_path / "absent.csv", SEQUENCES)


def test_a_residue_that_is_weighed_twice_is_refused_with_both_lines(tmp_path):
    (tmp_path / "w.csv").write_text("id,position,weight\na,1,1\na,2,1\na,1,5\n")
    with pytest.raises(InputProblems, match="line 4: residue 1 of `a` has its weight in line 2 already"):
        read_weights(tmp_path / "w.csv", {"a": "MK"})


def test_a_decimal_comma_that_makes_a_field_of_its_own_is_told_and_no_whole_number(tmp_path):
    (tmp_path / "w.csv").write_text("id,position,weight\nA,1,1,5\nA,2,0,5\n")
    with pytest.raises(InputProblems, match="line 2 has more fields than the header"):
        read_weights(tmp_path / "w.csv", {"A": "MK"})
