"""Flags of what candidates predict, where scores alone don't say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stateshift.effects.models import BASELINES
from stateshift.evaluation.comparison.experiment.candidates import Candidate
from stateshift.evaluation.comparison.experiment.folder import ComparisonFolder
from stateshift.evaluation.comparison.experiment.stages import FoldEffects
from stateshift.evaluation.flags import Flag, flags_frame
from stateshift.evaluation.flags.effects import Effects, effect_flags
from stateshift.feature_table import genes_of


def flagged(folder: ComparisonFolder, parts: Sequence[FoldEffects], chosen: Sequence[Candidate]) -> pd.DataFrame:
    """`stateshift.evaluation.flags` of predicted effects: scaled, without change, the same for all, permuted.

    Parameters
    ----------
    folder
        Where predictions are kept.
    parts
        Folds; noise is taken from the measured effects by their standard errors, and pairs of one cell are left out.
    chosen
        Candidates that were scored in every fold; baselines, which are what their names say, are passed over.
    """
    found = []
    for candidate in chosen:
        for part in parts if candidate.model not in BASELINES else ():
            effects, _ = folder.read_prediction(part.name, candidate)
            for context, told in _by_context(effects.astype(np.float64), part).items():
                place = context if len(parts) == 1 else f"{context}, {part.name}"
                found += [Flag(name, candidate.name, place, "", figure, limit) for name, figure, limit in told]
    return flags_frame(found)


def _by_context(predicted: np.ndarray, part: FoldEffects) -> dict[str, list[tuple[str, float, float]]]:
    truth, found = part.truth, {}
    if truth.standard_error is None:
        return found
    column = {gene: i for i, gene in enumerate(truth.genes)}
    contexts, known = np.array(truth.contexts), np.isfinite(truth.standard_error).all(axis=1)
    for context in sorted(set(truth.contexts)):
        rows = np.flatnonzero((contexts == context) & known)
        if not len(rows):
            continue
        p, t, error = predicted[rows], truth.effects[rows].astype(np.float64), truth.standard_error[rows]
        targets = [[column[g] for g in genes_of(truth.perturbations[row]) if g in column] for row in rows]
        centred = (of - of.mean(axis=0) for of in (p, t))
        every, apart = (Effects.of_errors(*of, error).without(targets) for of in ((p, t), centred))
        found[context] = effect_flags(every, apart)
    return found
