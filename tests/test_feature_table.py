"""The table that every source writes: its file, its errors, its doubles."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from stateshift.errors import InputProblems, StateshiftError
from stateshift.feature_table import FeatureTable, genes_of


def table() -> FeatureTable:
    return FeatureTable(["A", "B", "C"], np.arange(6, dtype=float).reshape(3, 2), {"source": "test", "missing": {}})


def test_a_double_is_split_and_its_vector_is_the_sum_of_its_genes():
    assert genes_of(" A + B") == ["A", "B"]
    np.testing.assert_array_equal(table().matrix(["B", "A+C"]), [[2, 3], [4, 6]])


def test_the_file_is_a_plain_dict_of_tensors_that_torch_reads_with_weights_only(tmp_path):
    table().save(tmp_path / "t.pt")
    content = torch.load(tmp_path / "t.pt", weights_only=True)
    assert list(content) == ["A", "B", "C"]
    assert all(v.dtype == torch.float32 and v.shape == (2,) for v in content.values())
    assert content["B"].tolist() == [2.0, 3.0]
    # a vector that is a view would carry the whole table with it
    assert content["B"].untyped_storage().nbytes() == 8
    described = json.loads((tmp_path / "t.pt.json").read_text())
    assert (described["genes"], described["width"], described["source"]) == (3, 2, "test")


def test_a_table_written_and_read_is_the_same_with_its_provenance(tmp_path):
    table().save(tmp_path / "t.pt")
    again = FeatureTable.load(tmp_path / "t.pt")
    assert (again.genes, again.provenance) == (table().genes, table().provenance)
    np.testing.assert_array_equal(again.vectors, table().vectors)


def test_another_programs_dict_of_half_precision_tensors_is_read_as_float32(tmp_path):
    torch.save({"A": torch.ones(3).half(), "B": torch.zeros(3).double()}, tmp_path / "t.pt")
    again = FeatureTable.load(tmp_path / "t.pt")
    assert again.vectors.dtype == np.float32
    assert again.provenance == {"source": "table", "file": "t.pt"}


def test_a_missing_gene_is_an_error_with_the_near_name_and_never_zero():
    with pytest.raises(StateshiftError, match="did you mean `KLF1`"):
        FeatureTable(["KLF1"], np.ones((1, 2))).matrix(["KLF1", "KLF1+KLF"])
    assert table().missing(["A+Z", "Y", "B"]) == ["Y", "Z"]
    with pytest.raises(StateshiftError, match="No feature vector for Z"):
        table().subset(["A", "Z"])


def test_an_existing_file_is_not_replaced_unless_asked(tmp_path):
    table().save(tmp_path / "t.pt")
    with pytest.raises(StateshiftError, match="exists already"):
        table().subset(["A"]).save(tmp_path / "t.pt")
    assert len(FeatureTable.load(tmp_path / "t.pt")) == 3
    table().subset(["A"]).save(tmp_path / "t.pt", overwrite=True)
    assert FeatureTable.load(tmp_path / "t.pt").genes == ["A"]


def test_bad_vectors_are_refused_by_gene():
    with pytest.raises(StateshiftError, match="NaN or infinity for B"):
        FeatureTable(["A", "B"], np.array([[1.0], [np.inf]]))
    with pytest.raises(StateshiftError, match="twice in the feature table: A"):
        FeatureTable(["A", "A"], np.ones((2, 1)))
    with pytest.raises(StateshiftError, match="`B` has 3 values and `A` has 2"):
        FeatureTable.from_mapping({"A": np.ones(2), "B": np.ones(3)}, {})
    with pytest.raises(StateshiftError, match="holds no vectors"):
        FeatureTable.from_mapping({}, {}, "t.pt")


def test_files_that_are_no_table_are_refused(tmp_path):
    with pytest.raises(StateshiftError, match="no such feature table"):
        FeatureTable.load(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("gene,1\n")
    with pytest.raises(StateshiftError, match="read safely"):
        FeatureTable.load(tmp_path / "text.pt")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(StateshiftError, match="not a dict gene symbol → tensor, it holds a list"):
        FeatureTable.load(tmp_path / "list.pt")
    torch.save({"genes": ["A", "B"], "vectors": torch.ones(2, 3)}, tmp_path / "keys.pt")
    with pytest.raises(
        StateshiftError, match=r"`genes` \(list\), `vectors` \(Tensor \(2, 3\)\).*dict\(zip\(genes, vectors"
    ):
        FeatureTable.load(tmp_path / "keys.pt")
    np.savez(tmp_path / "t.npz", genes=["A"], vectors=[[1.0]])
    with pytest.raises(StateshiftError, match=r't\.npz is read by the source `table`: .* lookup = "t\.npz"'):
        FeatureTable.load(tmp_path / "t.npz")


def test_vectors_that_ask_for_gradients_are_read_as_numbers_and_a_damaged_record_is_named(tmp_path):
    torch.save({"A": torch.nn.Parameter(torch.ones(2))}, tmp_path / "t.pt")
    assert FeatureTable.load(tmp_path / "t.pt").vectors.tolist() == [[1, 1]]
    (tmp_path / "t.pt.json").write_text("[]")
    with pytest.raises(StateshiftError, match=r"t\.pt\.json is damaged: .* Take it away, or make the table again"):
        FeatureTable.load(tmp_path / "t.pt")


def test_genes_that_read_like_others_and_a_table_without_a_header_are_refused(tmp_path):
    torch.save({"A": torch.ones(2), "A\u200b": torch.ones(2)}, tmp_path / "t.pt")
    with pytest.raises(StateshiftError, match=r"t\.pt names genes with letters that don't show: 'A\\u200b'\."):
        FeatureTable.load(tmp_path / "t.pt")
    (tmp_path / "t.csv").write_text("gene,a\nA,1\nB\u200b,2\n")
    with pytest.raises(InputProblems, match=r"genes hold letters that don't show: 'B\\u200b'"):
        FeatureTable.load(tmp_path / "t.csv")
    (tmp_path / "n.csv").write_text("A,0.25,-1.5e-3\nB,0.5,2.0\n")
    with pytest.raises(StateshiftError, match="numbers in its first line, where names of columns belong"):
        FeatureTable.load(tmp_path / "n.csv")
    (tmp_path / "n.csv").write_text(",0.0,1.0\nA,0.25,-1.5e-3\n")
    assert FeatureTable.load(tmp_path / "n.csv").genes == ["A"], "columns may be called by numbers"


@pytest.mark.parametrize(
    ("name", "told"), [("", "names no gene"), ("+", "names no gene"), ("A+", "names no gene"), ("A+A", "twice")]
)
def test_a_name_with_an_empty_or_repeated_gene_is_refused_and_never_zero(name, told):
    with pytest.raises(StateshiftError, match=told):
        FeatureTable(["A"], np.ones((1, 2)), {}).matrix([name])


def test_an_empty_column_of_a_text_table_is_one_problem_with_its_count(tmp_path):
    (tmp_path / "t.csv").write_text("gene,a,b\nA,1,\nB,2,\nC,3,\n")
    with pytest.raises(InputProblems) as caught:
        FeatureTable.load(tmp_path / "t.csv")
    assert caught.value.problems == [
        "column `b` holds no finite number for 3 of 3 genes (A: nothing, B: nothing, C: nothing): leave the column or these "
        "genes out."
    ]


def test_nan_and_matrices_in_a_pt_file_are_told_with_the_file_and_the_gene(tmp_path):
    torch.save({"A": torch.ones(2), "B": torch.tensor([1.0, float("nan")])}, tmp_path / "nan.pt")
    with pytest.raises(StateshiftError, match="nan.pt holds NaN or infinity for B"):
        FeatureTable.load(tmp_path / "nan.pt")
    torch.save({"A": torch.ones(3, 2)}, tmp_path / "rows.pt")
    with pytest.raises(StateshiftError, match=r"rows.pt: `A` has an array \(3, 2\) where one vector a gene is needed"):
        FeatureTable.load(tmp_path / "rows.pt")
    torch.save({"A": torch.ones(1, 2)}, tmp_path / "row.pt")
    assert FeatureTable.load(tmp_path / "row.pt").width == 2
