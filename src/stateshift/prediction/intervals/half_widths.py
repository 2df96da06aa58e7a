"""Half-widths of 90 % intervals for predicted mean effects, calibrated on training rows that were held out.

Shapes: R predicted pairs, G genes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stateshift.cells import Cells, EffectTable
from stateshift.effects.conformal import LEVEL
from stateshift.errors import some
from stateshift.feature_table import genes_of
from stateshift.genes.doubles import any_order
from stateshift.prediction.asked.support import Support, find_support
from stateshift.prediction.intervals.calibrator import Calibrator

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
        ``largest`` where the units differ so much that only the largest error of all is a half-width.
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
    fallback: Collection[str] = (),
) -> Intervals:
    """Half-widths for every pair, and of the mean baseline beside them.

    Of a ``measured`` pair, which has the measurement for its prediction, the half-width is that of another measurement
    of as many cells: 1.645 · √2 standard errors. Every other pair has those of its regime and of the model that
    predicted it; where one that doesn't look a measurement up predicts a measured pair, those of the mildest regime.

    A double that no training row has is missed by what each of its targets is missed by: its half-width is no less
    than the root of the sum of their squares, each in its own regime, and in a new context, where all are missed
    together, than their sum.

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
    fallback
        Perturbations without a vector, which the mean baseline predicts.
    """
    by_mean = [p in fallback for _, p in pairs]
    made = _by_regime(calibrator, model, pairs, routes, support, members, by_mean)
    _widen_untrained_doubles(made, calibrator, model, pairs, routes, members, by_mean)
    _say(made, support)
    return made


def _by_regime(
    calibrator: Calibrator,
    model: str,
    pairs: Sequence[tuple[str, str]],
    routes: Sequence[str],
    support: Support,
    members: np.ndarray | None,
    by_mean: Sequence[bool],
) -> Intervals:
    """Half-widths of the pairs, each by its regime alone; `by_mean` says which the mean baseline predicts."""
    train = calibrator.train
    shape = len(pairs), len(train.genes)
    made = Intervals(np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32))
    groups: dict[tuple[bool, str, str, bool], list[int]] = {}
    for i, ((context, _), *of) in enumerate(zip(pairs, by_mean, support.regimes, routes)):
        groups.setdefault((*of, context not in set(train.contexts)), []).append(i)
    values = {"nearest": support.nearest, "members": members}
    for (of_mean, regime, route, new_context), rows in sorted(groups.items()):
        here = {name: of[rows] for name, of in values.items() if of is not None}
        baseline = calibrator("mean", regime, new_context)
        if baseline is not None:
            made.of_mean[rows] = baseline[0].half_widths(here, len(rows))
        if route == "measured":
            made.half_widths[rows] = _of_measured(train, [pairs[i] for i in rows])
            made.calibration[regime] = {"by": "standard errors of the measurement", "regime": regime}
            continue
        found = baseline if of_mean else calibrator(model, regime, new_context, network=route == "neural")
        if found is None:
            continue
        made.half_widths[rows] = found[0].half_widths(here, len(rows))
        if not of_mean or regime not in made.calibration:
            made.calibration[regime] = {**found[1], "network": route == "neural"}
    return made


def _widen_untrained_doubles(
    made: Intervals,
    calibrator: Calibrator,
    model: str,
    pairs: Sequence[tuple[str, str]],
    routes: Sequence[str],
    members: np.ndarray | None,
    by_mean: Sequence[bool],
) -> None:
    """Widen the doubles that no training row has to what their targets leave open."""
    train = calibrator.train
    trained = {any_order(p) for p in train.perturbations}
    doubles = [i for i, (_, p) in enumerate(pairs) if len(genes_of(p)) > 1 and any_order(p) not in trained]
    if not doubles:
        return
    of = np.array([i for i in doubles for _ in genes_of(pairs[i][1])])
    targets = [(pairs[i][0], gene) for i in doubles for gene in genes_of(pairs[i][1])]
    support = find_support(targets, train, calibrator.features, set(calibrator.features.missing(g for _, g in targets)))
    own = calibrator.models[model].routes([g for _, g in targets], [c for c, _ in targets])
    of_targets = [routes[i] if routes[i] == "neural" or by_mean[i] else route for i, route in zip(of, own)]
    apart = None if members is None else members[of]
    single = _by_regime(calibrator, model, targets, of_targets, support, apart, [by_mean[i] for i in of])
    for i in doubles:
        together = pairs[i][0] not in set(train.contexts)
        for widths, parts in ((made.half_widths, single.half_widths), (made.of_mean, single.of_mean)):
            here = parts[of == i]
            total = here.sum(axis=0) if together else np.sqrt((here**2).sum(axis=0))
            widths[i] = np.fmax(widths[i], total)


def widened_by_few_controls(
    intervals: Intervals, cells: Cells, pairs: Sequence[tuple[str, str]], train: EffectTable
) -> None:
    """Add to the half-widths what few control cells of a context leave open, and say so.

    A measured effect is taken against the mean of its context's controls. With n of them, fewer than the m that training
    effects were typically measured against, that mean is less sure by v · (1/n − 1/m), v the controls' variance. One
    cell has none: the half-widths become NaN.
    """
    usual = float(np.median(train.n_controls)) if train.n_controls is not None and len(train) else np.inf
    context = cells.obs["context"].to_numpy()
    for name in dict.fromkeys(c for c, _ in pairs):
        controls = np.flatnonzero(cells.is_control & (context == name))
        beyond = 1 / len(controls) - 1 / usual
        if len(controls) >= FEW_CONTROLS or beyond <= 0:
            continue
        rows = [i for i, (c, _) in enumerate(pairs) if c == name]
        alone = len(controls) == 1
        open_ = np.nan if alone else NORMAL**2 * beyond * cells.X.dense(controls).var(axis=0, ddof=1)
        for widths in (intervals.half_widths, intervals.of_mean):
            widths[rows] = np.sqrt(widths[rows] ** 2 + open_)
        if alone:
            logger.warning("%s has one control cell, which doesn't tell how far their mean is off: no intervals", name)
            continue
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
        if told.get("largest"):
            logger.warning(
                "the %d %ss that the intervals of regime %s rest on differ so much that no quantile of their errors holds "
                "nine in ten of one that is left out: the half-widths are the largest error, and may be too narrow still",
                told["units"],
                told["unit"],
                regime,
            )
        elif told.get("units", ENOUGH) < ENOUGH:
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
