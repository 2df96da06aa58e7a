"""The challenge's notebook runs from the first cell to the last and shows what its text says of it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebooks" / "challenge.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    assert list(folder.iterdir()) == []
    return notebook


def said(notebook, part):
    """All text that the cell printed or showed whose code holds this."""
    cell = next(c for c in notebook.cells if c.cell_type == "code" and part in c.source)
    return "".join(output.get("text", "") or output["data"].get("text/plain", "") for output in cell.outputs)


def test_a_run_becomes_a_file_that_passes_and_moves_as_the_measured_cells_do(executed):
    checks = said(executed, "made = export_run(")
    assert checks.count("PASS") > 15
    assert "FAIL" not in checks
    assert "'meta.json'" in said(executed, "with tarfile.open(")
    assert float(said(executed, "def mean_of(").split(":")[1].splitlines()[0]) > 0.3


def test_the_run_is_scored_beside_baselines(executed):
    table = said(executed, "score_run(run")
    assert all(name in table for name in ("score", "mean", "ridge", "transfer"))


def test_copies_of_control_cells_are_caught_and_nothing_else(executed):
    checks = said(executed, "spoilt = predicted.copy()")
    assert checks.count("FAIL") == 1
    assert "copies of control cells" in checks
