"""Protein embeddings: residue rows, and one vector a protein."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.errors import StateshiftError, suggestion
from stateshift.progress import track
from stateshift.proteins.embedding.batches import TOKENS_PER_BATCH, Batch, plan
from stateshift.proteins.embedding.pooling import pool
from stateshift.proteins.esm2.models import ProteinModel, checked_layer

LEVELS = ("residue", "protein")


@dataclass(frozen=True)
class Rows:
    """What the model says of one protein.

    Parameters
    ----------
    residues
        (L, D) float32.
    bos, eos
        (D,) float32, the rows of the tokens before the first and behind the last residue.
    """

    residues: np.ndarray
    bos: np.ndarray
    eos: np.ndarray

    def pooled(self, pooling: str = "mean", weights: np.ndarray | None = None) -> np.ndarray:
        """One vector (D,); see `pool`."""
        return pool(self.residues, pooling, bos=self.bos, eos=self.eos, weights=weights)


def embed_sequences(
    esm: ProteinModel,
    sequences: Mapping[str, str],
    *,
    layer: int = -1,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Iterator[tuple[str, Rows]]:
    """Embed proteins, the longest first, and hand on each as soon as it is done.

    A protein of more than 1,022 residues is read in the overlapping `windows`. Each of its rows is the mean
    over the windows that hold the residue; its BOS and EOS rows are the means over its windows, weighted
    by their numbers of residues.

    Parameters
    ----------
    esm
        The model.
    sequences
        Name → sequence, in the letters of the ESM alphabet (`read_fasta` sees to that).
    layer
        0 (the token embedding) to the model's last; negative ones count from the end. The last is taken
        after the final layer norm.
    tokens_per_batch
        Most tokens in a batch, padding, BOS and EOS included; at least 1,024, one full window.

    Yields
    ------
    tuple of str and Rows
        Name, and its rows of that layer.

    Raises
    ------
    StateshiftError
        A sequence is empty, the model has no such layer, or the budget is under one window.
    """
    layer = checked_layer(layer, esm.layers)
    empty = [name for name, sequence in sequences.items() if not sequence]
    if empty:
        raise StateshiftError(f"`{empty[0]}` has an empty sequence.")
    names = list(sequences)
    groups = plan([len(sequences[name]) for name in names], tokens_per_batch)
    texts = list(sequences.values())
    for group in track(groups, f"Embedding with {esm.name}", total=len(groups)):
        for number, rows in embed_group(esm, texts, group, layer):
            yield names[number], rows


def embed_proteins(
    esm: ProteinModel,
    sequences: Mapping[str, str],
    *,
    layer: int = -1,
    pooling: str = "mean",
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Iterator[tuple[str, np.ndarray]]:
    """One vector (D,) float32 a protein: `embed_sequences`, pooled."""
    for name, rows in embed_sequences(esm, sequences, layer=layer, tokens_per_batch=tokens_per_batch):
        yield name, rows.pooled(pooling)


def checked_level(level: str) -> tuple[str, ...]:
    """``residue``, ``protein`` or both of them.

    Examples
    --------
    >>> checked_level("both")
    ('residue', 'protein')
    """
    if level not in (*LEVELS, "both"):
        raise StateshiftError(f"`{level}` is no level{suggestion(level, (*LEVELS, 'both'))}.")
    return LEVELS if level == "both" else (level,)


def embed_group(
    esm: ProteinModel, sequences: Sequence[str], group: Sequence[Batch], layer: int
) -> Iterator[tuple[int, Rows]]:
    """Rows of every protein of a group of batches (`plan`), by its number; each is handed on once.

    The group holds either whole proteins or all windows of a single one.
    """
    if len(group) == 1 and len({piece.protein for piece in group[0]}) == len(group[0]):
        for piece, rows in zip(group[0], batch_rows(esm, sequences, group[0], layer)):
            yield piece.protein, Rows(rows[1:-1], rows[0], rows[-1])
        return
    number = group[0][0].protein
    residues = np.zeros((len(sequences[number]), esm.width), dtype=np.float32)
    held = np.zeros((len(residues), 1), dtype=np.float32)
    ends = np.zeros((2, esm.width))
    for batch in group:
        for piece, rows in zip(batch, batch_rows(esm, sequences, batch, layer)):
            residues[piece.start : piece.end] += rows[1:-1]
            held[piece.start : piece.end] += 1
            ends += (piece.end - piece.start) * rows[[0, -1]].astype(np.float64)
    bos, eos = (ends / held.sum(dtype=np.float64)).astype(np.float32)
    yield number, Rows(residues / held, bos, eos)


def batch_rows(esm: ProteinModel, sequences: Sequence[str], batch: Batch, layer: int) -> Iterator[np.ndarray]:
    """Rows (L + 2, D) of each piece, BOS and EOS at the ends, from one forward pass."""
    tokens = esm.tokens([sequences[piece.protein][piece.start : piece.end] for piece in batch])
    rows = esm.run(tokens, layers=(layer,)).rows[layer].float().cpu().numpy()
    for piece, piece_rows in zip(batch, rows):
        yield piece_rows[: piece.tokens]
