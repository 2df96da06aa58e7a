"""Energy distance between sets of cells, in closed form with its gradient.

Shapes: B sets, S cells a set, G genes; Z all cells of a pair of sets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stateshift.transition.precision import without_autocast

NUMBERS_AT_ONCE = {"cpu": 2**19}
"""Cells × genes that are centred at once, by device: what stays in a processor's cache. Elsewhere all."""


def energy_distance(x_BSG: Tensor, y_BSG: Tensor, mask_BS: Tensor | None = None) -> Tensor:
    """Energy distance of each pair of sets, (B,).

    E|X − Y| − ½ E|X − X'| − ½ E|Y − Y'| with Euclidean norms (Székely & Rizzo 2013, halved as in
    geomloss), the means over all pairs, a cell with itself included. With all cells of both sets in z and
    signed weights u (1/S for x, −1/S for y), that is −½ Σ_ij u_i u_j |z_i − z_j|, and its gradient in z_i
    is −u_i Σ_j u_j (z_i − z_j) / |z_i − z_j|, where identical cells count as nothing: two matrix products,
    and beside the cells themselves only their distances are kept. Computed in float32 at least,
    also under autocast, but for bfloat16's gradient: its products are of bfloat16.

    Parameters
    ----------
    x_BSG, y_BSG
        Two sets of cells each; where there is no mask, they need not be of one size.
    mask_BS
        True for real cells, of both sets; absent where all are.
    """
    u_BZ = torch.cat([_weights(x_BSG, mask_BS), -_weights(y_BSG, mask_BS)], dim=1)
    return _EnergyDistance.apply(x_BSG, y_BSG, u_BZ, None if mask_BS is None else torch.cat([mask_BS, mask_BS], dim=1))


def _weights(x_BSG: Tensor, mask_BS: Tensor | None) -> Tensor:
    """Equal shares of the real cells, none of padding, (B, S)."""
    if mask_BS is None:
        return torch.full(x_BSG.shape[:2], 1 / x_BSG.shape[1], dtype=_precise(x_BSG.dtype), device=x_BSG.device)
    weight = mask_BS.to(_precise(x_BSG.dtype))
    return weight / weight.sum(dim=1, keepdim=True)


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _centred(x_BSG: Tensor, y_BSG: Tensor, u_BZ: Tensor, mask_BZ: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Both sets around the mean of y, (B, Z, some genes), a block of genes after another in one buffer.

    Distances are differences of squares, which are small there.
    """
    n_x, n_genes = x_BSG.shape[1:]
    at_once = min(n_genes, max(64, NUMBERS_AT_ONCE.get(x_BSG.device.type, sys.maxsize) // u_BZ.numel()))
    of_y_B1Z = u_BZ.neg().clamp_min_(0)[:, None]
    padding = None if mask_BZ is None else torch.nonzero(~mask_BZ, as_tuple=True)
    buffer = u_BZ.new_empty(*u_BZ.shape, at_once)
    for start in range(0, n_genes, at_once):
        genes = slice(start, min(start + at_once, n_genes))
        z_BZK = buffer[:, :, : genes.stop - start]
        z_BZK[:, :n_x], z_BZK[:, n_x:] = x_BSG[:, :, genes], y_BSG[:, :, genes]
        if padding is not None:  # it may hold anything, but 0 × nan is nan
            z_BZK[padding] = 0
        yield genes, z_BZK.sub_(torch.bmm(of_y_B1Z, z_BZK))


def _products(x_BSG: Tensor, y_BSG: Tensor, u_BZ: Tensor, mask_BZ: Tensor | None) -> Tensor:
    """Inner products of all centred cells of a pair of sets, (B, Z, Z), those between the sets computed once."""
    n_x, n_y = x_BSG.shape[1], y_BSG.shape[1]
    xx, xy, yy = (u_BZ.new_zeros(len(u_BZ), *shape) for shape in ((n_x, n_x), (n_x, n_y), (n_y, n_y)))
    for _, z_BZK in _centred(x_BSG, y_BSG, u_BZ, mask_BZ):
        x_BSK, y_BSK = z_BZK[:, :n_x], z_BZK[:, n_x:]
        for product, a, b in ((xx, x_BSK, x_BSK), (xy, x_BSK, y_BSK), (yy, y_BSK, y_BSK)):
            product.baddbmm_(a, b.mT)
    return torch.cat([torch.cat([xx, xy], dim=2), torch.cat([xy.mT, yy], dim=2)], dim=1)


class _EnergyDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_BSG: Tensor, y_BSG: Tensor, u_BZ: Tensor, mask_BZ: Tensor | None) -> Tensor:
        device = x_BSG.device.type
        ctx.half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
        with without_autocast(x_BSG):
            product_BZZ = _products(x_BSG, y_BSG, u_BZ, mask_BZ)
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
        ctx.save_for_backward(x_BSG, y_BSG, u_BZ, mask_BZ, pull_BZZ)
        return energy_B

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_B: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x_BSG, y_BSG, u_BZ, mask_BZ, pull_BZZ = ctx.saved_tensors
        dtype, n_x = torch.bfloat16 if ctx.half else u_BZ.dtype, x_BSG.shape[1]
        pull_BZZ = (pull_BZZ * grad_B[:, None, None]).to(dtype)
        sides = zip((x_BSG, y_BSG), (pull_BZZ[:, :n_x], pull_BZZ[:, n_x:]), ctx.needs_input_grad[:2], strict=True)
        gradients = [(torch.empty_like(cells), pull) if wanted else (None, pull) for cells, pull, wanted in sides]
        with without_autocast(x_BSG):
            for genes, z_BZK in _centred(x_BSG, y_BSG, u_BZ, mask_BZ):
                z_BZK = z_BZK.to(dtype)
                for gradient, pull in gradients:
                    if gradient is not None:
                        gradient[:, :, genes] = torch.bmm(pull, z_BZK)
        return *(gradient for gradient, _ in gradients), None, None
