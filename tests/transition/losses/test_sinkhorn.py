import math

import pytest
import torch

from stateshift.transition.losses import sinkhorn_divergence


def two_sets(cells: int = 12, genes: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, cells, genes, dtype=torch.float64, generator=random)
    return x, torch.randn(2, cells, genes, dtype=torch.float64, generator=random) + 1


def optimal_cost(x: torch.Tensor, y: torch.Tensor) -> float:
    """The cheapest matching of cells, by the Hungarian algorithm."""
    from scipy.optimize import linear_sum_assignment

    cost = 0.5 * torch.cdist(x, y).square().numpy()
    return cost[linear_sum_assignment(cost)].mean()


def test_with_little_blur_it_is_the_cost_of_the_best_matching():
    x, y = two_sets()
    expected = [optimal_cost(a, b) for a, b in zip(x, y)]
    assert sinkhorn_divergence(x, y, blur=0.01).tolist() == pytest.approx(expected, rel=0.05)


def test_a_shifted_copy_costs_half_the_shift_squared():
    x, _ = two_sets()
    assert sinkhorn_divergence(x, x + 3, blur=0.01).tolist() == pytest.approx([0.5 * 9 * 6] * 2, rel=1e-3)


def test_padding_does_not_count_whatever_it_holds():
    x, y = two_sets()
    alone = sinkhorn_divergence(x[:, :7], y[:, :7])
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[:, 5:] = True
    x, y = (torch.cat([torch.full_like(t[:, :5], math.nan), t[:, :7]], dim=1) for t in (x, y))
    x.requires_grad_()
    masked = sinkhorn_divergence(x, y, mask)
    masked.sum().backward()
    torch.testing.assert_close(masked, alone, rtol=1e-9, atol=0)
    assert x.grad[:, :5].abs().max() == 0
    assert torch.isfinite(x.grad).all()


def test_of_a_whole_transcriptome_padding_does_not_count_either():
    # here a cost over the squared blur is beyond the 1e5 that stands for the logarithm of a weight of zero
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1, 9, 2000, generator=random).unbind()
    alone = sinkhorn_divergence(x[:, :6], y[:, :6])
    torch.testing.assert_close(sinkhorn_divergence(x, y, torch.arange(9)[None] < 6), alone, rtol=1e-5, atol=0)


def test_the_order_of_cells_does_not_count():
    x, y = two_sets()
    turned = sinkhorn_divergence(x.flip(1), y.roll(3, dims=1))
    torch.testing.assert_close(turned, sinkhorn_divergence(x, y), rtol=1e-9, atol=0)


def test_half_precision_is_computed_in_single():
    x, y = (t.bfloat16() for t in two_sets())
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = sinkhorn_divergence(x, y)
    torch.testing.assert_close(under_autocast, sinkhorn_divergence(x.float(), y.float()))


def test_gradients_that_are_off_stay_off():
    x, y = two_sets()
    with torch.no_grad():
        sinkhorn_divergence(x, y)
        assert not torch.is_grad_enabled()
