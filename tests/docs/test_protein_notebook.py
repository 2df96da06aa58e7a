"""The notebook on proteins runs from the first cell to the last and shows what its text says of it."""

from __future__ import annotations

NOTEBOOK = "protein_embeddings.ipynb"


def test_inputs_and_both_levels_are_shown_and_match(said):
    assert "37 sequences, lengths {36}" in said("sequences = {")
    assert "37 ids have L rows, one a residue." in said("inspect_proteins(EMBEDDINGS")
    assert "residues (36, 128)  protein (128,)" in said("residues, protein =")


def test_the_model_makes_the_stored_residues_again(said):
    assert float(said("esm = load_esm2").split(":")[-1]) < 1e-4


def test_the_pooling_is_the_mean_and_another_orders_the_mutants_otherwise(said):
    assert "the stored vectors are: mean\n" in said("report = pooling_of")
    correlation = float(said("def distances").splitlines()[0].split(":")[1])
    assert -1 < correlation < 0.9


def test_mutations_are_tabled_and_drawn_and_so_are_the_maps(executed, said):
    assert "p.Met1Ala" in said("compare_mutants(")
    drawn = [o for c in executed.cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(drawn) == 3


def test_questions_and_the_reflection_are_left_to_the_reader(executed):
    text = "\n".join(c.source for c in executed.cells if c.cell_type == "markdown")
    assert text.count("**?**") >= 8
    assert "What I can't conclude" in text
