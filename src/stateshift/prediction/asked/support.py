"""What stands behind each prediction: its regime, the contexts that measured it, the nearest training perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stateshift.cells import EffectTable
from stateshift.cells.regimes import regimes_of
from stateshift.effects.conformal import nearest_trained
from stateshift.feature_table import FeatureTable
from stateshift.genes.doubles import any_order


@dataclass
class Support:
    """Of R predicted pairs.

    Parameters
    ----------
    regimes
        Keys of `stateshift.cells.regimes.REGIMES`.
    n_sources
        In how many training contexts the perturbation was measured, whatever the order of a double's genes. Of a
        target never perturbed in training it is 0: features alone speak of it.
    nearest
        (R,): distance to the nearest training perturbation (`nearest_trained`); NaN without features.
    nearest_gene
        That perturbation's name, or "".
    """

    regimes: list[str]
    n_sources: list[int]
    nearest: np.ndarray
    nearest_gene: list[str]


def find_support(
    pairs: Sequence[tuple[str, str]], train: EffectTable | None, features: FeatureTable, unknown: set[str]
) -> Support:
    """What the training effects and features say of where each (context, perturbation) stands.

    Parameters
    ----------
    pairs
        R (context, perturbation).
    train
        None where a run holds no effects: nothing is known then.
    features
        Of the run and of what is predicted.
    unknown
        Perturbations without features.
    """
    R = len(pairs)
    nearest, names = np.full(R, np.nan), [""] * R
    if train is None:
        return Support([""] * R, [0] * R, nearest, names)
    contexts, perturbations = [c for c, _ in pairs], [p for _, p in pairs]
    regimes = regimes_of(perturbations, contexts, zip(train.perturbations, train.contexts))
    measured_in: dict[str, set[str]] = {}
    for perturbation, context in zip(train.perturbations, train.contexts):
        measured_in.setdefault(any_order(perturbation), set()).add(context)
    known = [i for i, p in enumerate(perturbations) if p not in unknown]
    if known:
        nearest[known], found = nearest_trained(features, train.perturbations, [perturbations[i] for i in known])
        for i, name in zip(known, found):
            names[i] = name
    return Support(regimes, [len(measured_in.get(any_order(p), ())) for p in perturbations], nearest, names)
