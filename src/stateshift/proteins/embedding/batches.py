"""Which residues go through the model together: windows of long proteins, batches within a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stateshift.errors import StateshiftError

MAX_RESIDUES = 1022
OVERLAP = 256
TOKENS_PER_BATCH = 2048
MOST_PADDING = 0.08
WINDOWS = (
    f"over {MAX_RESIDUES} residues: windows of {MAX_RESIDUES} every {MAX_RESIDUES - OVERLAP}, "
    "the last one ends with the protein; a residue is the mean over the windows that hold it"
)


class Piece(NamedTuple):
    """Residues `start` to `end` (exclusive, 0-based) of protein number `protein`."""

    protein: int
    start: int
    end: int

    @property
    def tokens(self) -> int:
        """Its residues, BOS and EOS."""
        return self.end - self.start + 2


Batch = list[Piece]


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


def plan(lengths: Sequence[int], tokens_per_batch: int = TOKENS_PER_BATCH) -> list[list[Batch]]:
    """Batches sorted by length, the longest first, each within the budget and with at most 8 % of padding.

    Parameters
    ----------
    lengths
        Residues of each protein.
    tokens_per_batch
        Most tokens in a batch, padding, BOS and EOS included; at least 1,024, one full window.

    Returns
    -------
    list of list of Batch
        A group of batches finishes all of its proteins: the windows of one long protein, or one batch of
        whole proteins. So what is done can be kept after every group, and groups can go to any device.

    Raises
    ------
    StateshiftError
        The budget is under one window.

    Examples
    --------
    >>> plan([1500, 3, 600, 580], tokens_per_batch=1204)
    [[[Piece(protein=0, start=0, end=1022)], [Piece(protein=0, start=766, end=1500)]], \
[[Piece(protein=2, start=0, end=600), Piece(protein=3, start=0, end=580)]], [[Piece(protein=1, start=0, end=3)]]]
    """
    check_budget(tokens_per_batch)
    order = sorted(range(len(lengths)), key=lambda protein: -lengths[protein])
    pieces = [[Piece(protein, *span) for span in windows(lengths[protein])] for protein in order]
    groups = [_filled(windowed, tokens_per_batch) for windowed in pieces if len(windowed) > 1]
    whole = [windowed[0] for windowed in pieces if len(windowed) == 1]
    return groups + [[batch] for batch in _filled(whole, tokens_per_batch)]


def check_budget(tokens_per_batch: int) -> None:
    """Raise where a batch could not take one window."""
    if tokens_per_batch < MAX_RESIDUES + 2:
        raise StateshiftError(f"A batch needs at least {MAX_RESIDUES + 2} tokens, not {tokens_per_batch}.")


def fewer_tokens(tokens_per_batch: int) -> str:
    """What to try where the memory doesn't suffice for a batch, as the end of a sentence.

    Examples
    --------
    >>> fewer_tokens(4096)
    'what is done is kept, go on with --tokens-per-batch 2048'
    """
    least = MAX_RESIDUES + 2
    if tokens_per_batch <= least:
        return "what is done is kept, go on with a smaller --checkpoint, or on a machine with more"
    return f"what is done is kept, go on with --tokens-per-batch {max(least, tokens_per_batch // 2)}"


def padding(groups: Sequence[Sequence[Batch]]) -> float:
    """The share of padding among all tokens of the batches."""
    batches = [batch for group in groups for batch in group]
    taken = sum(_size(batch) for batch in batches)
    return 1 - sum(piece.tokens for batch in batches for piece in batch) / taken if taken else 0.0


def _filled(pieces: Sequence[Piece], budget: int) -> list[Batch]:
    """Pieces in their order, the longest first, as many a batch as budget and padding allow."""
    batches: list[Batch] = []
    tokens = 0
    for piece in pieces:
        size = _size(batches[-1]) + batches[-1][0].tokens if batches else 0
        if batches and size <= budget and tokens + piece.tokens >= (1 - MOST_PADDING) * size:
            batches[-1].append(piece)
            tokens += piece.tokens
        else:
            batches.append([piece])
            tokens = piece.tokens
    return batches


def _size(batch: Batch) -> int:
    """Tokens of a batch, padding included."""
    return len(batch) * batch[0].tokens
