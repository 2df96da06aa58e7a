"""The network sees its vector through the bottleneck alone, and no token before its time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stateshift.bioemb.model import PRESETS, BioEmb, Shape
from stateshift.errors import StateshiftError


@pytest.fixture
def model() -> BioEmb:
    torch.manual_seed(0)
    return BioEmb(Shape(7, 5, 4, 3, layers=2, hidden=16, heads=2, feedforward=32, dropout=0.0)).eval()


def test_presets_are_as_published_and_small():
    reference = Shape.of_preset("reference", width=1280, tokens=15, length=9, bottleneck=64)
    assert (reference.layers, reference.hidden, reference.heads, reference.feedforward) == (8, 768, 8, 3072)
    assert (reference.dropout, reference.bos) == (0.2, 17)
    small = BioEmb(Shape.of_preset("small", width=1280, tokens=15, length=9, bottleneck=64))
    assert (len(small.decoder.layers), small.head.in_features) == (4, 256)
    assert set(PRESETS) == {"reference", "small"}


def test_an_unknown_preset_is_refused_with_a_suggestion():
    with pytest.raises(StateshiftError, match=r"no model\.preset `smal` \(did you mean `small`\?\)"):
        Shape.of_preset("smal", width=1, tokens=2, length=2, bottleneck=2)


def test_a_token_knows_only_those_before_it(model):
    vectors, targets = torch.randn(2, 7), torch.tensor([[0, 1, 2, 5], [3, 3, 0, 5]])
    changed = targets.clone()
    changed[:, 2] = 4
    before, after = model(vectors, targets), model(vectors, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3] - after[:, 3]).abs().max() > 1e-3


def test_logits_depend_on_the_vector_through_the_bottleneck_alone(model):
    vectors, targets = torch.randn(2, 7), torch.tensor([[0, 1, 2, 5], [3, 3, 0, 5]])
    torch.testing.assert_close(model(vectors, targets), model.logits(model.embed(vectors), model.before(targets)))
    assert model.embed(vectors).shape == (2, 3)
    assert (model(vectors, targets) - model(vectors + 1, targets)).abs().max() > 1e-3


def test_columns_are_standardised_and_constant_ones_say_nothing(model):
    vectors = np.random.default_rng(0).normal(3, 10, (50, 7)).astype(np.float32)
    vectors[:, 2] = 1e6
    model.standardise_by(vectors)
    seen = (torch.from_numpy(vectors) - model.mean) * model.scale
    kept = [0, 1, 3, 4, 5, 6]
    torch.testing.assert_close(seen[:, kept].mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[:, kept].std(0, correction=0), torch.ones(6), atol=1e-4, rtol=0)
    vectors[:, 2] = -5
    torch.testing.assert_close((torch.from_numpy(vectors) - model.mean) * model.scale, seen)
