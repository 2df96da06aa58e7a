"""Many chains through an aggregator, end to end in batches, results in the order asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stateshift.errors import StateshiftError
from stateshift.memory import keep_freed_memory
from stateshift.structure.aggregator.model import Aggregator

ROWS_PER_BATCH = 4096
"""Residues in a batch; a longer chain gets a batch of its own."""


def aggregate(model: Aggregator, chains: Sequence[Tensor], rows_per_batch: int = ROWS_PER_BATCH) -> Tensor:
    """Vectors of chains of mixed lengths.

    Parameters
    ----------
    model
        In evaluation mode.
    chains
        Residue rows (L_b, D) each.
    rows_per_batch
        Most rows of a batch.

    Returns
    -------
    Tensor
        (B, H) float32 on the CPU, in the order of `chains`; each equals what the chain gives alone, to 1e-5.

    Raises
    ------
    StateshiftError
        A chain has no rows, NaN, or rows of another width.
    """
    for i, chain in enumerate(chains):
        if chain.ndim != 2 or not len(chain):
            raise StateshiftError(f"Chain {i + 1} of {len(chains)} has rows of shape {tuple(chain.shape)}, not (L, D).")
        if not torch.isfinite(chain).all():
            raise StateshiftError(f"Chain {i + 1} of {len(chains)} has NaN or infinity in its residue rows.")
    keep_freed_memory()
    home = next(model.parameters())
    vectors = torch.empty(len(chains), model.shape.hidden)
    with torch.inference_mode():
        for batch in in_batches([len(chain) for chain in chains], rows_per_batch):
            rows = torch.cat([chains[i] for i in batch]).to(home)
            vectors[batch.start : batch.stop] = model.packed(rows, [len(chains[i]) for i in batch]).float().cpu()
    return vectors


def in_batches(lengths: Sequence[int], budget: int) -> list[range]:
    """Neighbours in batches, none over the budget unless it holds one chain.

    Examples
    --------
    >>> in_batches([5, 1, 4, 9, 2], budget=10)
    [range(0, 3), range(3, 4), range(4, 5)]
    """
    batches: list[range] = []
    start = total = 0
    for i, length in enumerate(lengths):
        if i > start and total + length > budget:
            batches.append(range(start, i))
            start, total = i, 0
        total += length
    return [*batches, range(start, len(lengths))] if lengths else []
