"""Embeddings beside homologs: averaged over contexts, in windows, never beside the protein itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.proteins import embed_proteins
from stateshift.proteins.fasta import read_sequences
from stateshift.rag_esm.embedding import embed_fasta, embed_with_contexts
from stateshift.rag_esm.model.checkpoint import save_rag_esm
from stateshift.rag_esm.model.tokens import tokens_of


def test_rows_are_the_mean_over_contexts_of_the_decoders_rows(demo_maker, protein_maker):
    trained = demo_maker()
    protein, homologs = protein_maker(25), [protein_maker(20, 1), protein_maker(33, 2)]
    ((_, rows),) = embed_with_contexts(trained, {"p": protein}, {"p": homologs})
    with torch.inference_mode():
        each = [
            trained.network(tokens_of([protein]), trained.network.encode(tokens_of([h])))[0, 1:-1] for h in homologs
        ]
    np.testing.assert_allclose(rows, torch.stack(each).mean(0).numpy(), atol=1e-4)
    assert (each[0] - each[1]).abs().max() > 0.01


def test_of_a_long_context_the_beginning_is_read_and_it_is_said(demo_maker, protein_maker, caplog):
    trained, protein, homolog = demo_maker("last"), protein_maker(12), protein_maker(1030, 1)
    (_, cut), (_, whole) = (
        next(embed_with_contexts(trained, {"p": protein}, {"p": [h]})) for h in (homolog, homolog[:1022])
    )
    np.testing.assert_array_equal(cut, whole)
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert said == ["Of contexts longer than 1022 residues the rest is not read: p."]


def test_a_long_protein_is_read_in_windows(demo_maker, protein_maker):
    trained, protein, homolog = demo_maker("last"), protein_maker(1100), protein_maker(30, 1)
    ((_, rows),) = embed_with_contexts(trained, {"p": protein}, {"p": [homolog]})
    with torch.inference_mode():
        read = trained.network.encode(tokens_of([homolog]))
        first, last = (
            trained.network(tokens_of([part]), read)[0, 1:-1].numpy() for part in (protein[:1022], protein[766:])
        )
    np.testing.assert_allclose(rows[:766], first[:766], atol=1e-4)
    np.testing.assert_allclose(rows[766:1022], (first[766:] + last[:256]) / 2, atol=1e-4)
    np.testing.assert_allclose(rows[1022:], last[256:], atol=1e-4)


def test_a_fasta_is_embedded_beside_its_family_and_lonely_proteins_are_refused(demo_maker, families, tmp_path):
    save_rag_esm(demo_maker(), tmp_path / "model")
    fasta, _ = families
    text = fasta.read_text().split(">")
    (tmp_path / "two.fasta").write_text(">" + text[1] + ">" + text[6])
    homologs = embed_fasta(tmp_path / "model", tmp_path / "two.fasta", tmp_path / "e.npz", database=fasta, contexts=2)
    assert homologs == {"p00": ["p01", "p02"], "p10": ["p11", "p12"]}
    with np.load(tmp_path / "e.npz") as made:
        assert {name: made[name].shape for name in made} == {"p00": (128,), "p10": (128,)}
    # homologs by embedding are those of the model's own ESM2, not of the demo's
    trained = demo_maker()
    torch.nn.init.normal_(trained.network.esm.embedding)
    save_rag_esm(trained, tmp_path / "other")
    more = tmp_path / "other", tmp_path / "two.fasta", tmp_path / "n.npz"
    nearest = embed_fasta(*more, database=fasta, by="embedding", contexts=5)
    vectors = dict(embed_proteins(trained.esm, read_sequences(fasta)))
    cosines = {n: float(v @ vectors["p00"] / np.linalg.norm(v)) for n, v in vectors.items() if n != "p00"}
    assert nearest["p00"] == sorted(cosines, key=cosines.get, reverse=True)[:5]
    (tmp_path / "w.fasta").write_text(">w\n" + "W" * 30 + "\n")
    with pytest.raises(StateshiftError, match=r"Proteins without a homolog to be read beside \(1 of 1\): w"):
        embed_fasta(tmp_path / "model", tmp_path / "w.fasta", tmp_path / "w.npz", database=fasta)
