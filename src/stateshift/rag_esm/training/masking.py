"""Which residues are hidden from the model, and what is put in their place."""

from __future__ import annotations

import numpy as np
import torch

from stateshift.rag_esm.model.tokens import AMINO_ACIDS, BOS, EOS, MASK, PAD

IGNORED = -100


def diffusion_rate(rng: np.random.Generator) -> float:
    """The masked share of a batch: from Beta(3, 9) with a chance of 80 %, else uniform."""
    return float(rng.beta(3, 9) if rng.random() < 0.8 else rng.random())


def masked(
    tokens: torch.Tensor, rate: float, rng: np.random.Generator, corrupt: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens with hidden residues, and what is to be predicted.

    Parameters
    ----------
    tokens
        (B, T).
    rate
        The share of each protein's residues to hide; one at least.
    rng
        Draws them.
    corrupt
        BERT's way (Devlin et al. 2019): of the hidden residues 10 % stay and 10 % become a random amino acid;
        otherwise all become the mask.

    Returns
    -------
    tuple of torch.Tensor
        (B, T) each; targets are −100 where nothing is predicted.
    """
    rows = tokens.numpy().copy()
    residues = (rows != BOS) & (rows != EOS) & (rows != PAD)
    order = np.where(residues, rng.random(rows.shape), np.inf).argsort(1).argsort(1)
    hidden = residues & (order < np.maximum(np.round(rate * residues.sum(1, keepdims=True)), 1))
    targets = np.where(hidden, rows, IGNORED)
    fate = rng.random(rows.shape) if corrupt else np.zeros(rows.shape)
    rows[hidden & (fate < 0.8)] = MASK
    at_random = hidden & (fate >= 0.9)
    rows[at_random] = rng.integers(AMINO_ACIDS.start, AMINO_ACIDS.stop, at_random.sum())
    return torch.from_numpy(rows), torch.from_numpy(targets)
