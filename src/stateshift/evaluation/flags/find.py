"""All flags of a prediction, context by context."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stateshift.cells import Cells
from stateshift.evaluation.flags import cells as of_cells
from stateshift.evaluation.flags.effects import Effects, above_noise, effect_flags, two_halves
from stateshift.evaluation.flags.named import Flag, flags_frame
from stateshift.evaluation.pairing import Pairing, Prediction, own_targets
from stateshift.progress import track

CONTROLS_MOVED = 0.1
"""Squared difference of the controls, beside the mean effect's, from which on own controls would decide a tenth of a score."""
MIXED = 0.25
"""Share of the measured variance between perturbations within groups: what cells of effects of half their size bring."""
AXES = 5
"""Directions along which cells of several perturbations are looked for: those that most of the differences lie in."""
ALIKE = 1 / 3
"""Amplitude, the measured being 1, of what differs between groups of nine cells dealt at random from all."""
SAME = "same effect for all"


def find_flags(prediction: Prediction, truth: Cells, pairing: Pairing) -> pd.DataFrame:
    """What a prediction's scores don't say: scaled, pasted, shuffled or copied, flagged by name.

    Each limit and its reason stands where it is defined (`stateshift.evaluation.flags.effects`, ``.cells``). Effects are
    judged by what two random halves of the cells share, so that noise counts as none; where the measured effects of
    a context are not above their own noise, nothing is said of predicted ones. Genes that a pair targets are left out.

    Parameters
    ----------
    prediction, truth
        As they were paired.
    pairing
        Of `stateshift.evaluation.pairing.pair_up`; the prediction by its name.

    Returns
    -------
    pd.DataFrame
        One row a finding, with the columns `COLUMNS` of `stateshift.evaluation.flags`: ``name`` (of `FLAGS`), ``kind``
        (``warning`` or ``note``), ``model``, ``context``, ``perturbation`` ("" for all of the context), ``figure``,
        ``limit``, ``meaning``.
    """
    facts, real = (of_cells.CellFacts(cells) for cells in track([prediction.cells, truth], "looking for copied cells"))
    found: list[tuple[str, str, str, float, float]] = []
    for context, rows in pairing.rows.groupby("context").indices.items():
        told = _on_effects(prediction, truth, pairing, rows)
        found += [(name, str(context), "", figure, limit) for name, figure, limit in told]
    contexts = pairing.rows.groupby("context").indices.items()
    alike = {str(context) for context, rows in contexts if _alike(pairing.halves[prediction.model][:, rows])}
    found += [
        row for row in _on_cells(prediction, truth, facts, real) if row[0] != "cells repeated" or row[1] not in alike
    ]
    found += _pasted(prediction.model, pairing)
    found += _altered(prediction, truth, pairing, facts, real)
    return flags_frame([Flag(name, prediction.model, *rest) for name, *rest in found])


def _on_effects(
    prediction: Prediction, truth: Cells, pairing: Pairing, rows: np.ndarray
) -> list[tuple[str, float, float]]:
    rows = rows[np.isfinite(pairing.halves["true"][1, rows]).all(axis=1)]
    rows = rows[_counting(pairing.halves[prediction.model][:, rows])]
    if not len(rows):
        return []
    halves = [two_halves(pairing.halves[name][:, rows]) for name in (prediction.model, "true")]
    own = own_targets(pairing)
    targets = [own[row] for row in rows]
    centred = [of - of.mean(axis=1, keepdims=True) for of in halves]
    effects, apart = (Effects.of_halves(*of).without(targets) for of in (halves, centred))
    told, between = effect_flags(effects, apart), apart.sizes()
    if between.can_tell and between.amplitude <= ALIKE and "no change" not in [name for name, *_ in told]:
        for i, columns in enumerate(targets):
            centred[1][:, i, columns] = 0
        shuffled = _shuffled(prediction, truth, pairing, rows, centred[1])
        if shuffled is not None:
            return [shuffled, *(flag for flag in told if flag[0] not in (SAME, "labels permuted"))]
    return told


def _counting(predicted: np.ndarray) -> np.ndarray:
    """(P,): predictions (2, P, G) of several cells; where all are of one cell, all, as means without noise."""
    several = np.isfinite(predicted[1]).all(axis=1)
    return several if several.any() else ~several


def _alike(predicted: np.ndarray) -> bool:
    """Whether predicted groups (2, P, G) differ by no more than noise, so that one effect on the same cells repeats them."""
    first, second = two_halves(predicted[:, _counting(predicted)])
    shared = np.einsum("pg,pg->p", first - first.mean(axis=0), second - second.mean(axis=0))
    return len(shared) > 2 and bool(shared.sum() <= 2 * shared.std(ddof=1) * np.sqrt(len(shared)))


