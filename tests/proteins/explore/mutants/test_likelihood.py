"""Masked marginals against fair-esm's own model, one position and one mutant at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stateshift.proteins import load_esm2
from stateshift.proteins.embedding.batches import MAX_RESIDUES
from stateshift.proteins.explore.mutants.calls import call_mutant
from stateshift.proteins.explore.mutants.likelihood import masked_log_probabilities, masked_marginals
from stateshift.proteins.fasta import RESIDUES

WT = "MKTAYDERGLVSWNPQHICF"


@pytest.fixture(scope="module")
def esm():
    return load_esm2(precision="fp32")


@pytest.fixture(scope="module")
def reference():
    return load_esm2(engine="fair-esm", precision="fp32")


def masked(reference, sequence, positions):
    """Log probabilities over the whole alphabet from fair-esm's converter and model, (L + 2, 33)."""
    _, _, tokens = reference.alphabet.get_batch_converter()([("", sequence)])
    tokens[0, list(positions)] = reference.alphabet.mask_idx
    return torch.log_softmax(reference.run(tokens, logits=True).logits[0], dim=-1)


def test_every_residues_log_probability_is_fair_esms(esm, reference):
    masks = [(1,), (7,), (20,), (3, 9, 10)]
    for mask, found in zip(masks, masked_log_probabilities(esm, WT, masks)):
        expected = masked(reference, WT, mask)[list(mask)][:, [reference.alphabet.get_idx(x) for x in RESIDUES]]
        np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


def test_a_score_is_the_sum_over_substitutions_masked_together(esm, reference):
    mutant = "MKAAYDERGLVSWNPQHICW"
    logs, index = masked(reference, WT, (3, 20)), reference.alphabet.get_idx
    expected = logs[3, index("A")] - logs[3, index("T")] + logs[20, index("W")] - logs[20, index("F")]
    assert masked_marginals(esm, WT, [call_mutant(WT, mutant)])[0] == pytest.approx(float(expected), abs=5e-5)


def test_indels_have_no_score_and_the_wild_type_has_none_to_lose(esm):
    scores = masked_marginals(esm, WT, [call_mutant(WT, other) for other in (WT, WT[:5] + WT[6:], "W" * 20)])
    assert scores[0] == 0
    assert np.isnan(scores[1:]).all()


def test_a_batch_of_any_size_says_the_same(esm):
    calls = [call_mutant(WT, WT[:i] + "A" + WT[i + 1 :]) for i in range(len(WT))]
    np.testing.assert_allclose(masked_marginals(esm, WT, calls, 30), masked_marginals(esm, WT, calls, 4096), atol=2e-5)


def test_of_a_long_protein_the_model_sees_a_window_about_the_site(esm, reference):
    long = (WT * 100)[:1500]
    for position, start in ((3, 0), (800, 289), (1499, 478)):
        found = masked_log_probabilities(esm, long, [(position,)])[0][0]
        window = long[start : start + MAX_RESIDUES]
        expected = masked(reference, window, (position - start,))[position - start]
        expected = expected[[reference.alphabet.get_idx(x) for x in RESIDUES]]
        np.testing.assert_allclose(found, expected.numpy(), atol=5e-5)
    apart = call_mutant(long, "W" + long[1:1400] + "W" + long[1401:])
    assert apart.kind == "several substitutions"
    assert np.isnan(masked_marginals(esm, long, [apart])[0])
