import math

import pytest
import torch
from scipy.stats import ttest_ind

from stateshift.transition.losses import Populations, contrastive, delta_cosine, quiet_genes


def test_delta_cosine_is_nothing_along_one_right_angled_and_two_against():
    measured = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]])
    predicted = torch.tensor([[0.3, 0.4], [4.0, -3.0], [-6.0, -8.0]])
    assert delta_cosine(predicted, measured).tolist() == pytest.approx([0, 1, 2], abs=1e-6)


def test_a_model_that_moves_nothing_gets_a_finite_gradient():
    predicted = torch.zeros(2, 5, requires_grad=True)
    (
        delta_cosine(predicted, torch.ones(2, 5)).sum() + contrastive(predicted, torch.eye(2, 5), torch.eye(2)).sum()
    ).backward()
    assert torch.isfinite(predicted.grad).all()
    assert (predicted.grad < 0).any()


def test_contrastive_of_two_perturbations_worked_by_hand():
    measured = torch.eye(2)
    predicted = torch.tensor([[2.0, 0.0], [3.0, 4.0]])
    # cosines with (own, other): (1, 0) and (0.8, 0.6)
    expected = [math.log(1 + math.exp(-1 / 0.5)), math.log(1 + math.exp((0.6 - 0.8) / 0.5))]
    assert contrastive(predicted, measured, torch.eye(2), temperature=0.5).tolist() == pytest.approx(expected)


def test_sets_of_the_same_perturbation_are_not_told_apart():
    measured, predicted = torch.randn(2, 3, 8, dtype=torch.float64).unbind()
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    twice = contrastive(predicted, measured, features)
    alone = contrastive(predicted[:2], measured[:2], features[:2])
    torch.testing.assert_close(twice[0], alone[0])
    assert torch.equal(contrastive(predicted, measured, features.bfloat16()), twice)
    assert contrastive(predicted[[0, 2]], measured[[0, 2]], features[[0, 2]]).tolist() == [0, 0]


def test_quiet_genes_are_drawn_to_their_control_and_others_left_alone():
    predicted = torch.tensor([[0.05, 0.5, 9.0]], requires_grad=True)
    measured, error = torch.tensor([[0.1, -0.1, 3.0]]), torch.tensor([[0.1, 0.1, 0.1]])
    loss = quiet_genes(predicted, measured, error)
    assert loss.item() == pytest.approx((0.05**2 / 2 + 0.1 * (0.5 - 0.05)) / 2)
    loss.backward()
    assert predicted.grad[0].tolist() == pytest.approx([0.025, 0.05, 0])


def test_a_batch_in_which_every_gene_responds_asks_for_nothing():
    assert quiet_genes(torch.ones(1, 3), torch.ones(1, 3), torch.zeros(1, 3)).tolist() == [0]


def test_the_error_of_a_shift_is_welchs():
    random = torch.Generator().manual_seed(0)
    control, measured = torch.randn(2, 2, 20, 5, dtype=torch.float64, generator=random).unbind()
    measured = measured * 2 + 0.3
    mask = torch.arange(20)[None].expand(2, 20) < torch.tensor([[20], [13]])
    populations = Populations(measured, measured, control, torch.eye(2), mask)
    t = populations.measured_shift / populations.shift_error
    for row, n in ((0, 20), (1, 13)):
        expected = ttest_ind(measured[row, :n], control[row, :n], equal_var=False).statistic
        assert t[row].tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("term", [delta_cosine, lambda p, m: contrastive(p, m, torch.eye(3))])
def test_gradients_are_those_of_finite_differences(term):
    random = torch.Generator().manual_seed(0)
    predicted, measured = torch.randn(2, 3, 4, dtype=torch.float64, generator=random).unbind()
    assert torch.autograd.gradcheck(lambda p: term(p, measured), predicted.requires_grad_())
