"""Errors cell by cell, where the cells of two sets stand in the same order."""

from __future__ import annotations

from torch import Tensor


def mean_squared_error(x_BSG: Tensor, y_BSG: Tensor, mask_BS: Tensor | None = None) -> Tensor:
    """Mean over cells and genes of the squared difference between a cell and the cell in its place, (B,).

    Which measured cell stands beside which control is chance, so the best prediction is every cell at the
    measured mean: it fits shifts and says nothing of the spread. STATE's ``mse`` is its mean over sets.

    Parameters
    ----------
    x_BSG, y_BSG
        Two sets of cells each.
    mask_BS
        True for real cells, of both sets; absent where all are.
    """
    error_BS = (x_BSG - y_BSG).square().mean(dim=2)
    if mask_BS is None:
        return error_BS.mean(dim=1)
    return error_BS.masked_fill(~mask_BS, 0).sum(dim=1) / mask_BS.sum(dim=1)
