"""What the language model makes of a substitution: masked-marginal log-likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stateshift.progress import track
from stateshift.proteins.embedding.batches import MAX_RESIDUES, TOKENS_PER_BATCH
from stateshift.proteins.esm2.models import ProteinModel
from stateshift.proteins.explore.mutants.calls import Call
from stateshift.proteins.fasta import RESIDUES


def masked_marginals(
    esm: ProteinModel, wt: str, calls: Sequence[Call], tokens_per_batch: int = TOKENS_PER_BATCH
) -> list[float]:
    """Score of each mutant: Σ log p(mutant residue) − log p(wild-type residue) over its substitutions.

    All substituted positions of a mutant are masked at once in the wild type (Meier et al. 2021, *Language models
    enable zero-shot prediction of the effects of mutations on protein function*). Of a protein of more than 1,022
    residues the model sees 1,022 about them. Below zero, the model would rather see the wild type.

    Parameters
    ----------
    esm
        With its language-model head.
    wt
        Sequence (L residues).
    calls
        Mutants; those with indels, and those whose positions lie further apart than the model sees, get NaN; an
        identical one 0.
    tokens_per_batch
        Most tokens in a batch.
    """
    masks = [_mask(call) for call in calls]
    wanted = sorted({mask for mask in masks if mask and mask[-1] - mask[0] < MAX_RESIDUES})
    said = dict(zip(wanted, masked_log_probabilities(esm, wt, wanted, tokens_per_batch)))
    scores = []
    for call, mask in zip(calls, masks):
        if call.kind == "identical":
            scores.append(0.0)
        elif mask not in said:
            scores.append(float("nan"))
        else:
            pairs = zip(said[mask], call.changes)
            scores.append(float(sum(row[RESIDUES.index(c.mutant)] - row[RESIDUES.index(c.wt)] for row, c in pairs)))
    return scores


def masked_log_probabilities(
    esm: ProteinModel, sequence: str, masks: Sequence[tuple[int, ...]], tokens_per_batch: int = TOKENS_PER_BATCH
) -> list[np.ndarray]:
    """Log probabilities of every residue at positions that are masked together.

    Parameters
    ----------
    masks
        Positions from 1, sorted, none further apart than 1,021.

    Returns
    -------
    list of numpy.ndarray
        For each mask (positions, 25), natural logarithms, columns `RESIDUES`.
    """
    import torch

    width = min(len(sequence), MAX_RESIDUES)
    size = max(1, tokens_per_batch // (width + 2))
    first, last = (esm.alphabet.get_idx(RESIDUES[i]) for i in (0, -1))
    found: list[np.ndarray] = []
    batches = [masks[i : i + size] for i in range(0, len(masks), size)]
    for batch in track(batches, f"Masked positions with {esm.name}"):
        starts = [_start(mask, len(sequence)) for mask in batch]
        tokens = esm.tokens([sequence[start : start + width] for start in starts])
        # token 0 is BOS, so position 1 of a window that starts at 0 is token 1
        places = [[position - start for position in mask] for mask, start in zip(batch, starts)]
        for row, at in zip(tokens, places):
            row[at] = esm.alphabet.mask_idx
        logits = esm.run(tokens, logits=True).logits.float()
        for row, at in zip(torch.log_softmax(logits, dim=-1), places):
            found.append(row[at, first : last + 1].cpu().numpy())
    return found


def _mask(call: Call) -> tuple[int, ...]:
    """The positions that a mutant of substitutions alone changes."""
    if not all(change.is_substitution for change in call.changes):
        return ()
    return tuple(change.start for change in call.changes)


def _start(mask: tuple[int, ...], length: int) -> int:
    """Where the window about the masked positions begins, from 0."""
    middle = (mask[0] + mask[-1]) // 2
    return max(0, min(middle - MAX_RESIDUES // 2, length - MAX_RESIDUES))