def _shuffled(
    prediction: Prediction, truth: Cells, pairing: Pairing, rows: np.ndarray, true: np.ndarray
) -> tuple[str, float, float] | None:
    """``cells shuffled``: the groups are alike, and what tells perturbations apart lies within them.

    With B the measured variance between perturbations along the axes in which most of it lies, and W that of
    cells within a group, groups dealt from all cells have W + B, and those of a model that predicts one effect for all have W. The
    prediction's W is divided by how much more its cells differ than measured ones along all other directions.
    """
    axes = np.linalg.svd(true.mean(axis=0), full_matrices=False)[2][:AXES].T
    between = np.einsum("pg,pg->p", true[0] @ axes, true[1] @ axes).sum() / max(len(rows) - 1, 1)
    pairs = list(pairing.rows[["context", "perturbation"]].iloc[rows].itertuples(index=False, name=None))
    within, rest = [], []
    for cells, name in ((prediction.cells, prediction.model), (truth, "true")):
        members = cells.obs.groupby(["context", "perturbation"], observed=True).indices
        within.append(of_cells.within_along(cells, [np.asarray(members[pair]) for pair in pairs], axes))
        rest.append(np.nanmean(pairing.variance[name][rows] - within[-1]))
    within[0] = within[0] * rest[1] / rest[0]
    n = [max(np.isfinite(w).sum(), 1) for w in within]
    excess = (np.nanmean(within[0]) - np.nanmean(within[1])) / between
    error = np.hypot(*(np.nanstd(w) / np.sqrt(k) for w, k in zip(within, n))) / between
    if between > 0 and excess > MIXED and excess - 2 * error > 0:
        return "cells shuffled", float(excess), MIXED
    return None


def _on_cells(
    prediction: Prediction, truth: Cells, facts: of_cells.CellFacts, real: of_cells.CellFacts
) -> list[tuple[str, str, str, float, float]]:
    """Flags by group; any whole number among logarithms is one too many, the others count from half of the cells on."""
    cells = prediction.cells
    copies = of_cells.copied(cells, facts.prints, real.prints[truth.is_control])
    of_each = {
        "constant cells": (facts.constant, of_cells.MOST),
        "control cells copied": (copies, of_cells.MOST),
        "cells repeated": (of_cells.repeated(cells, facts.prints) & ~copies, of_cells.MOST),
        "mixed scales": (facts.whole, 0.0),
    }
    found = []
    for name, (mask, limit) in of_each.items():
        by_group = of_cells.shares(cells, mask)
        found += [(name, c, p, float(share), limit) for (c, p), share in by_group.items() if share > limit]
    return found


def _pasted(model: str, pairing: Pairing) -> list[tuple[str, str, str, float, float]]:
    """Groups whose cells hardly differ, beside measured cells of the same pair, or controls where it has one cell."""
    measured = pairing.variance["true"]
    measured = np.where(np.isfinite(measured) & (measured > 0), measured, pairing.variance["controls"])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(measured > 0, pairing.variance[model] / measured, np.nan)
    rows = pairing.rows
    return [
        ("pasted", rows["context"].iloc[i], rows["perturbation"].iloc[i], float(share[i]), of_cells.PASTED)
        for i in np.flatnonzero(share < of_cells.PASTED)
    ]


def _altered(
    prediction: Prediction, truth: Cells, pairing: Pairing, facts: of_cells.CellFacts, real: of_cells.CellFacts
) -> list[tuple[str, str, str, float, float]]:
    """Contexts whose control cells in the prediction are others than the truth's, and differ as effects do."""
    cells, found = prediction.cells, []
    seen = of_cells.copied(cells, facts.prints, real.prints[truth.is_control])
    for context, rows in pairing.rows.groupby("context").indices.items():
        here = cells.is_control & (cells.obs["context"] == context).to_numpy()
        offsets = pairing.control_offsets[prediction.model].get(context)
        effect = _mean_square(pairing.halves["true"][:, rows])
        if not here.any() or offsets is None or seen[here].mean() > of_cells.MOST or effect is None:
            continue
        # two halves' mean m and half their difference d have the same noise, so that m² − d² has none in the mean; where d
        # is normal, m² − d² has the variance 4 m² d² + 4/3 d⁴
        m, d = np.float64(offsets[0] + offsets[1]) / 2, np.float64(offsets[0] - offsets[1]) / 2
        moved, error = (m**2 - d**2).sum(), np.sqrt((4 * m**2 * d**2 + 4 / 3 * d**4).sum())
        if (moved - 2 * error) / effect > CONTROLS_MOVED:
            found.append(("altered controls", str(context), "", float(moved / effect), CONTROLS_MOVED))
    return found


def _mean_square(true: np.ndarray) -> float | None:
    """Mean squared size of measured effects, of halves (2, P, G); None where they are not above their noise."""
    squares = np.einsum("pg,pg->p", *true[:, np.isfinite(true).all(axis=(0, 2))].astype(np.float64))
    return float(squares.mean()) if above_noise(squares) else None
