"""Losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from stateshift.bioemb.model import code_loss, masked

LOGITS = torch.tensor([[[2.0, 1.0, 0.0], [0.5, 0.5, 3.0]]])
TARGETS = torch.tensor([[0, 2]])


def surprise(logits: list[float], target: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[target]


def test_plain_is_the_mean_cross_entropy_of_all_steps():
    by_hand = (surprise([2, 1, 0], 0) + surprise([0.5, 0.5, 3], 2)) / 2
    assert code_loss(LOGITS, TARGETS, torch.tensor([[3, 2]]), "plain").item() == pytest.approx(by_hand)


def test_reference_divides_logits_by_the_logarithm_of_the_branches_plus_one():
    warm = [math.log(3) + 1, math.log(2) + 1]
    by_hand = (surprise([x / warm[0] for x in (2, 1, 0)], 0) + surprise([x / warm[1] for x in (0.5, 0.5, 3)], 2)) / 2
    assert code_loss(LOGITS, TARGETS, torch.tensor([[3, 2]]), "reference").item() == pytest.approx(by_hand)


def test_weighted_counts_a_step_by_the_logarithm_of_its_branches():
    a, b = math.log(3), math.log(2)
    by_hand = (a * surprise([2, 1, 0], 0) + b * surprise([0.5, 0.5, 3], 2)) / (a + b)
    assert code_loss(LOGITS, TARGETS, torch.tensor([[3, 2]]), "weighted").item() == pytest.approx(by_hand)


def test_weighted_ignores_forced_steps_and_plain_does_not():
    branches, other = torch.tensor([[3, 1]]), torch.tensor([[0, 1]])
    for mode, ignores in (("weighted", True), ("plain", False), ("reference", False)):
        same = code_loss(LOGITS, TARGETS, branches, mode) == code_loss(LOGITS, other, branches, mode)
        assert bool(same) == ignores


def test_a_masked_forced_step_is_certain_under_every_loss():
    only = masked(LOGITS[:, 1:], torch.tensor([[[False, False, True]]]))
    for mode in ("plain", "reference", "weighted"):
        assert code_loss(only, TARGETS[:, 1:], torch.tensor([[1]]), mode).item() == 0
