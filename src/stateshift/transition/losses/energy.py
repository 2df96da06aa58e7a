"""Energy distance between sets of cells, in closed form with its gradient.

Shapes: B sets, S cells a set, G genes; Z all cells of a pair of sets.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def energy_distance(x_BSG: Tensor, y_BSG: Tensor, mask_BS: Tensor | None = None) -> Tensor:
    """Energy distance of each pair of sets, (B,).

    E|X − Y| − ½ E|X − X'| − ½ E|Y − Y'| with Euclidean norms (Székely & Rizzo 2013, halved as in
    geomloss), the means over all pairs, a cell with itself included. With all cells of both sets in z and
    signed weights u (1/S for x, −1/S for y), that is −½ Σ_ij u_i u_j |z_i − z_j|, and its gradient in z_i
    is −u_i Σ_j u_j (z_i − z_j) / |z_i − z_j|, where identical cells count as nothing: two matrix products,
    and nothing larger than the cells and their distances is kept. Computed in float32 at least,
    also under autocast.

    Parameters
    ----------
    x_BSG, y_BSG
        Two sets of cells each; where there is no mask, they need not be of one size.
    mask_BS
        True for real cells, of both sets; absent where all are.
    """
    u_BZ = torch.cat([_weights(x_BSG, mask_BS), -_weights(y_BSG, mask_BS)], dim=1)
    return _EnergyDistance.apply(x_BSG, y_BSG, u_BZ)


def _weights(x_BSG: Tensor, mask_BS: Tensor | None) -> Tensor:
    """Equal shares of the real cells, none of padding, (B, S)."""
    if mask_BS is None:
        return torch.full(x_BSG.shape[:2], 1 / x_BSG.shape[1], dtype=_precise(x_BSG.dtype), device=x_BSG.device)
    weight = mask_BS.to(_precise(x_BSG.dtype))
    return weight / weight.sum(dim=1, keepdim=True)


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class _EnergyDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_BSG: Tensor, y_BSG: Tensor, u_BZ: Tensor) -> Tensor:
        with torch.autocast(x_BSG.device.type, enabled=False):
            z_BZG = torch.cat([x_BSG, y_BSG], dim=1).to(u_BZ.dtype)
            # padding may hold anything, but 0 × nan is nan
            z_BZG.masked_fill_(u_BZ[:, :, None] == 0, 0)
            # distances are differences of squares, which are small around the mean of all cells
            z_BZG -= torch.bmm(0.5 * u_BZ[:, None].abs(), z_BZG)
            square_BZ = z_BZG.square().sum(dim=2)
            scale_BZZ = square_BZ[:, :, None] + square_BZ[:, None, :]
            square_BZZ = torch.baddbmm(scale_BZZ, z_BZG, z_BZG.transpose(1, 2), alpha=-2)
            # below what the matrix product can tell from nothing, two cells are one
            same_BZZ = square_BZZ <= 8 * torch.finfo(u_BZ.dtype).eps * scale_BZZ
            distance_BZZ = square_BZZ.masked_fill_(same_BZZ, 0).sqrt_()
            energy_B = -0.5 * torch.einsum("bi,bij,bj->b", u_BZ, distance_BZZ, u_BZ)
            pull_BZZ = (u_BZ[:, :, None] * u_BZ[:, None, :]).div_(distance_BZZ).masked_fill_(same_BZZ, 0)
        ctx.save_for_backward(z_BZG, pull_BZZ)
        ctx.n_x, ctx.dtypes = x_BSG.shape[1], (x_BSG.dtype, y_BSG.dtype)
        return energy_B

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_B: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        z_BZG, pull_BZZ = ctx.saved_tensors
        gradients = []
        for side, wanted, dtype in zip(
            (slice(None, ctx.n_x), slice(ctx.n_x, None)), ctx.needs_input_grad[:2], ctx.dtypes, strict=True
        ):
            if not wanted:
                gradients.append(None)
                continue
            pull_BSZ = pull_BZZ[:, side] * grad_B[:, None, None]
            own_BSG = z_BZG[:, side] * pull_BSZ.sum(dim=2, keepdim=True)
            gradients.append(torch.baddbmm(own_BSG, pull_BSZ, z_BZG, beta=-1).to(dtype))
        return gradients[0], gradients[1], None
