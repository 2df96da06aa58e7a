"""The challenge's notebook runs from the first cell to the last and shows what its text says of it."""

from __future__ import annotations

NOTEBOOK = "challenge.ipynb"


def test_a_run_becomes_a_file_that_passes_and_moves_as_the_measured_cells_do(said):
    checks = said("made = export_run(")
    assert checks.count("PASS") > 15
    assert "FAIL" not in checks
    assert "'meta.json'" in said("with tarfile.open(")
    assert float(said("def mean_of(").split(":")[1].splitlines()[0]) > 0.3


def test_the_run_is_scored_beside_baselines(said):
    table = said("score_run(run")
    assert all(name in table for name in ("score", "mean", "ridge", "transfer"))


def test_copies_of_control_cells_are_caught_and_nothing_else(said):
    checks = said("spoilt = predicted.copy()")
    assert checks.count("FAIL") == 1
    assert "copies of control cells" in checks
