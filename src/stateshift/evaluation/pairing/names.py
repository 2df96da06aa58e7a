"""One perturbation under one name on both sides: other spellings are refused, doubles matched in any order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stateshift.cells import Cells
from stateshift.errors import InputProblems, some
from stateshift.evaluation.pairing.inputs import Prediction
from stateshift.genes.doubles import any_order, as_spelt, misspelt_doubles
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


def match_doubles(prediction: Prediction, truth: Cells) -> tuple[Prediction, Cells, list[str]]:
    """Both sides with each set of genes under one name: ``A+B`` and ``B+A`` are one perturbation.

    The prediction's name stands. Where one side holds both orders, their cells are pooled and the stored
    effects of a baseline averaged.

    Returns
    -------
    tuple
        The prediction, the truth, and a sentence where names were matched.
    """
    _refuse_misspelt(prediction, truth)
    names: dict[str, str] = {}
    other: dict[str, str] = {}
    for cells in (prediction.cells, truth):
        for label in sorted(set(cells.obs["perturbation"]) - {cells.control}):
            name = names.setdefault(any_order(label), label)
            if name != label:
                other[label] = name
    if not other:
        return prediction, truth, []
    said = some([f"`{label}` is `{name}`" for label, name in other.items()], 4)
    return (
        replace(
            prediction,
            cells=_renamed(prediction.cells, other),
            baselines={model: _pooled(effects, other) for model, effects in prediction.baselines.items()},
            intervals={name: _pooled(of, other) for name, of in prediction.intervals.items()},
            regimes={(c, other.get(label, label)): regime for (c, label), regime in prediction.regimes.items()},
        ),
        _renamed(truth, other),
        [f"Doubles are matched whatever the order of their genes: {said}."],
    )


def named_as(prediction: Prediction, truth: Cells) -> Prediction:
    """A prediction with its doubles under the truth's names."""
    labels = sorted(set(prediction.cells.obs["perturbation"]))
    other = {a: b for a, b in zip(labels, as_spelt(labels, truth.obs["perturbation"].unique())) if a != b}
    return replace(prediction, cells=_renamed(prediction.cells, other)) if other else prediction


def _refuse_misspelt(prediction: Prediction, truth: Cells) -> None:
    """A double of the truth that is written ``A_B`` would count as not predicted."""
    labels = set(truth.obs["perturbation"]) - {truth.control}
    predicted = {gene for label in prediction.cells.obs["perturbation"].unique() for gene in label.split("+")}
    problems = misspelt_doubles(sorted(labels - predicted), {*prediction.cells.genes, *predicted})
    if problems:
        raise InputProblems("obs of the truth", problems)


def _pooled(of_pair: dict[tuple[str, str], np.ndarray], names: dict[str, str]) -> dict[tuple[str, str], np.ndarray]:
    """Arrays of pairs under other names, averaged where two names become one."""
    gathered: dict[tuple[str, str], list[np.ndarray]] = {}
    for (context, label), values in of_pair.items():
        gathered.setdefault((context, names.get(label, label)), []).append(values)
    return {pair: np.mean(found, axis=0) for pair, found in gathered.items()}


def _renamed(cells: Cells, names: dict[str, str]) -> Cells:
    labels = cells.obs["perturbation"]
    return replace(cells, obs=cells.obs.assign(perturbation=[names.get(label, label) for label in labels]))
