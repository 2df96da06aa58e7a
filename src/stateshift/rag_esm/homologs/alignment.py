"""How alike two sequences are: by aligned columns, by global alignment, or by shared k-mers."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Any

import numpy as np

from stateshift.errors import StateshiftError

K = 3
LAMBDA, KARLIN_K = 0.267, 0.041
"""Of gapped local alignment by BLOSUM62 where the first residue of a gap costs 12 and the next 1 (Altschul et al. 1997)."""


def identity(a: str, b: str) -> float:
    """Identical residues of the best global alignment (BLOSUM62, gaps 11 and 1, free at the ends) over the shorter length.

    Raises
    ------
    StateshiftError
        Neither parasail nor biopython is installed.
    """
    try:
        import parasail
    except ImportError:
        return _by_biopython(a, b)
    # sat: 16 bits first, more where the score of long proteins doesn't fit
    found = parasail.sg_stats_striped_sat(a, b, 11, 1, parasail.blosum62)
    return found.matches / min(len(a), len(b))


def expected(a: str, b: str, residues: int) -> float:
    """How many alignments as good as the best local one of a and b chance makes of a in a database: BLAST's E-value.

    K · m · n · exp(−λ S) for a of m residues, a database of n = `residues`, and the alignment's score S (Karlin &
    Altschul 1990, doi:10.1073/pnas.87.6.2264), without a correction for the ends.
    """
    try:
        import parasail

        score = parasail.sw_striped_sat(a, b, 12, 1, parasail.blosum62).score
    except ImportError:
        score = _aligner(mode="local", open_gap_score=-12).score(*_readable(a, b))
    return KARLIN_K * len(a) * residues * exp(-LAMBDA * score)


def hamming(aligned: Sequence[str], row: int) -> np.ndarray:
    """(N,) shares of the query's columns in which each row differs from row `row`; its own is 0."""
    columns = np.frombuffer("".join(aligned).encode("ascii"), dtype=np.uint8).reshape(len(aligned), -1)
    query = columns[row]
    there = query != ord("-")
    return (columns[:, there] != query[there]).mean(axis=1) if there.any() else np.zeros(len(columns))


def kmers(sequence: str, k: int = K) -> set[str]:
    """The k-mers of a sequence.

    Examples
    --------
    >>> sorted(kmers("MKVLA"))
    ['KVL', 'MKV', 'VLA']
    """
    return {sequence[i : i + k] for i in range(len(sequence) - k + 1)}


def _by_biopython(a: str, b: str) -> float:
    best = _aligner(open_gap_score=-11, end_gap_score=0.0).align(*_readable(a, b))[0]
    pairs = ((a[i], b[j]) for (s, e), (t, _) in zip(*best.aligned) for i, j in zip(range(s, e), range(t, t + e - s)))
    return sum(x == y for x, y in pairs) / min(len(a), len(b))


def _readable(*sequences: str) -> list[str]:
    """In the letters of BLOSUM62."""
    return [sequence.replace("U", "C").replace("O", "K") for sequence in sequences]


def _aligner(**settings: Any) -> Any:
    try:
        from Bio import Align
        from Bio.Align import substitution_matrices
    except ImportError as error:
        raise StateshiftError("Aligning needs parasail: install it with `pip install 'stateshift[rag]'`.") from error
    aligner = Align.PairwiseAligner(extend_gap_score=-1, **settings)
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    return aligner
