"""Sequences with masks to tokens of the ESM alphabet and back; here a mask is written ``-``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from stateshift.proteins.esm2.network import EOS, MASK, PAD
from stateshift.proteins.fasta import RESIDUES

BOS, UNK, FIRST = 0, 3, 4
AMINO_ACIDS = range(FIRST, FIRST + 20)
"""The first twenty of `RESIDUES`."""

_TOKEN_OF = np.full(256, UNK)
_TOKEN_OF[[ord(letter) for letter in RESIDUES]] = np.arange(FIRST, FIRST + len(RESIDUES))
_TOKEN_OF[ord("-")] = MASK
_LETTER_OF = np.full(33, "X")
_LETTER_OF[FIRST : FIRST + len(RESIDUES)] = list(RESIDUES)
_LETTER_OF[MASK] = "-"


def tokens_of(sequences: Sequence[str]) -> torch.Tensor:
    """Tokens (B, T): BOS, residues or masks, EOS, padding; T is the longest plus 2.

    Examples
    --------
    >>> tokens_of(["LA-", "G"]).tolist()
    [[0, 4, 5, 32, 2], [0, 6, 2, 1, 1]]
    """
    tokens = np.full((len(sequences), max(map(len, sequences)) + 2), PAD)
    tokens[:, 0] = BOS
    for row, sequence in zip(tokens, sequences):
        row[1 : len(sequence) + 1] = _TOKEN_OF[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]
        row[len(sequence) + 1] = EOS
    return torch.from_numpy(tokens)


def letters_of(tokens: torch.Tensor) -> list[str]:
    """Sequences of tokens (B, T), without BOS, EOS and padding.

    Examples
    --------
    >>> letters_of(tokens_of(["LA-", "G"]))
    ['LA-', 'G']
    """
    rows = tokens.cpu().numpy()
    return ["".join(_LETTER_OF[row[(row != BOS) & (row != EOS) & (row != PAD)]]) for row in rows]
