"""Two sequences brought beside each other: global alignment with affine gaps (Gotoh 1982, J. Mol. Biol. 162, 705)."""

from __future__ import annotations

import re

import numpy as np

MATCH, MISMATCH, OPEN, EXTEND = 2, -3, -6, -1
MOST_CELLS = 50_000_000
"""Cells of the largest table: two sequences of some 7,000 residues that share neither start nor end."""


def align(a: str, b: str) -> tuple[str, str] | None:
    """Both sequences with ``-`` for gaps, or None where they are too long to be compared.

    What both start and end with is set aside first, so that near copies of any length cost nothing. Gaps that
    could lie at several places lie at the last, as HGVS has it.

    Examples
    --------
    >>> align("MKVLAAAG", "MKVLAAG")
    ('MKVLAAAG', 'MKVLAA-G')
    >>> align("MKVLAG", "MKWWVLAE")
    ('MK--VLAG', 'MKWWVLAE')
    """
    start = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    rest = min(len(a), len(b)) - start
    end = next((i for i, (x, y) in enumerate(zip(a[::-1], b[::-1])) if x != y or i == rest), rest)
    middle = a[start : len(a) - end], b[start : len(b) - end]
    if len(middle[0]) * len(middle[1]) > MOST_CELLS:
        return None
    aligned = _aligned(*middle)
    x, y = a[:start] + aligned[0] + a[len(a) - end :], b[:start] + aligned[1] + b[len(b) - end :]
    y = _gaps_at_their_last_place(x, y)
    return _gaps_at_their_last_place(y, x), y


def _gaps_at_their_last_place(x: str, y: str) -> str:
    """`y` with each gap moved on as long as it parts the same residues of `x`."""
    moved = list(y)
    for gap in reversed(list(re.finditer("-+", y))):
        start, end = gap.span()
        while end < len(x) and x[start] == x[end] == moved[end]:
            moved[start], moved[end] = moved[end], "-"
            start, end = start + 1, end + 1
    return "".join(moved)


def _aligned(a: str, b: str) -> tuple[str, str]:
    """Gotoh's recursion a row at a time: gaps in `a` within a row come from a running maximum."""
    n, m = len(a), len(b)
    letters = np.frombuffer(b.encode(), dtype=np.uint8)
    columns = EXTEND * np.arange(m + 1)
    best = np.empty((n + 1, m + 1), dtype=np.int32)
    up, left = np.full_like(best, -(2**29)), np.full_like(best, -(2**29))
    best[0] = OPEN + columns
    best[0, 0] = 0
    left[0, 1:] = best[0, 1:]
    for i in range(1, n + 1):
        up[i] = np.maximum(best[i - 1] + OPEN + EXTEND, up[i - 1] + EXTEND)
        straight = best[i - 1, :-1] + np.where(letters == ord(a[i - 1]), MATCH, MISMATCH)
        row = up[i].copy()
        row[1:] = np.maximum(row[1:], straight)
        left[i, 1:] = np.maximum.accumulate(row - columns)[:-1] + OPEN + columns[1:]
        best[i] = np.maximum(row, left[i])
    return _traced(a, b, best, up, left)


def _traced(a: str, b: str, best: np.ndarray, up: np.ndarray, left: np.ndarray) -> tuple[str, str]:
    """The way back from the end; a gap is taken before a match of the same score."""
    i, j, state = len(a), len(b), "best"
    columns: list[tuple[str, str]] = []
    while i or j:
        if state == "best" and i and best[i, j] == up[i, j]:
            state = "up"
        elif state == "best" and j and best[i, j] == left[i, j]:
            state = "left"
        if state == "up":
            state = "up" if i > 1 and up[i, j] == up[i - 1, j] + EXTEND else "best"
            i -= 1
            columns.append((a[i], "-"))
        elif state == "left":
            state = "left" if j > 1 and left[i, j] == left[i, j - 1] + EXTEND else "best"
            j -= 1
            columns.append(("-", b[j]))
        else:
            i, j = i - 1, j - 1
            columns.append((a[i], b[j]))
    columns.reverse()
    return "".join(x for x, _ in columns), "".join(y for _, y in columns)
