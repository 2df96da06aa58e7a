"""What a table of calls says, and what is wrong with one."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.effects.calls.read import read_calls, training_rows
from stateshift.errors import InputProblems, StateshiftError
from stateshift.genes import GeneNames


@pytest.fixture
def read(tmp_path):
    """Read a table of calls from its text."""

    def of(text: str, **told):
        (tmp_path / "c.csv").write_text(text)
        return read_calls(tmp_path / "c.csv", **told)

    return of


SPLIT = """pert,gene,label,context,split
A,g,1,x,train
A,h,0,x,train
A,g,1,y,test
B,g,0,x,val
C,g,0,x,train
C,k,,x,train
"""


def test_a_row_is_a_perturbation_in_a_context_and_a_split_belongs_to_it(read):
    calls = read(SPLIT)
    rows = dict(zip(zip(calls.effects.perturbations, calls.effects.contexts), calls.split.tolist()))
    assert rows == {("A", "x"): "train", ("A", "y"): "test", ("B", "x"): "val", ("C", "x"): "train"}
    assert calls.labels
    part = calls.part("test")
    assert (part.perturbations, part.contexts, part.genes, part.effects.tolist()) == (["A"], ["y"], ["g"], [[1.0]])
    with pytest.raises(StateshiftError, match=r"No row is in the split `other` \(there are: test, train, val\)"):
        calls.part("other")


def test_a_table_without_a_split_trains_on_all_of_it(read):
    calls = read("pert,gene,value\nA,g,0\nB,g,1\n", in_context="K562")
    assert calls.split.tolist() == ["train", "train"]
    assert calls.effects.contexts == ["K562", "K562"]
    assert not calls.labels  # values may well be 0 and 1


def test_targets_of_val_and_test_train_nowhere_in_one_regime_and_elsewhere_in_the_other(read):
    calls = read(SPLIT + "B,g,1,y,train\n")
    rows, left_out = training_rows(calls, "T", GeneNames())
    assert (rows.perturbations, left_out) == (["C"], ["A", "B"])
    assert rows.genes == ["g"]  # h and k are measured in no row that trains
    rows, left_out = training_rows(calls, "C", GeneNames())
    pairs = set(zip(rows.perturbations, rows.contexts))
    assert (pairs, left_out) == ({("A", "x"), ("B", "y"), ("C", "x")}, [])
    assert np.isnan(rows.effects).sum() == len(rows) * len(rows.genes) - 4


def test_a_double_is_tested_in_any_order_of_its_genes(read):
    calls = read("pert,gene,label,context,split\nA+B,g,1,x,test\nB+A,g,0,y,train\nA,g,0,x,train\n")
    assert training_rows(calls, "T", GeneNames())[1] == ["B+A"]


def test_a_table_that_leaves_nothing_to_train_on_is_refused(read):
    calls = read("pert,gene,label,context,split\nA,g,1,x,test\nA,g,0,y,train\n")
    with pytest.raises(StateshiftError, match="No row is left to train on"):
        training_rows(calls, "T", GeneNames())
    assert len(training_rows(calls, "C", GeneNames())[0]) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pert,gene,label\nA,g,1\nB,g,2\n", r"`label` holds 2 \(as for B on g\)"),
        ("pert,gene,label\nA,g,1\nB,g,1\n", "1 in every row"),
        ("pert,gene,label\nA,g,\nB,g,\n", "`label` is empty in every row"),
        ("pert,gene,label,spilt\nA,g,1,train\nB,g,0,train\n", "did you mean `split`"),
        ("pert,gene,label,contxt\nA,g,1,x\nB,g,0,x\n", r"`contxt` has no meaning here \(did you mean `context`"),
        ("pert,gene,label,split\nA,g,1,train\nA,h,0,test\n", "in two splits at once: A"),
        ("pert,gene,label,split\nA,g,1,trian\nB,h,0,test\n", "holds trian"),
        ("pert,gene\nA,g\n", "value"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(read, text, told):
    with pytest.raises(StateshiftError, match=told):
        read(text)


def test_wrong_labels_and_wrong_splits_are_told_at_once(read):
    with pytest.raises(InputProblems, match=r"(?s)`label` holds 3.*`split` holds later"):
        read("pert,gene,label,split,note\nA,g,3,train,\nB,g,0,later,\n")
