"""Embeddings against fair-esm's own forward pass, one protein at a time, and against worked windows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from stateshift.errors import StateshiftError
from stateshift.proteins.embed import _batches, embed_proteins, windows
from stateshift.proteins.esm2 import load_esm2


@pytest.fixture(scope="module")
def esm():
    return load_esm2()


def random_protein(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("LAGVSERTIDPKQNFYMHWC"), length))


def fair_esm_rows(esm, sequence: str) -> np.ndarray:
    """Residue rows (L, D) by fair-esm's batch converter and forward, and nothing of ours."""
    _, _, tokens = esm.alphabet.get_batch_converter()([("one", sequence)])
    with torch.no_grad():
        representations = esm.model(tokens, repr_layers=[esm.model.num_layers])["representations"]
    return representations[esm.model.num_layers][0, 1:-1].double().numpy()


def test_a_batch_of_mixed_lengths_equals_fair_esm_one_by_one(esm):
    sequences = {f"p{n}": random_protein(n, seed=n) for n in (1, 7, 63, 64, 200, 350)}
    sequences["rare"] = "MKUOBZXLAG"
    vectors = dict(embed_proteins(esm, sequences))
    assert set(vectors) == set(sequences)
    for name, sequence in sequences.items():
        rows = fair_esm_rows(esm, sequence)
        assert len(rows) == len(sequence)
        assert vectors[name].dtype == np.float32
        np.testing.assert_allclose(vectors[name], rows.mean(0), atol=1e-5)


def test_windows_of_1022_begin_every_766_and_the_last_ends_with_the_protein():
    assert windows(1) == [(0, 1)]
    assert windows(1022) == [(0, 1022)]
    assert windows(1023) == [(0, 1022), (766, 1023)]
    assert windows(1788) == [(0, 1022), (766, 1788)]
    assert windows(1789) == [(0, 1022), (766, 1788), (1532, 1789)]


@pytest.mark.parametrize("length", [1023, 1788, 5635, 34350])
def test_windows_cover_every_residue_and_none_is_longer_than_the_model_knows(length):
    spans = windows(length)
    assert sorted(set().union(*(range(*span) for span in spans))) == list(range(length))
    assert max(end - start for start, end in spans) == 1022
    assert all(earlier[1] - later[0] == 256 for earlier, later in itertools.pairwise(spans))


def test_a_long_protein_is_the_mean_of_its_windows_weighted_by_their_lengths(esm):
    sequence = random_protein(1300, seed=5)
    first, second = fair_esm_rows(esm, sequence[:1022]), fair_esm_rows(esm, sequence[766:])
    assert len(second) == 534
    by_hand = (1022 * first.mean(0) + 534 * second.mean(0)) / 1556
    vector = dict(embed_proteins(esm, {"long": sequence, "short": "MKV"}))["long"]
    np.testing.assert_allclose(vector, by_hand, atol=1e-5)
    assert np.abs(vector - (first.mean(0) + second.mean(0)) / 2).max() > 1e-3


def test_batches_keep_to_the_budget_hold_each_window_once_and_long_proteins_together():
    lengths = {"titin": 3000, "big": 1500, **{f"p{i}": 10 + 37 * i for i in range(25)}}
    batches = _batches({name: "A" * n for name, n in lengths.items()}, budget=2048)
    for batch in batches:
        assert len(batch) * (max(end - start for _, start, end in batch) + 2) <= 2048
    pieces = [piece for batch in batches for piece in batch]
    assert sorted(pieces) == sorted((name, *span) for name, n in lengths.items() for span in windows(n))
    assert [name for name, _, _ in pieces[:6]] == ["titin"] * 4 + ["big"] * 2


def test_each_protein_is_handed_on_before_the_next_batch_is_run(esm):
    calls = []
    watch = esm.model.register_forward_hook(lambda *_: calls.append(1))
    try:
        stream = embed_proteins(esm, {"a": "M" * 1000, "b": "K" * 900, "c": "V" * 1022}, tokens_per_batch=1024)
        for so_far, name in enumerate("cab", start=1):
            assert next(stream)[0] == name
            assert len(calls) == so_far
    finally:
        watch.remove()


def test_an_empty_sequence_and_a_budget_under_a_window_are_refused(esm):
    with pytest.raises(StateshiftError, match="`hollow` has an empty sequence"):
        next(embed_proteins(esm, {"hollow": ""}))
    with pytest.raises(StateshiftError, match="at least 1024 tokens"):
        next(embed_proteins(esm, {"a": "MKV"}, tokens_per_batch=512))
