"""Half-widths of 90 % intervals for predicted mean effects, calibrated on training rows that were held out.

Shapes: R predicted pairs, G genes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stateshift.cells import Cells, EffectTable
from stateshift.effects.conformal import LEVEL
from stateshift.errors import some
from stateshift.genes.doubles import any_order
from stateshift.prediction.calibrator import Calibrator
from stateshift.prediction.support import Support

logger = logging.getLogger(__name__)

ENOUGH = 10
"""Units below which a share of nine in ten is a rough estimate."""
FEW_CONTROLS = 50
"""Control cells of a context below which the noise of their mean is added."""
NORMAL = 1.645
"""Half-width of a 90 % interval of a normal variable, in standard deviations."""


@dataclass
class Intervals:
    """Half-widths of R pairs.

    Parameters
    ----------
    half_widths
        (R, G) float32, log1p scale; NaN where nothing could be calibrated.
    of_mean
        The same of the ``mean`` baseline, to compare with.
    calibration
        Regime → what it was calibrated on: ``by``, ``regime`` (that was imitated), ``rows``, ``units`` and what a ``unit``
        is, ``pair_part`` (or ""), ``quantile`` (`stateshift.effects.conformal.Calibration`); of a network that was checked on
        too few validation pairs to calibrate on, ``widened``, the factor that they asked for, and ``validation_pairs``.
    """

    half_widths: np.ndarray
    of_mean: np.ndarray
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)


def find_intervals(
    calibrator: Calibrator,
    model: str,
    pairs: Sequence[tuple[str, str]],
    routes: Sequence[str],
    support: Support,
    members: np.ndarray | None = None,
) -> Intervals:
    """Half-widths for every pair, and of the mean baseline beside them.

    Of a ``measured`` pair, which has the measurement for its prediction, the half-width is that of another measurement
    of as many cells: 1.645 · √2 standard errors. A ``fallback`` is the mean baseline's prediction and has its
    intervals. Every other pair has those of its regime; where a model that doesn't look a measurement up predicts a
    measured pair, those of the mildest regime, which are wide enough.

    Parameters
    ----------
    calibrator
        Of the run.
    model
        The effect model that predicts; of a network, the one that it starts from.
    pairs
        R (context, perturbation).
    routes, support
        Of each.
    members
        (R,): how far an ensemble's members lie apart, mean over genes.
    """
    train = calibrator.train
    shape = len(pairs), len(train.genes)
    made = Intervals(np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32))
    groups: dict[tuple[str, str, bool], list[int]] = {}
    for i, ((context, _), route, regime) in enumerate(zip(pairs, routes, support.regimes)):
        groups.setdefault((regime, route, context not in set(train.contexts)), []).append(i)
    values = {"nearest": support.nearest, "members": members}
    for (regime, route, new_context), rows in groups.items():
        here = {name: of[rows] for name, of in values.items() if of is not None}
        of_mean = calibrator("mean", regime, new_context)
        if of_mean is not None:
            made.of_mean[rows] = of_mean[0].half_widths(here, len(rows))
        if route == "measured":
            made.half_widths[rows] = _of_measured(train, [pairs[i] for i in rows])
            made.calibration[regime] = {"by": "standard errors of the measurement", "regime": regime}
            continue
        name = "mean" if route == "fallback" else model
        found = calibrator(name, regime, new_context, network=route == "neural")
        if found is None:
            continue
        made.half_widths[rows] = found[0].half_widths(here, len(rows))
        if route != "fallback" or regime not in made.calibration:
            made.calibration[regime] = {**found[1], "network": route == "neural"}
    _say(made, support)
    return made


def widened_by_few_controls(
    intervals: Intervals, cells: Cells, pairs: Sequence[tuple[str, str]], train: EffectTable
) -> None:
    """Add to the half-widths what few control cells of a context leave open, and say so.

    A measured effect is taken against the mean of its context's controls. With n of them, fewer than the m that training
    effects were typically measured against, that mean is less sure by v · (1/n − 1/m), v the controls' variance.
    """
    usual = float(np.median(train.n_controls)) if train.n_controls is not None and len(train) else np.inf
    context = cells.obs["context"].to_numpy()
    for name in dict.fromkeys(c for c, _ in pairs):
        controls = np.flatnonzero(cells.is_control & (context == name))
        beyond = 1 / len(controls) - 1 / usual
        if len(controls) >= FEW_CONTROLS or beyond <= 0:
            continue
        rows = [i for i, (c, _) in enumerate(pairs) if c == name]
        open_ = NORMAL**2 * beyond * cells.X.dense(controls).var(axis=0, ddof=1 if len(controls) > 1 else 0)
        for widths in (intervals.half_widths, intervals.of_mean):
            widths[rows] = np.sqrt(widths[rows] ** 2 + open_)
        logger.warning(
            "%s has %d control cells: no more are predicted of a perturbation, and the intervals are wider by the noise of "
            "a mean of so few",
            name,
            len(controls),
        )


def _of_measured(train: EffectTable, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    if train.standard_error is None:
        return np.full((len(pairs), len(train.genes)), np.nan, np.float32)
    row = {(c, any_order(p)): i for i, (c, p) in enumerate(zip(train.contexts, train.perturbations))}
    error = np.stack([train.standard_error[row[c, any_order(p)]] for c, p in pairs])
    return (NORMAL * np.sqrt(2) * error).astype(np.float32)


def _say(made: Intervals, support: Support) -> None:
    for regime, told in made.calibration.items():
        borrowed = f", in the manner of {told['regime']}" if told["regime"] != regime else ""
        rows = f" ({told['rows']:,} of {told['units']:,} {told['unit']}s)" if "rows" in told else ""
        wider = (
            f", {told['widened']:.2f} times as wide by {told['validation_pairs']} validation pairs"
            if "widened" in told
            else ""
        )
        logger.info("intervals of regime %s: %s%s%s%s", regime, told["by"], rows, borrowed, wider)
        if told.get("network") and "widened" not in told and told["by"] != "validation pairs":
            logger.warning(
                "the intervals of regime %s are those of the effects that the network starts from, and no validation pair "
                "says whether they hold for it: declare a validation split of new targets or contexts",
                regime,
            )
        if told.get("units", ENOUGH) < ENOUGH:
            logger.warning(
                "the intervals of regime %s rest on %d %ss: that they hold %.0f %% is a rough estimate",
                regime,
                told["units"],
                told["unit"],
                100 * LEVEL,
            )
    without = {r for r, row in zip(support.regimes, made.half_widths) if np.isnan(row).all()}
    if without:
        logger.warning(
            "no interval can be given in regime %s: too few training rows to hold any out (interval is NaN)",
            some(sorted(without)),
        )
