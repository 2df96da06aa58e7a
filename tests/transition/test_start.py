import pytest
import torch

from stateshift.transition.start import added_to_start


def plain(start: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    return torch.where(start > 0, torch.relu(start + out), 0)


def start_and_addition(dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    shape = 3, 5, 40
    start = torch.rand(shape, dtype=dtype, generator=random) * (torch.rand(shape, generator=random) < 0.6)
    return start, torch.randn(shape, dtype=dtype, generator=random)


def test_a_silent_gene_stays_silent_and_none_goes_below_zero():
    start, out = torch.tensor([[0.0, 1.0, 1.0, 0.0]]), torch.tensor([[5.0, 0.5, -3.0, -1.0]])
    assert added_to_start(start, out).tolist() == [[0.0, 1.5, 0.0, 0.0]]


@pytest.mark.parametrize("addition", [torch.float64, torch.bfloat16])
def test_it_and_its_gradients_are_those_of_the_plain_way(addition):
    results = []
    for way in (plain, added_to_start):
        start, out = start_and_addition()
        start, out = start.requires_grad_(), out.to(addition).requires_grad_()
        cells = way(start, out.clone())
        (cells * torch.linspace(-1, 1, cells.numel()).view_as(cells)).sum().backward()
        results.append((cells.detach(), start.grad, out.grad))
    assert results[1][0].dtype == torch.float64
    assert results[1][2].dtype == addition
    for plain_one, fast_one in zip(*results, strict=True):
        assert torch.equal(plain_one, fast_one)


def test_gradients_are_those_of_finite_differences():
    start, out = start_and_addition()
    expressed = start.clamp_min(0.01)  # at 0 there is a step
    # what it is given is written over, and finite differences are taken of one input again and again
    assert torch.autograd.gradcheck(
        lambda s, o: added_to_start(s, o.clone()), (expressed.requires_grad_(), out.requires_grad_())
    )


def test_an_addition_that_a_gradient_still_needs_is_never_quietly_wrong():
    start, out = start_and_addition()
    needed = out.requires_grad_().exp()  # its gradient is itself
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        added_to_start(start, needed).sum().backward()
