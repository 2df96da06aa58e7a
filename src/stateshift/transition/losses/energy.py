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
    if mask_BS is not None:  # padding may hold anything, but 0 × nan is nan
        x_BSG, y_BSG = (cells.masked_fill(~mask_BS[:, :, None], 0) for cells in (x_BSG, y_BSG))
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
        n_x = x_BSG.shape[1]
        with torch.autocast(x_BSG.device.type, enabled=False):
            # distances are differences of squares, which are small around the mean of y
            mean_B1G = torch.bmm(-u_BZ[:, None, n_x:], y_BSG.to(u_BZ.dtype))
            z_BZG = u_BZ.new_empty(*u_BZ.shape, x_BSG.shape[2])
            torch.sub(x_BSG, mean_B1G, out=z_BZG[:, :n_x])
            torch.sub(y_BSG, mean_B1G, out=z_BZG[:, n_x:])
            product_BZZ = torch.bmm(z_BZG, z_BZG.transpose(1, 2))
            square_BZ = product_BZZ.diagonal(dim1=1, dim2=2)
            scale_BZZ = square_BZ[:, :, None] + square_BZ[:, None, :]
            square_BZZ = scale_BZZ - 2 * product_BZZ
            # below what the matrix product can tell from nothing, two cells are one
            same_BZZ = square_BZZ <= 8 * torch.finfo(u_BZ.dtype).eps * scale_BZZ
            distance_BZZ = square_BZZ.masked_fill_(same_BZZ, 0).sqrt_()
            weight_BZZ = u_BZ[:, :, None] * u_BZ[:, None, :]
            energy_B = -0.5 * (weight_BZZ * distance_BZZ).sum(dim=(1, 2))
            pull_BZZ = weight_BZZ.div_(distance_BZZ).masked_fill_(same_BZZ, 0)
            pull_BZZ.diagonal(dim1=1, dim2=2).sub_(pull_BZZ.sum(dim=2))
        ctx.save_for_backward(z_BZG, pull_BZZ)
        ctx.n_x, ctx.dtypes = n_x, (x_BSG.dtype, y_BSG.dtype)
        return energy_B

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_B: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        z_BZG, pull_BZZ = ctx.saved_tensors
        sides = zip((slice(None, ctx.n_x), slice(ctx.n_x, None)), ctx.needs_input_grad[:2], ctx.dtypes, strict=True)
        gradients = [
            torch.bmm(pull_BZZ[:, side] * grad_B[:, None, None], z_BZG).to(dtype) if wanted else None
            for side, wanted, dtype in sides
        ]
        return *gradients, None
