"""The notebooks run from the first cell to the last and show what their text says of it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebooks" / "protein_embeddings.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    assert list(folder.iterdir()) == []
    return notebook


def said(notebook, beginning):
    """All text that the cell printed or showed whose code begins so."""
    cell = next(c for c in notebook.cells if c.cell_type == "code" and beginning in c.source)
    return "".join(output.get("text", "") or output["data"].get("text/plain", "") for output in cell.outputs)


def test_inputs_and_both_levels_are_shown_and_match(executed):
    assert "37 sequences, lengths {36}" in said(executed, "sequences = {")
    assert "37 ids have L rows, one a residue." in said(executed, "inspect_proteins(EMBEDDINGS")
    assert "residues (36, 128)  protein (128,)" in said(executed, "residues, protein =")


def test_the_model_makes_the_stored_residues_again(executed):
    assert float(said(executed, "esm = load_esm2").split(":")[-1]) < 1e-4


def test_the_pooling_is_the_mean_and_another_orders_the_mutants_otherwise(executed):
    assert "the stored vectors are: mean\n" in said(executed, "report = pooling_of")
    correlation = float(said(executed, "def distances").splitlines()[0].split(":")[1])
    assert -1 < correlation < 0.9


def test_mutations_are_tabled_and_drawn_and_so_are_the_maps(executed):
    assert "p.Met1Ala" in said(executed, "compare_mutants(")
    drawn = [o for c in executed.cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(drawn) == 3


def test_questions_and_the_reflection_are_left_to_the_reader():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert text.count("**?**") >= 8
    assert "What I can't conclude" in text
