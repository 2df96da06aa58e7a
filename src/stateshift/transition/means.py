"""Means over the cells of a set.

Shapes: B sets, S cells a set, G genes or any width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stateshift.transition.precision import without_autocast


def masked_mean(x_BSG: Tensor, mask_BS: Tensor | None) -> Tensor:
    """Mean over the real cells of each set, (B, G), in float32 at least: half precision would round shifts away."""
    precise = torch.promote_types(x_BSG.dtype, torch.float32)
    if mask_BS is None:
        return x_BSG.mean(dim=1, dtype=precise)
    weight_BS = mask_BS.to(precise)
    with without_autocast(x_BSG):
        return torch.bmm(weight_BS[:, None], x_BSG.to(precise))[:, 0] / weight_BS.sum(dim=1, keepdim=True)
