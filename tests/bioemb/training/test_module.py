"""A training step computes what its loss counts, and no more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stateshift.bioemb.codes import build_trie
from stateshift.bioemb.model import BioEmb, Shape, code_loss, masked
from stateshift.bioemb.settings import TrainingSettings
from stateshift.bioemb.training.module import CodeModule, entity_loader

CODES = np.array([[0, 0, 1, 1], [0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 2, 0], [1, 1, 2, 2]])


def module(loss: str = "weighted", constraint: str = "always") -> CodeModule:
    torch.manual_seed(0)
    model = BioEmb(Shape(6, 3, 5, 4, layers=1, hidden=16, heads=2, feedforward=16, dropout=0.0))
    return CodeModule(model, build_trie(CODES, 3), TrainingSettings(loss=loss, constraint=constraint), seed=0)


@pytest.mark.parametrize("constraint", ["always", "never"])
@pytest.mark.parametrize("loss", ["weighted", "plain", "reference"])
def test_the_loss_is_that_of_whole_codes(loss, constraint):
    learned, vectors, entities = module(loss, constraint), torch.randn(3, 6), torch.tensor([0, 1, 2])
    logits = learned.model(vectors, learned.targets[entities])
    if constraint == "always":
        logits = masked(logits, learned.allowed[learned.nodes[entities]])
    whole = code_loss(logits, learned.targets[entities], learned.branches[learned.nodes[entities]], loss)
    torch.testing.assert_close(learned.training_step((vectors, entities)), whole)


def test_codes_are_followed_as_far_as_a_batch_has_choices():
    learned = module()
    assert learned.steps_that_count(torch.tensor([0, 1, 2])) == 2
    assert learned.steps_that_count(torch.tensor([0, 4])) == 4
    assert module("plain").steps_that_count(torch.tensor([0])) is None


def test_accuracies_are_those_counted_by_hand():
    learned, vectors = module(), torch.randn(5, 6)
    with torch.no_grad():
        logits = learned.eval().model(vectors, learned.targets)
    right = []
    for entity, code in enumerate(learned.targets.tolist()):
        for step, token in enumerate(code):
            others = [c for c in learned.targets.tolist() if c[:step] == code[:step]]
            may = sorted({c[step] for c in others})
            said = max(may, key=lambda t: logits[entity, step, t])
            right.append((entity, len(may) > 1, said == token))
    told = learned.accuracies(vectors)
    assert told["token_accuracy"] == pytest.approx(np.mean([hit for _, choice, hit in right if choice]))
    by_hand = [all(hit for e, _, hit in right if e == entity) for entity in range(5)]
    assert told["exact_code"] == pytest.approx(np.mean(by_hand))


def test_every_epoch_holds_every_entity_in_an_order_of_its_own():
    vectors = torch.arange(20.0)[:, None]
    loader = entity_loader(vectors, 6, seed=1)
    orders = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        rows, entities = (torch.cat(parts) for parts in zip(*loader))
        assert torch.equal(rows[:, 0].long(), entities)
        assert sorted(entities.tolist()) == list(range(20))
        orders.append(entities.tolist())
    assert orders[0] != orders[1]
