"""The toy set: what it holds, that its embeddings are the demo model's, and that it is copied and not overwritten."""

from __future__ import annotations

import numpy as np
import pytest

from stateshift.errors import StateshiftError
from stateshift.proteins import embed_sequences, load_esm2, read_fasta
from stateshift.proteins.explore.mutants.calls import call_mutant
from stateshift.proteins.explore.stored import inspect_proteins, pooling_of, read_embeddings
from stateshift.proteins.explore.toy import EMBEDDINGS, FASTA, copy_toy


@pytest.fixture(scope="module")
def sequences():
    return {p.id: p.sequence for p in read_fasta(FASTA)}


def test_every_residue_of_the_wild_type_has_one_mutant_named_after_it(sequences):
    wt = sequences["WT"]
    assert set(wt) == set("ACDEFGHIKLMNPQRSTVWY")
    assert list(sequences) == ["WT", *(f"M{i}_{i}" for i in range(1, len(wt) + 1))]
    for i in range(1, len(wt) + 1):
        call = call_mutant(wt, sequences[f"M{i}_{i}"])
        assert (call.kind, call.position) == ("substitution", i)
        assert call.changes[0].mutant == ("G" if wt[i - 1] == "A" else "A")


def test_its_embeddings_are_the_demo_models_at_both_levels_and_mean_pooled(sequences):
    held = read_embeddings(EMBEDDINGS)
    assert held.ids == list(sequences)
    for id, rows in embed_sequences(load_esm2(precision="fp32"), sequences):
        np.testing.assert_allclose(held.residue(id), rows.residues, atol=1e-4)
        np.testing.assert_allclose(held.protein(id), rows.residues.mean(0), atol=1e-4)
    assert pooling_of(held, {id: len(s) for id, s in sequences.items()}).fitting == ["mean"]
    assert inspect_proteins(EMBEDDINGS, FASTA).problems == []


def test_it_is_small_and_copied_beside_nothing_it_would_replace(tmp_path):
    fasta, embeddings = copy_toy(tmp_path / "toy")
    assert fasta.read_bytes() == FASTA.read_bytes()
    assert embeddings.stat().st_size == EMBEDDINGS.stat().st_size < 2**20
    with pytest.raises(StateshiftError, match=r"toy.fasta exists already"):
        copy_toy(tmp_path / "toy")
