import numpy as np
import pytest
import torch
from geomloss import SamplesLoss
from scipy.stats import energy_distance as energy_of_one_gene

from stateshift.transition import energy_distance
from stateshift.transition.losses import energy


def plain(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, pair by pair."""
    mean = lambda a, b: np.mean([[np.linalg.norm(p - q) for q in b] for p in a])  # noqa: E731
    return mean(x, y) - 0.5 * mean(x, x) - 0.5 * mean(y, y)


def two_sets(sets: int = 3, cells: int = 30, genes: int = 4, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(sets, cells, genes, dtype=dtype, generator=random)
    return x, torch.randn(sets, cells, genes, dtype=dtype, generator=random) + 0.5


def test_two_cells_against_two_worked_by_hand():
    # between: (0, 4), (3, 5) → mean 3; within x: (0, 3) → 1.5; within y: (0, 5) → 2.5, with y at 4 up and (3, 4)
    x = torch.tensor([[[0.0, 0.0], [3.0, 0.0]]])
    y = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    between, within_x, within_y = (0 + 5 + 3 + 4) / 4, (3 + 3) / 4, (5 + 5) / 4
    assert energy_distance(x, y).item() == pytest.approx(between - within_x / 2 - within_y / 2)


def test_energy_distance_is_its_definition_pair_by_pair():
    x, y = two_sets()
    expected = [plain(a, b) for a, b in zip(x.numpy(), y.numpy())]
    np.testing.assert_allclose(energy_distance(x, y).numpy(), expected, rtol=1e-10)


def test_of_one_gene_it_is_half_the_square_of_scipys():
    x, y = two_sets(genes=1)
    expected = [energy_of_one_gene(a.ravel(), b.ravel()) ** 2 / 2 for a, b in zip(x.numpy(), y.numpy())]
    np.testing.assert_allclose(energy_distance(x, y).numpy(), expected, rtol=1e-8)


def test_it_and_its_gradient_are_geomlosses():
    x, y = two_sets(genes=40)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    distance, reference = energy_distance(ours, y), SamplesLoss("energy")(theirs, y)
    # geomloss puts every distance at 1e-4 or more, a cell's from itself too
    torch.testing.assert_close(distance, reference, atol=1e-5, rtol=0)
    distance.sum().backward()
    reference.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_finite_differences(masked):
    x, y = two_sets(sets=2, cells=5)
    mask = torch.arange(5)[None].expand(2, 5) < torch.tensor([[5], [3]]) if masked else None
    assert torch.autograd.gradcheck(lambda a, b: energy_distance(a, b, mask), (x.requires_grad_(), y.requires_grad_()))


def test_padding_does_not_count_whatever_it_holds():
    x, y = two_sets(sets=1, cells=8)
    mask = torch.arange(8)[None] < 5
    x[:, 5:], y[:, 5:] = torch.nan, torch.inf
    x.requires_grad_()
    distance = energy_distance(x, y, mask)
    distance.sum().backward()
    assert distance.item() == pytest.approx(plain(x[0, :5].detach().numpy(), y[0, :5].numpy()), rel=1e-10)
    assert x.grad[:, 5:].abs().max() == 0
    assert torch.isfinite(x.grad).all()


def test_the_order_of_cells_does_not_count():
    x, y = two_sets()
    torch.testing.assert_close(
        energy_distance(x[:, torch.randperm(30)], y[:, torch.randperm(30)]), energy_distance(x, y)
    )


def test_a_set_is_at_distance_zero_from_itself_and_its_gradient_is_zero():
    x = torch.randn(2, 30, 200, requires_grad=True)
    distance = energy_distance(x, x.detach())
    distance.sum().backward()
    torch.testing.assert_close(distance, torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.grad, torch.zeros_like(x), atol=1e-5, rtol=0)


def test_single_precision_far_from_the_origin_keeps_small_distances():
    x, y = two_sets(genes=200)
    exact = energy_distance(x, y)
    torch.testing.assert_close(energy_distance((x + 50).float(), (y + 50).float()).double(), exact, rtol=1e-4, atol=0)


def test_half_precision_is_computed_in_single():
    x, y = (t.bfloat16() for t in two_sets(genes=200))
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = energy_distance(x, y)
    assert under_autocast.dtype == torch.float32
    torch.testing.assert_close(under_autocast.double(), energy_distance(x.double(), y.double()), rtol=1e-4, atol=0)


def test_nothing_of_cells_by_cells_by_genes_is_ever_held():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes = [
                t.numel() for t in (out if isinstance(out, tuple | list) else [out]) if isinstance(t, torch.Tensor)
            ]
            self.numbers = max(self.numbers, *sizes, 0) if sizes else self.numbers
            return out

    B, S, G = 2, 64, 300
    x, y = torch.randn(B, S, G, requires_grad=True), torch.randn(B, S, G)
    with Largest() as held:
        energy_distance(x, y).sum().backward()
    assert held.numbers == B * 2 * S * G


@pytest.mark.parametrize("masked", [False, True])
def test_blocks_of_genes_add_up_to_all_of_them(masked, monkeypatch):
    x, y = two_sets(cells=8, genes=150)
    mask = torch.arange(8)[None].expand(3, 8) < torch.tensor([[8], [5], [2]]) if masked else None
    results = []
    for numbers in (10**9, 1):  # all 150 genes at once; the fewest, 64, and what is left
        monkeypatch.setitem(energy.NUMBERS_AT_ONCE, "cpu", numbers)
        one = x.clone().requires_grad_()
        distance = energy_distance(one, y, mask)
        distance.sum().backward()
        results.append((distance.detach(), one.grad))
    for whole, in_blocks in zip(*results, strict=True):
        torch.testing.assert_close(in_blocks, whole, rtol=1e-10, atol=1e-14)


def test_gradients_under_bf16_autocast_point_where_the_exact_ones_do():
    x, y = two_sets(genes=200)
    exact, half = x.clone().requires_grad_(), x.float().requires_grad_()
    energy_distance(exact, y).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        energy_distance(half, y.float()).sum().backward()
    assert half.grad.dtype == torch.float32
    assert (half.grad.double() - exact.grad).norm() < 5e-3 * exact.grad.norm()
