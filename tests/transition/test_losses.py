import numpy as np
import pytest
import torch

from stateshift.transition import energy_distance


def plain(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, pair by pair."""
    mean = lambda a, b: np.mean([[np.linalg.norm(p - q) for q in b] for p in a])  # noqa: E731
    return mean(x, y) - 0.5 * mean(x, x) - 0.5 * mean(y, y)


def test_energy_distance_is_its_definition_pair_by_pair():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 30, 4)), rng.standard_normal((3, 30, 4)) + 0.5
    ours = energy_distance(torch.tensor(x), torch.tensor(y))
    np.testing.assert_allclose(ours.numpy(), [plain(a, b) for a, b in zip(x, y)], atol=1e-6)


def test_padding_does_not_count():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1, 8, 4)), rng.standard_normal((1, 8, 4))
    mask = torch.arange(8)[None] < 5
    ours = energy_distance(torch.tensor(x), torch.tensor(y), mask)
    assert ours.item() == pytest.approx(plain(x[0, :5], y[0, :5]), abs=1e-6)


def test_a_set_is_at_distance_zero_from_itself_and_its_gradient_is_finite():
    x = torch.randn(2, 30, 4, requires_grad=True)
    distance = energy_distance(x, x.detach())
    distance.sum().backward()
    torch.testing.assert_close(distance, torch.zeros(2), atol=1e-3, rtol=0)
    assert torch.isfinite(x.grad).all()
