"""Pseudo-perplexity: how well each residue is told by all the others."""

from __future__ import annotations

import numpy as np
import torch

from stateshift.rag_esm.model.network import Context, RagESM
from stateshift.rag_esm.model.tokens import MASK, tokens_of


def pseudo_perplexity(
    network: RagESM, sequence: str, places: np.ndarray, context: Context | None = None, tokens_per_batch: int = 4096
) -> float:
    """Exp of the mean negative log-likelihood of some residues, each masked alone (Salazar et al. 2020).

    Parameters
    ----------
    network
        The model.
    sequence
        L residues.
    places
        (L,) bool: the residues that count.
    context
        Of one homolog; None reads the model as plain ESM2.
    tokens_per_batch
        Most tokens of a pass.

    Returns
    -------
    float
        NaN where no residue counts.
    """
    numbers = np.flatnonzero(places)
    if not len(numbers):
        return float("nan")
    tokens = tokens_of([sequence])[0].to(network.esm.embedding.device)
    nats = []
    at_once = max(tokens_per_batch // len(tokens), 1)
    for start in range(0, len(numbers), at_once):
        masked = torch.from_numpy(numbers[start : start + at_once] + 1).to(tokens.device)
        rows = torch.arange(len(masked), device=tokens.device)
        copies = tokens.repeat(len(masked), 1)
        copies[rows, masked] = MASK
        with torch.inference_mode():
            said = network.logits(network(copies, context)[rows, masked]).float().log_softmax(-1)
        nats.append(-said[rows, tokens[masked]].cpu())
    return float(torch.cat(nats).mean().exp())
