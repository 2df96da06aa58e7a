"""The notebook of a screen of one's own runs, and what it says of the network and the intervals is so."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

NOTEBOOK = "own_screen.ipynb"
NOTEBOOKS = Path(__file__).resolve().parents[2] / "docs" / "notebooks"


def test_the_notebook_goes_from_cells_to_scores_in_which_the_network_is_behind_ridge(said):
    assert "24 perturbed genes, without a vector: []" in said("check_experiment(experiment)")
    rows = [line.split() for line in said("evaluate(predicted").splitlines()[1:]]
    means = dict(row[1:] for row in rows if len(row) == 3)
    assert float(means["state_tiny"]) < float(means["ridge"])
    assert float(means["state_tiny"]) > float(means["mean"]) > 0.3
    assert 0.85 < float(said("print(*interval").split("hold ")[1].split("%")[0]) / 100 < 1


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_executed_without_an_error_or_a_path_of_a_machine(path):
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    outputs = [output for c in code for output in c.outputs]
    assert {o.output_type for o in outputs} <= {"stream", "display_data", "execute_result"}
    assert sum("image/png" in o.get("data", {}) or "image/svg+xml" in o.get("data", {}) for o in outputs) >= 1
    assert "site-packages" not in path.read_text()
    assert path.stat().st_size < 400_000
