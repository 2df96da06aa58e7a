"""Optimal transport between sets of cells, through geomloss."""

from __future__ import annotations

import torch
from torch import Tensor

from stateshift.transition.precision import without_autocast


def sinkhorn_divergence(x_BSG: Tensor, y_BSG: Tensor, mask_BS: Tensor | None = None, *, blur: float = 0.05) -> Tensor:
    """Debiased Sinkhorn divergence of each pair of sets, cost ½|x − y|², (B,).

    OT(X, Y) − ½ OT(X, X) − ½ OT(Y, Y) with entropy blur² (Feydy et al. 2019), by geomloss with dense cost
    matrices (B, S, S). Computed in float32 at least, also under autocast.

    Parameters
    ----------
    x_BSG, y_BSG
        Two sets of cells each.
    mask_BS
        True for real cells, of both sets; absent where all are.
    blur
        Distance below which cells are not told apart.
    """
    from geomloss import SamplesLoss

    divergence = SamplesLoss("sinkhorn", blur=blur, backend="tensorized")
    # geomloss leaves gradients on, whatever they were
    with without_autocast(x_BSG), torch.set_grad_enabled(torch.is_grad_enabled()):
        x_BSG, y_BSG = (t.to(torch.promote_types(t.dtype, torch.float32)).contiguous() for t in (x_BSG, y_BSG))
        if mask_BS is None:
            return divergence(x_BSG, y_BSG)
        weight_BS = mask_BS.to(x_BSG.dtype)
        weight_BS = weight_BS / weight_BS.sum(dim=1, keepdim=True)
        # a weight of zero leaves a cell in geomloss's extent of the data, from which it anneals: padding stands on a real cell
        return divergence(weight_BS, _filled(x_BSG, mask_BS), weight_BS, _filled(y_BSG, mask_BS))


def _filled(x_BSG: Tensor, mask_BS: Tensor) -> Tensor:
    """Padding replaced by the first real cell of its set."""
    first_B = mask_BS.to(torch.int8).argmax(dim=1)
    first_B1G = x_BSG[torch.arange(len(x_BSG), device=x_BSG.device), first_B].detach()[:, None]
    return torch.where(mask_BS[:, :, None], x_BSG, first_B1G)
