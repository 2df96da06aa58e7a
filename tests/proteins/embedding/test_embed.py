"""Embeddings against fair-esm's own forward pass, one protein at a time, and against worked windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.proteins.embedding.embed import embed_proteins, embed_sequences
from stateshift.proteins.esm2.models import load_esm2


@pytest.fixture(scope="module")
def esm():
    return load_esm2()


@pytest.fixture(scope="module")
def fair_esm_rows():
    """Rows (L + 2, D) by fair-esm's batch converter and forward, and nothing of ours."""
    fallback = load_esm2(engine="fair-esm")
    network, convert = fallback.network.theirs, fallback.alphabet.get_batch_converter()

    def rows(sequence: str, layer: int = 4) -> np.ndarray:
        _, _, tokens = convert([("one", sequence)])
        with torch.no_grad():
            return network(tokens, repr_layers=[layer])["representations"][layer][0].double().numpy()

    return rows


def test_a_batch_of_mixed_lengths_equals_fair_esm_one_by_one(esm, fair_esm_rows, protein_maker):
    sequences = {f"p{n}": protein_maker(n, seed=n) for n in (1, 7, 63, 64, 200, 350)}
    sequences["rare"] = "MKUOBZXLAG"
    for layer in (-1, 0, 2):
        found = dict(embed_sequences(esm, sequences, layer=layer))
        assert set(found) == set(sequences)
        for name, sequence in sequences.items():
            theirs = fair_esm_rows(sequence, layer % 5)
            assert found[name].residues.shape == (len(sequence), 128)
            assert found[name].residues.dtype == np.float32
            np.testing.assert_allclose(found[name].residues, theirs[1:-1], atol=2e-5)
            np.testing.assert_allclose(found[name].bos, theirs[0], atol=2e-5)
            np.testing.assert_allclose(found[name].eos, theirs[-1], atol=2e-5)


def test_a_proteins_vector_is_pooled_from_its_rows(esm, fair_esm_rows, protein_maker):
    sequences = {"a": protein_maker(50, seed=1), "b": protein_maker(20, seed=2)}
    for pooling, of in {"mean": lambda r: r[1:-1].mean(0), "cls": lambda r: r[0], "mean_bos_eos": np.mean}.items():
        for name, vector in embed_proteins(esm, sequences, pooling=pooling):
            rows = fair_esm_rows(sequences[name])
            by_hand = rows.mean(0) if of is np.mean else of(rows)
            np.testing.assert_allclose(vector, by_hand, atol=1e-5)


def test_a_residue_of_a_long_protein_is_the_mean_over_the_windows_that_hold_it(esm, fair_esm_rows, protein_maker):
    sequence = protein_maker(1300, seed=5)
    first, second = fair_esm_rows(sequence[:1022]), fair_esm_rows(sequence[766:])
    assert len(second) == 534 + 2
    rows = dict(embed_sequences(esm, {"long": sequence, "short": "MKV"}))["long"]
    np.testing.assert_allclose(rows.residues[:766], first[1:767], atol=2e-5)
    np.testing.assert_allclose(rows.residues[766:1022], (first[767:-1] + second[1:257]) / 2, atol=2e-5)
    np.testing.assert_allclose(rows.residues[1022:], second[257:-1], atol=2e-5)
    np.testing.assert_allclose(rows.bos, (1022 * first[0] + 534 * second[0]) / 1556, atol=2e-5)
    np.testing.assert_allclose(rows.eos, (1022 * first[-1] + 534 * second[-1]) / 1556, atol=2e-5)
    assert np.abs(first[767:-1] - second[1:257]).max() > 0.1


def test_windows_in_one_batch_or_one_by_one_come_to_the_same(esm, protein_maker):
    sequences = {"long": protein_maker(2500, seed=3)}
    one, several = (dict(embed_sequences(esm, sequences, tokens_per_batch=n))["long"] for n in (1024, 4096))
    np.testing.assert_allclose(one.residues, several.residues, atol=2e-5)


def test_each_protein_is_handed_on_before_the_next_batch_is_run(esm):
    calls = []
    watch = esm.network.register_forward_hook(lambda *_: calls.append(1))
    try:
        stream = embed_proteins(esm, {"a": "M" * 1000, "b": "K" * 900, "c": "V" * 1022}, tokens_per_batch=1024)
        for so_far, name in enumerate("cab", start=1):
            assert next(stream)[0] == name
            assert len(calls) == so_far
    finally:
        watch.remove()


def test_an_empty_sequence_a_small_budget_and_a_layer_too_many_are_refused(esm):
    with pytest.raises(StateshiftError, match="`hollow` has an empty sequence"):
        next(embed_proteins(esm, {"hollow": ""}))
    with pytest.raises(StateshiftError, match="at least 1024 tokens"):
        next(embed_proteins(esm, {"a": "MKV"}, tokens_per_batch=512))
    with pytest.raises(StateshiftError, match="layers 0 to 4"):
        next(embed_proteins(esm, {"a": "MKV"}, layer=5))
