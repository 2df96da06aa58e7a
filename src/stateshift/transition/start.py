"""What the network makes, added to the cells that it starts from, in as few passes over them as there can be.

Shapes: B sets, S cells a set, G genes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def added_to_start(start_BSG: Tensor, out_BSG: Tensor) -> Tensor:
    """The start and the network's addition where the start is expressed, never below zero; 0 elsewhere.

    A gene that is silent in a cell stays so: small additions to every zero would make cells that no sequencer
    gives, and thousands of genes differentially expressed. Where gradients flow, `out_BSG` is written over: at
    18,080 genes another copy of the cells takes as long as the transformer.

    Parameters
    ----------
    start_BSG
        Expression, log1p, not negative.
    out_BSG
        The addition, of any sign.
    """
    if torch.compiler.is_compiling():
        return torch.where(start_BSG > 0, F.relu(start_BSG + out_BSG), 0)
    return _AddedToStart.apply(start_BSG, out_BSG)


class _AddedToStart(torch.autograd.Function):
    """relu(start + out) where start > 0. Both gradients are that of the sum, where the result is above 0."""

    @staticmethod
    def forward(ctx, start_BSG: Tensor, out_BSG: Tensor) -> Tensor:
        dtype = torch.promote_types(start_BSG.dtype, out_BSG.dtype)
        total_BSG = out_BSG.detach().to(dtype).add_(start_BSG)
        # threshold_backward(a, b, 0) is a where b > 0: one pass, and in place
        torch.ops.aten.threshold_backward.grad_input(total_BSG, start_BSG.to(dtype), 0, grad_input=total_BSG)
        cells_BSG = total_BSG.relu_()
        ctx.save_for_backward(cells_BSG)
        ctx.dtypes = start_BSG.dtype, out_BSG.dtype
        return cells_BSG

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_BSG: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (cells_BSG,) = ctx.saved_tensors
        through_BSG = torch.ops.aten.threshold_backward(grad_BSG, cells_BSG, 0)
        wanted = zip(ctx.dtypes, ctx.needs_input_grad, strict=True)
        return tuple(through_BSG.to(dtype) if needed else None for dtype, needed in wanted)
