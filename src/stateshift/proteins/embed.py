"""Protein embeddings: one vector a protein, the mean over its residues in ESM2's last layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from stateshift.errors import StateshiftError
from stateshift.progress import track
from stateshift.proteins.esm2 import ProteinModel

MAX_RESIDUES = 1022
OVERLAP = 256
POOLING = "mean over residues, last layer"
WINDOWS = (
    f"over {MAX_RESIDUES} residues: windows of {MAX_RESIDUES} every {MAX_RESIDUES - OVERLAP}, "
    "the last one ends with the protein; window means averaged by window length"
)


def windows(length: int) -> list[tuple[int, int]]:
    """Start and end of the windows that a protein of `length` residues is read in.

    A window holds 1,022 residues (what ESM2 was trained on) and the next begins 766 later, so that
    neighbours share 256; the last ends with the protein and may be shorter.

    Examples
    --------
    >>> windows(1022)
    [(0, 1022)]
    >>> windows(2000)
    [(0, 1022), (766, 1788), (1532, 2000)]
    """
    spans = [(0, min(length, MAX_RESIDUES))]
    while spans[-1][1] < length:
        start = spans[-1][0] + MAX_RESIDUES - OVERLAP
        spans.append((start, min(start + MAX_RESIDUES, length)))
    return spans


def embed_proteins(
    esm: ProteinModel, sequences: Mapping[str, str], tokens_per_batch: int = 2048
) -> Iterator[tuple[str, np.ndarray]]:
    """Embed proteins, the longest first, and hand on each as soon as it is done.

    A protein's vector is the mean of the last layer's rows 1…L (no BOS, EOS or padding). A protein of
    more than 1,022 residues is read in the overlapping `windows`; with n_w residues and mean m_w in
    window w its vector is Σ n_w m_w / Σ n_w, so residues that two windows share count twice.

    Parameters
    ----------
    esm
        The model.
    sequences
        Name → sequence, in the letters of the ESM alphabet (`read_fasta` sees to that).
    tokens_per_batch
        Most tokens in a batch, padding, BOS and EOS included; at least 1,024, one full window.

    Yields
    ------
    tuple of str and numpy.ndarray
        Name and vector (D,) float32.

    Raises
    ------
    StateshiftError
        A sequence is empty or the budget is under one window.
    """
    if tokens_per_batch < MAX_RESIDUES + 2:
        raise StateshiftError(f"A batch needs at least {MAX_RESIDUES + 2} tokens, not {tokens_per_batch}.")
    empty = [name for name, sequence in sequences.items() if not sequence]
    if empty:
        raise StateshiftError(f"`{empty[0]}` has an empty sequence.")
    batches = _batches(sequences, tokens_per_batch)
    sums: dict[str, np.ndarray] = {}
    weights: dict[str, int] = {}
    whole = {name: sum(end - start for start, end in windows(len(s))) for name, s in sequences.items()}
    for batch in track(batches, f"Embedding with {esm.name}", total=len(batches)):
        means = window_means(esm, [sequences[name][start:end] for name, start, end in batch])
        for (name, start, end), mean in zip(batch, means):
            sums[name] = sums.get(name, 0.0) + (end - start) * mean.astype(np.float64)
            weights[name] = weights.get(name, 0) + end - start
            if weights[name] == whole[name]:
                yield name, (sums.pop(name) / weights.pop(name)).astype(np.float32)


def window_means(esm: ProteinModel, pieces: Sequence[str]) -> np.ndarray:
    """Mean over the residues of each piece, (B, D) float32, in one forward pass."""
    import torch

    device = next(esm.model.parameters()).device
    _, _, tokens = esm.alphabet.get_batch_converter()([("", piece) for piece in pieces])
    with torch.no_grad():
        rows = esm.model(tokens.to(device), repr_layers=[esm.layers])["representations"][esm.layers]
    return np.stack([row[1 : len(piece) + 1].mean(0).float().cpu().numpy() for row, piece in zip(rows, pieces)])


def _batches(sequences: Mapping[str, str], budget: int) -> list[list[tuple[str, int, int]]]:
    """Batches of (name, start, end) within the budget.

    Proteins that need windows get batches of their own, so that each is whole, and can be kept, before
    the next begins; the others are sorted by length, which keeps padding low.
    """
    names = sorted(sequences, key=lambda name: (-len(sequences[name]), name))
    long = [name for name in names if len(sequences[name]) > MAX_RESIDUES]
    groups = [[(name, start, end) for start, end in windows(len(sequences[name]))] for name in long]
    groups.append([(name, 0, len(sequences[name])) for name in names[len(long) :]])
    batches: list[list[tuple[str, int, int]]] = []
    for group in groups:
        batch: list[tuple[str, int, int]] = []
        for piece in group:
            longest = max((end - start for _, start, end in [*batch, piece])) + 2
            if batch and longest * (len(batch) + 1) > budget:
                batches.append(batch)
                batch = []
            batch.append(piece)
        if batch:
            batches.append(batch)
    return batches
