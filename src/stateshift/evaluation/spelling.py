"""One name in two spellings, which would count as two perturbations or contexts, scored or left out apart."""

from __future__ import annotations

from stateshift.cells import Cells
from stateshift.errors import InputProblems
from stateshift.genes.spelling import alike


def refuse_spellings(predicted: Cells, truth: Cells, where: str) -> None:
    """All names of perturbations and contexts that stand in two spellings, on one side or on both.

    Raises
    ------
    InputProblems
        There are any, as ``GATA1`` and ``gata1``.
    """
    problems = []
    for word in ("perturbation", "context"):
        sides = [set(cells.obs[word]) - {cells.control} for cells in (predicted, truth)]
        for names in alike(sorted(sides[0] | sides[1])):
            told = [f"`{name}` in {_places(name, sides, where)}" for name in names]
            problems.append(f"one {word} is spelt {' and '.join(told)}: write it alike.")
    if problems:
        raise InputProblems("obs of the prediction and the truth", problems)


def _places(name: str, sides: list[set[str]], where: str) -> str:
    return " and ".join(place for place, side in zip(("the prediction", where), sides) if name in side)
