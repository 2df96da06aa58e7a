"""What the heads of a transition model learn from: genes, batches, and the model's own loss.

Shapes: B sets, S cells a set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stateshift.transition.losses.energy import energy_distance
from stateshift.transition.model import TransitionModel, TransitionOutput

BATCH_TOKEN_WEIGHT = 0.1
CONFIDENCE_WEIGHT = 0.01
CONFIDENCE_SCALE = 10.0
"""As published; decoded genes weigh 1."""


def with_heads(
    losses: dict[str, Tensor], output: TransitionOutput, model: TransitionModel, batch: dict, mask_BS: Tensor | None
) -> dict[str, Tensor]:
    """Add each head's loss of the sets, (B,), by its name and to ``loss``.

    ``genes`` is the energy distance between the decoded genes and the batch's ``pert_cell_counts``;
    ``batch_token`` and ``confidence`` are `batch_token_loss` and `confidence_loss`.

    Raises
    ------
    StateshiftError
        The batch lacks what a head learns from.
    """
    heads, total = {}, losses["loss"]
    if output.genes is not None:
        heads["genes"] = energy_distance(output.genes, model.read_batch(batch, "pert_cell_counts")[0], mask_BS)
        total = total + heads["genes"]
    if output.batch_logits is not None:
        heads["batch_token"] = batch_token_loss(output.batch_logits, model.read_batches(batch), mask_BS)
        total = total + BATCH_TOKEN_WEIGHT * heads["batch_token"]
    if output.confidence is not None:
        heads["confidence"] = confidence_loss(output.confidence, losses["loss"])
        total = total + CONFIDENCE_WEIGHT * heads["confidence"]
    return {**losses, **heads, "loss": total} if heads else losses


def batch_token_loss(logits: Tensor, batch_BS: Tensor, mask_BS: Tensor | None = None) -> Tensor:
    """Cross-entropy of the batch that each set's token tells, against the batches of the set's cells, (B,).

    Where a set mixes batches, the target is the share of each among its real cells.

    Parameters
    ----------
    logits
        One a set and batch, (B, batches).
    batch_BS
        Each cell's batch.
    mask_BS
        True for real cells; absent where all are.
    """
    one_hot = torch.nn.functional.one_hot(batch_BS, logits.shape[-1]).to(logits.dtype)
    weight = torch.ones_like(batch_BS, dtype=logits.dtype) if mask_BS is None else mask_BS.to(logits.dtype)
    share = torch.einsum("bsc,bs->bc", one_hot, weight / weight.sum(dim=1, keepdim=True))
    return torch.nn.functional.cross_entropy(logits, share, reduction="none")


def confidence_loss(expected: Tensor, set_losses: Tensor) -> Tensor:
    """Squared error of the losses that the tokens expect against ten times those there are, (B,)."""
    return (expected - CONFIDENCE_SCALE * set_losses.detach()).square()
