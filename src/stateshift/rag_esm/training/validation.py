"""Masked losses of fixed proteins at fixed rates, with contexts and without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from stateshift.rag_esm.homologs.choice import Contexts
from stateshift.rag_esm.homologs.clusters import Cluster
from stateshift.rag_esm.model.network import RagESM
from stateshift.rag_esm.model.tokens import PAD, tokens_of
from stateshift.rag_esm.training.batches import cropped, within_budget
from stateshift.rag_esm.training.masking import IGNORED, masked

RATES = (0.15, 0.5, 0.9)


def validation_pairs(
    clusters: Sequence[Cluster], contexts: Contexts, most: int, max_length: int, max_context: int, seed: int = 0
) -> list[tuple[str, str, str]]:
    """Cluster's name, protein and context; members of all clusters in turn until there are `most`."""
    rng = np.random.default_rng(seed)
    usable = [c for c in clusters if len(set(c.sequences)) > 1]
    pairs = []
    for turn in range(max(map(len, usable), default=0)):
        for cluster in usable:
            if turn < len(cluster) and len(pairs) < most:
                context = cluster.sequences[contexts.draw(cluster, turn, rng)]
                own = cropped(cluster.sequences[turn], max_length, rng)
                pairs.append((cluster.name, own, cropped(context, max_context, rng)))
    return pairs


def masked_losses(
    network: RagESM,
    proteins: Sequence[str],
    contexts: Sequence[str] | None,
    rate: float,
    *,
    seed: int = 0,
    tokens_per_batch: int = 4096,
) -> np.ndarray:
    """Mean negative log-likelihood (P,) in nats of each protein's hidden residues, all shown as the mask.

    Parameters
    ----------
    network
        The model; on whatever device it is.
    proteins, contexts
        P each; without contexts the model is read as plain ESM2.
    rate
        The share of residues to hide; which ones depends on the seed and the protein alone.
    seed, tokens_per_batch
        Of the masks; most tokens in a batch.
    """
    device = network.esm.embedding.device
    given = contexts or [""] * len(proteins)
    order = sorted(range(len(proteins)), key=lambda i: len(proteins[i]))
    losses, done = np.zeros(len(proteins)), 0
    for pairs in within_budget([(proteins[i], given[i]) for i in order], tokens_per_batch):
        numbers = order[done : done + len(pairs)]
        done += len(pairs)
        made = [
            masked(tokens_of([p]), rate, np.random.default_rng([seed, len(p), *p.encode()]), corrupt=False)
            for p, _ in pairs
        ]
        T = max(tokens.shape[1] for tokens, _ in made)
        tokens = torch.cat([torch.nn.functional.pad(t, (0, T - t.shape[1]), value=PAD) for t, _ in made]).to(device)
        targets = torch.cat([torch.nn.functional.pad(t, (0, T - t.shape[1]), value=IGNORED) for _, t in made]).to(
            device
        )
        with torch.inference_mode():
            read = None if contexts is None else network.encode(tokens_of([c for _, c in pairs]).to(device))
            said = network.logits(network(tokens, read)).float()
        nats = cross_entropy(said.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
        losses[numbers] = (nats.sum(1) / (targets != IGNORED).sum(1)).cpu().numpy()
    return losses


def perplexities(
    network: RagESM, pairs: Sequence[tuple[str, str, str]], tokens_per_batch: int = 4096
) -> dict[str, float]:
    """Perplexity at each of `RATES`, with context (``ppl_0.15`` …) and without (``plain_0.15`` …)."""
    proteins, contexts = [own for _, own, _ in pairs], [context for _, _, context in pairs]
    found = {}
    for rate in RATES:
        for name, given in (("ppl", contexts), ("plain", None)):
            losses = masked_losses(network, proteins, given, rate, tokens_per_batch=tokens_per_batch)
            found[f"{name}_{rate}"] = float(np.exp(losses.mean()))
    return found
