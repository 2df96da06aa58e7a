"""The alignment's score is the best there is, by an independent recursion."""

from __future__ import annotations

import random
from functools import cache

from stateshift.proteins.explore.mutants.alignment import EXTEND, MATCH, MISMATCH, OPEN, _aligned, align


def best_score(a: str, b: str) -> float:
    @cache
    def best(i, j, gap):
        if gap == "a":
            return max(best(i, j - 1, "") + OPEN, best(i, j - 1, "a")) + EXTEND if j else float("-inf")
        if gap == "b":
            return max(best(i - 1, j, "") + OPEN, best(i - 1, j, "b")) + EXTEND if i else float("-inf")
        if not i and not j:
            return 0
        straight = best(i - 1, j - 1, "") + (MATCH if a[i - 1] == b[j - 1] else MISMATCH) if i and j else float("-inf")
        return max(straight, best(i, j, "a"), best(i, j, "b"))

    return best(len(a), len(b), "")


def score(a: str, b: str) -> int:
    total, open_gap = 0, ""
    for x, y in zip(a, b):
        gap = "a" if x == "-" else "b" if y == "-" else ""
        total += EXTEND + (0 if gap == open_gap else OPEN) if gap else MATCH if x == y else MISMATCH
        open_gap = gap
    return total


def test_no_alignment_is_better_than_the_one_found():
    draw = random.Random(0)
    for _ in range(300):
        a, b = ("".join(draw.choices("ACD", k=draw.randint(0, 9))) for _ in range(2))
        x, y = _aligned(a, b)
        assert (x.replace("-", ""), y.replace("-", "")) == (a, b)
        assert score(x, y) == best_score(a, b)


def test_a_gap_lies_at_the_last_of_the_places_it_could_lie_at():
    assert align("MAAAG", "MAAG") == ("MAAAG", "MAA-G")
    assert align("MAAG", "MAAAG") == ("MAA-G", "MAAAG")


def test_near_copies_of_any_length_are_aligned_and_long_strangers_are_not():
    titin = "MKVLAGWERT" * 3500
    assert align(titin, titin[:-5] + titin[-4:]) == (titin, titin[:-5] + "-" + titin[-4:])
    assert align("A" * 8000, "C" * 8000) is None
