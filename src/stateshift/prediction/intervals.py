"""Half-widths of 90 % intervals for predicted mean effects, calibrated on training rows that were held out.

Shapes: R predicted pairs, G genes, N held-out rows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stateshift.cells import Cells, EffectTable
from stateshift.cells.regimes import regimes_of
from stateshift.effects import EffectModel, HeldOut
from stateshift.effects.conformal import (
    LEVEL,
    Calibration,
    calibrate,
    hold_out,
    load_held_out,
    nearest_trained,
)
from stateshift.errors import some
from stateshift.feature_table import FeatureTable
from stateshift.genes.doubles import any_order
from stateshift.prediction.support import Support
from stateshift.run import RunDirectory

logger = logging.getLogger(__name__)

STANDS_IN = {"measured": ("C", "T"), "C": ("C", "T"), "T": ("T",), "J": ("J", "T", "C")}
"""Regime → regimes whose held-out rows calibrate it, the first that the training rows can imitate."""
ENOUGH_UNITS = 20
"""Validation targets that calibrate a network; with fewer, the effects it starts from do."""
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
        is, ``pair_part`` (or ""), ``quantile`` (`stateshift.effects.conformal.Calibration`).
    """

    half_widths: np.ndarray
    of_mean: np.ndarray
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Calibrator:
    """Calibrations by model and regime, each made once.

    Parameters
    ----------
    models
        Fitted effect models by name, ``mean`` among them.
    train, features, seed
        What they were fitted on.
    validation
        Validation pairs as measured and as the network predicts them; None where the network doesn't make the prediction.
    spread
        (N,): of validation pairs, how far an ensemble's members lie apart, mean over genes.
    """

    models: Mapping[str, EffectModel]
    train: EffectTable
    features: FeatureTable
    seed: int
    validation: HeldOut | None = None
    spread: np.ndarray | None = None
    _made: dict[tuple[str, str, bool], tuple[Calibration, dict[str, Any]] | None] = field(default_factory=dict)

    def __call__(
        self, model: str, regime: str, new_context: bool, network: bool = False
    ) -> tuple[Calibration, dict[str, Any]] | None:
        """The calibration of a model in a regime and what it rests on; None where the training rows allow none.

        A network's rests on its validation pairs where they are enough targets of the regime, else on the held-out
        rows of `model`, which it starts from.
        """
        key = (f"network on {model}" if network else model, regime, new_context)
        if key not in self._made:
            found = self._by_validation(regime, new_context) if network else None
            self._made[key] = found or self._by_training_rows(model, regime, new_context)
        return self._made[key]

    def _by_training_rows(
        self, model: str, regime: str, new_context: bool
    ) -> tuple[Calibration, dict[str, Any]] | None:
        for imitated in STANDS_IN[regime]:
            held = hold_out(model, self.models[model], self.train, self.features, imitated, self.seed)
            if held is None:
                continue
            pairs = {} if model == "mean" or imitated == "C" else {"nearest": self._nearest(held.perturbations)}
            unit, units = _units(held, imitated, new_context)
            found = calibrate(held.true - held.predicted, units, pairs, seed=self.seed)
            if np.isfinite(found.quantile):
                return found, self._told(found, f"held-out training rows of {model}", imitated, unit)
        return None

    def _by_validation(self, regime: str, new_context: bool) -> tuple[Calibration, dict[str, Any]] | None:
        held = self.validation
        if held is None or regime == "measured":
            return None
        trained = zip(self.train.perturbations, self.train.contexts)
        of_regime = np.array(regimes_of(held.perturbations, held.contexts, trained)) == regime
        kept = HeldOut(
            [p for p, keep in zip(held.perturbations, of_regime) if keep],
            [c for c, keep in zip(held.contexts, of_regime) if keep],
            held.true[of_regime],
            held.predicted[of_regime],
        )
        unit, units = _units(kept, regime, new_context)
        if len(set(units)) < ENOUGH_UNITS:
            return None
        pairs = {} if regime == "C" else {"nearest": self._nearest(kept.perturbations)}
        if self.spread is not None:
            pairs["members"] = self.spread[of_regime]
        found = calibrate(kept.true - kept.predicted, units, pairs, seed=self.seed)
        return (found, self._told(found, "validation pairs", regime, unit)) if np.isfinite(found.quantile) else None

    def _nearest(self, perturbations: Sequence[str]) -> np.ndarray:
        return nearest_trained(self.features, self.train.perturbations, perturbations, apart=True)[0]

    @staticmethod
    def _told(found: Calibration, by: str, regime: str, unit: str) -> dict[str, Any]:
        return {
            "by": by,
            "regime": regime,
            "rows": found.rows,
            "units": found.units,
            "unit": unit,
            "pair_part": found.pair_part or "",
            "quantile": found.quantile,
        }


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
            made.calibration[regime] = found[1]
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


def stored_validation(
    members: Sequence[RunDirectory], genes: Sequence[str]
) -> tuple[HeldOut | None, np.ndarray | None]:
    """Validation pairs as the runs' networks predict them, averaged, and how far members lie apart, (N,).

    None where a run recorded none, or for other genes than are predicted; no distance of a single run.
    """
    found = [load_held_out(run.validation_file) for run in members if run.validation_file.is_file()]
    names = [(held.perturbations, held.contexts, of) for held, of in found]
    if len(found) < len(members) or any(name != names[0] for name in names) or names[0][2] != list(genes):
        return None, None
    made = np.stack([held.predicted for held, _ in found])
    apart = made.std(axis=0, ddof=1).mean(axis=1) if len(members) > 1 else None
    return replace(found[0][0], predicted=made.mean(axis=0)), apart


def _units(held: HeldOut, regime: str, new_context: bool) -> tuple[str, list[str]]:
    """What is exchangeable with what is predicted, contexts where the context is new, else targets; that of each row."""
    if regime in ("C", "J") and new_context and len(set(held.contexts)) > 1:
        return "context", held.contexts
    return "target", [any_order(p) for p in held.perturbations]


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
        logger.info("intervals of regime %s: %s%s%s", regime, told["by"], rows, borrowed)
        if told.get("units", ENOUGH_UNITS) < 10:
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
