"""Label files: what they mean, and all that can be wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.bioemb.downstream import make_split, read_labels
from stateshift.errors import InputProblems, StateshiftError


def test_the_task_is_seen_in_the_values(write):
    assert read_labels(write("a.csv", "n,label\nA,1\nB,0\nC,1\n")).task == "binary"
    assert read_labels(write("b.tsv", "n\tlabel\nA\tx\nB\ty\nC\tz\n")).classes == ["x", "y", "z"]
    assert read_labels(write("c.csv", "n,label\nA,1\nB,2\nC,3\n")).task == "multiclass"
    fractions = read_labels(write("d.csv", "n,label\nA,1.5\nB,-2\nC,3\n"))
    assert fractions.task == "regression"
    assert fractions.values.tolist() == [1.5, -2.0, 3.0]
    whole = read_labels(write("e.csv", "n,label\nA,1\nB,2\nC,3\n"), task="regression")
    assert whole.values.dtype == np.float64


def test_columns_are_named_and_empty_labels_left_out(write):
    path = write("a.csv", "row,id,kind,family\n0,A,x,f1\n1,B,,f1\n2,C,y,f2\n")
    labels = read_labels(path, name_column="id", label_column="kind", group_column="family")
    assert labels.names == ["A", "C"]
    assert labels.values.tolist() == [0, 1]
    assert labels.groups.tolist() == ["f1", "f2"]


def test_calls_are_answers_to_many_questions(write):
    path = write("a.csv", "pert,gene,label,split\nA,g,1,train\nA,h,0,train\nB,h,1,test\n")
    labels = read_labels(path, task_column="gene", split_column="split")
    assert (labels.task, labels.names, labels.classes, labels.outputs) == ("calls", ["A", "B"], ["g", "h"], 2)
    np.testing.assert_array_equal(labels.values, [[1, 0], [np.nan, 1]])
    assert labels.split.tolist() == ["train", "test"]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("n,lable\nA,1\n", {}, r"no column `label` \(did you mean `lable`\?\)"),
        ("n,label\nA,1.5\nB,high\n", {"task": "regression"}, "`B`: the label `high` is no number"),
        ("n,label\nA,1.5\nB,0.2\nC,high\n", {}, "`C`: the label `high` is no number"),
        (
            "n,label\n" + "".join(f"{x},{x}\n" for x in "ABCDEFGHIJKLMNOPQRSTUVW"),
            {},
            "every name has a label of its own",
        ),
        ("n,label\nA,1\nB,1\n", {}, "one class alone, `1`"),
        ("n,label\nA,2.5\nB,2.5\n", {"task": "regression"}, "every label is 2.5"),
        ("n,label\nA,x\nB,y\nC,z\n", {"task": "binary"}, "two classes, not 3"),
        ("n,label\nA,x\nA,y\n", {}, "`A` has 2 different labels"),
        ("n,label,g\nA,x,1\nA,x,2\n", {"group_column": "g"}, "`A` has 2 different values of `g`"),
        ("n,label,s\nA,x,tset\nB,y,train\n", {"split_column": "s"}, "`tset` is none of train, val and test"),
        ("n,label\n", {}, "holds no labels"),
        ("n,q,label\nA,x,yes\n", {"task_column": "q"}, "the call `yes` is neither 0 nor 1"),
        ("n,label\nA,1\nB,0\n", {"task": "regresion"}, "did you mean `regression`"),
        ("n,label\nA,1\nB,0\n", {"task": "calls"}, "go together"),
    ],
)
def test_what_can_not_be_learned_from_is_refused(text, options, said, write):
    with pytest.raises(StateshiftError, match=said):
        read_labels(write("a.csv", text), **options)


def test_all_problems_come_at_once(write):
    path = write("a.csv", "n,label,s\nA,x,train\nA,y,train\nB,x,nowhere\n")
    with pytest.raises(InputProblems, match="2 problems"):
        read_labels(path, split_column="s")


def test_names_that_a_table_lacks_are_counted_and_named(write, caplog):
    labels = read_labels(write("a.csv", "n,label\nA,1\nB,0\nC,1\n"))
    with caplog.at_level("INFO", logger="stateshift"):
        found = labels.among(["B", "A", "Z"], "a.csv")
    assert found.names == ["A", "B"]
    assert "1 of 3 names are not in the table and left out: C" in caplog.text
    with pytest.raises(StateshiftError, match="none of its 3 names is in the table"):
        labels.among(["X"], "a.csv")
    with pytest.raises(StateshiftError, match="one class alone, `1`"):
        labels.among(["A", "C"], "a.csv")


@pytest.fixture
def grouped(write):
    rows = "".join(f"N{i},{i % 2},f{i // 5},{'test' if i >= 80 else 'train'}\n" for i in range(100))
    return read_labels(write("g.csv", "n,label,family,side\n" + rows), group_column="family", split_column="side")


def test_a_split_parts_the_names_and_a_seed_repeats_it(grouped):
    for way in ("random", "grouped", "given"):
        split = make_split(grouped, way, 3)
        assert sorted(np.concatenate(split).tolist()) == list(range(100))
        np.testing.assert_array_equal(split.test, make_split(grouped, way, 3).test)
    assert [len(side) for side in make_split(grouped, "random", 0)] == [70, 10, 20]


def test_a_grouped_split_keeps_groups_together(grouped):
    for seed in range(5):
        sides = [set(grouped.groups[side]) for side in make_split(grouped, "grouped", seed)]
        assert not sides[0] & sides[1]
        assert not (sides[0] | sides[1]) & sides[2]
        assert [len(s) for s in sides] == [14, 2, 4]


def test_a_given_split_is_the_files_and_draws_validation_from_training(grouped):
    split = make_split(grouped, "given", 1)
    assert split.test.tolist() == list(range(80, 100))
    assert len(split.val) == 10


def test_splits_without_what_they_need_are_refused(write, grouped):
    plain = read_labels(write("p.csv", "n,label\nA,1\nB,0\nC,1\n"))
    for way, said in (("grouped", "--group-column"), ("given", "--split-column"), ("randon", "did you mean `random`")):
        with pytest.raises(StateshiftError, match=said):
            make_split(plain, way, 0)
    with pytest.raises(StateshiftError, match="leaves none to|one class alone"):
        make_split(plain, "random", 0)
