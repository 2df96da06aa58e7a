"""The course of a training on disk."""

from __future__ import annotations

from stateshift.course import read_course, write_course


def test_rows_that_were_cut_off_or_lie_beyond_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n0,1.0\n5,0.5\n10,0.25\n15,0.")
    assert [row["step"] for row in read_course(path, 10)] == ["0", "5", "10"]


def test_rows_are_written_whole_with_a_column_for_all_that_any_of_them_holds(tmp_path):
    path = tmp_path / "metrics.csv"
    write_course(path, [{"step": 0, "val": 2.5}])
    write_course(path, [*read_course(path, 0), {"step": 5, "train": 0.5, "val": 1.5}])
    assert path.read_text().splitlines() == ["step,val,train", "0,2.5,", "5,1.5,0.5"]
    assert read_course(tmp_path / "none.csv", 9) == []
