"""Decoding names existing entities only, the likeliest ones, and as likely as the network says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from stateshift.bioemb.codes import build_trie
from stateshift.bioemb.model import BioEmb, Decoder, Shape
from stateshift.errors import StateshiftError

TOKENS, LENGTH = 4, 3


@pytest.fixture(params=[0, 1, 2])
def decoder(request) -> Decoder:
    """An untrained network, sharpened so that it has opinions, over 20 of the 64 codes."""
    torch.manual_seed(request.param)
    model = BioEmb(Shape(6, TOKENS, LENGTH + 1, 5, layers=1, hidden=16, heads=2, feedforward=16, dropout=0.0))
    with torch.no_grad():
        model.head.weight *= 8
    every = np.array(list(itertools.product(range(TOKENS), repeat=LENGTH)))
    codes = np.random.default_rng(request.param).permutation(every)[:20]
    return Decoder(model, build_trie(codes, TOKENS))


def likelihoods_by_hand(decoder: Decoder, vector: torch.Tensor) -> list[float]:
    """Each code's log probability, step by step, the tokens that may follow found by looking at all codes."""
    codes = decoder.targets.tolist()
    result = []
    for code in codes:
        total = 0.0
        for step, token in enumerate(code):
            may = sorted({other[step] for other in codes if other[:step] == code[:step]})
            before = torch.tensor([[decoder.model.shape.bos, *code[:step]]])
            with torch.no_grad():
                logits = decoder.model.logits(vector[None], before)[0, -1]
            total += float(logits[may].log_softmax(-1)[may.index(token)])
        result.append(total)
    return result


def test_greedy_and_beam_name_only_entities_that_exist(decoder):
    embedded = 20 * torch.randn(200, 5)
    named = decoder.greedy(embedded)
    assert named.min() >= 0
    assert named.max() < 20
    assert len(named.unique()) > 1
    found = decoder.beam(embedded, 4).entities
    assert found.min() >= 0
    assert all(len(set(row)) == 4 for row in found.tolist())


def test_a_beam_as_wide_as_there_are_entities_finds_all_with_their_likelihoods(decoder):
    vector = torch.randn(5)
    by_hand = likelihoods_by_hand(decoder, vector)
    entities, scores = decoder.beam(vector[None], 20)
    assert sorted(entities[0].tolist()) == list(range(20))
    assert entities[0].tolist() == sorted(range(20), key=lambda e: -by_hand[e])
    np.testing.assert_allclose(scores[0], sorted(by_hand, reverse=True), atol=1e-4)


def test_likelihoods_of_all_entities_are_those_by_hand_and_sum_to_one(decoder):
    embedded = torch.randn(3, 5)
    told = decoder.log_likelihoods(embedded, batch=7)
    np.testing.assert_allclose(told[1], likelihoods_by_hand(decoder, embedded[1]), atol=1e-4)
    torch.testing.assert_close(told.exp().sum(1), torch.ones(3))


def test_more_beams_than_entities_leave_the_others_empty(decoder):
    entities, scores = decoder.beam(torch.randn(2, 5), 25)
    assert (entities[:, 20:] == -1).all()
    assert torch.isneginf(scores[:, 20:]).all()
    assert sorted(entities[0, :20].tolist()) == list(range(20))


def test_greedy_takes_the_likeliest_token_at_each_step(decoder):
    for vector in 3 * torch.randn(10, 5):
        code, may = [], decoder.targets.tolist()
        for step in range(LENGTH + 1):
            with torch.no_grad():
                before = torch.tensor([[decoder.model.shape.bos, *code]])
                logits = decoder.model.logits(vector[None], before)[0, -1]
            code.append(max({c[step] for c in may}, key=lambda token: logits[token]))
            may = [c for c in may if c[: step + 1] == code]
        assert decoder.targets.tolist().index(code) == decoder.greedy(vector[None]).item()


def test_no_beam_is_refused(decoder):
    with pytest.raises(StateshiftError, match="a beam or more, not 0"):
        decoder.beam(torch.randn(1, 5), 0)
