"""Means over the cells of a set."""

from __future__ import annotations

import pytest
import torch

from stateshift.transition.means import masked_mean


@pytest.mark.parametrize("n_real", [64, 50])
def test_a_mean_of_half_precision_cells_is_not_rounded_to_half_precision(n_real):
    cells = (3 + torch.rand(2, 64, 40, generator=torch.Generator().manual_seed(0))).bfloat16()
    mask = None if n_real == 64 else (torch.arange(64) < n_real).expand(2, -1)
    found, expected = masked_mean(cells, mask), cells[:, :n_real].double().mean(dim=1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
    assert (expected.bfloat16().double() - expected).abs().max() > 1e-3
