"""Distances between a predicted and a measured population."""

from __future__ import annotations

import torch
from torch import Tensor


def energy_distance(x_BSG: Tensor, y_BSG: Tensor, mask_BS: Tensor | None = None) -> Tensor:
    """Energy distance of each pair of sets, (B,).

    E|X − Y| − ½ E|X − X'| − ½ E|Y − Y'| with Euclidean norms (Székely & Rizzo 2013, halved as in
    geomloss), the means over all pairs, a cell with itself included.

    Parameters
    ----------
    x_BSG, y_BSG
        Two sets of cells each.
    mask_BS
        True for real cells, of both sets; absent where all are.
    """
    weight = torch.ones(x_BSG.shape[:2], dtype=x_BSG.dtype, device=x_BSG.device)
    if mask_BS is not None:
        weight = mask_BS.to(x_BSG.dtype)
    weight = weight / weight.sum(dim=1, keepdim=True)

    def mean_distance(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("bij,bi,bj->b", torch.cdist(a, b), weight, weight)

    within = mean_distance(x_BSG, x_BSG) + mean_distance(y_BSG, y_BSG)
    return mean_distance(x_BSG, y_BSG) - 0.5 * within
