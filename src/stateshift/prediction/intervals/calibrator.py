"""What each regime's intervals are calibrated on: held-out training rows, or what the network made of validation pairs.

Shapes: N held-out rows, G genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stateshift.cells import EffectTable
from stateshift.cells.regimes import regimes_of
from stateshift.effects import EffectModel, HeldOut
from stateshift.effects.conformal import (
    LEVEL,
    Calibration,
    calibrate,
    coverage_level,
    hold_out,
    load_held_out,
    nearest_trained,
)
from stateshift.feature_table import FeatureTable
from stateshift.genes.doubles import any_order
from stateshift.prediction.anchored import Backbone
from stateshift.run import RunDirectory

STANDS_IN = {"measured": ("C", "T"), "C": ("C", "T"), "T": ("T",), "J": ("J", "T", "C")}
"""Regime → regimes whose held-out rows calibrate it, the first that the training rows can imitate."""
ENOUGH_UNITS = 20
"""Validation targets that calibrate a network; with fewer, the effects it starts from do."""


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
        rows of `model`, widened by as much as the validation pairs there are were missed by more.
        """
        key = (f"network on {model}" if network else model, regime, new_context)
        if key not in self._made:
            found = self._by_validation(regime, new_context) if network else None
            found = found or self._by_training_rows(model, regime, new_context)
            self._made[key] = self._widened(found, model, regime) if network and found else found
        return self._made[key]

    def _by_training_rows(
        self, model: str, regime: str, new_context: bool
    ) -> tuple[Calibration, dict[str, Any]] | None:
        for imitated in STANDS_IN[regime]:
            held = hold_out(model, self.models[model], self.train, self.features, imitated, self.seed, new_context)
            if held is None:
                continue
            # a known target lies at 0 from itself, which says nothing of rows whose target was held out
            of_new = model != "mean" and imitated != "C" and regime not in ("measured", "C")
            pairs = {"nearest": self._nearest(held.perturbations)} if of_new else {}
            unit, units = _units(held, imitated, new_context)
            found = calibrate(held.true - held.predicted, units, pairs, seed=self.seed)
            if np.isfinite(found.largest):
                enough = np.isfinite(found.quantile)
                found = found if enough else replace(found, quantile=found.largest)
                told = self._told(found, f"held-out training rows of {model}", imitated, unit)
                return found, told if enough else {**told, "largest": True}
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

    def _widened(
        self, found: tuple[Calibration, dict[str, Any]], model: str, regime: str
    ) -> tuple[Calibration, dict[str, Any]]:
        """A model's calibration for a network that errs more than it: validation pairs of the regime say so, or of any."""
        calibration, told = found
        if self.validation is None or told["by"] == "validation pairs":
            return found
        held, trained = self.validation, zip(self.train.perturbations, self.train.contexts)
        regimes = np.array(regimes_of(held.perturbations, held.contexts, trained))
        of = regimes == regime if (regimes == regime).any() else regimes != "measured"
        new = np.array([c not in set(self.train.contexts) for c in held.contexts])
        values = {"nearest": self._nearest(held.perturbations)}
        scores = np.full(held.true.shape, np.nan, np.float32)
        for r, is_new in sorted(set(zip(regimes[of].tolist(), new[of].tolist()))):
            base, rows = self(model, r, is_new), np.flatnonzero(of & (regimes == r) & (new == is_new))
            if base is not None:
                half = base[0].half_widths({name: v[rows] for name, v in values.items()}, len(rows))
                scores[rows] = np.abs(held.true[rows] - held.predicted[rows]) / half
        kept = ~np.isnan(scores).all(axis=1)
        if not kept.any():
            return found
        names = [any_order(p) for p, keep in zip(held.perturbations, kept) if keep]
        at = coverage_level(scores[kept], np.unique(names, return_inverse=True)[1], seed=self.seed)
        factor = max(1.0, float(np.nanquantile(scores[kept], LEVEL if at is None else at)))
        told = {
            **told,
            "quantile": calibration.quantile * factor,
            "widened": factor,
            "validation_pairs": int(kept.sum()),
        }
        return replace(calibration, quantile=calibration.quantile * factor), told

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


def stored_validation(
    members: Sequence[RunDirectory], genes: Sequence[str], backbones: Sequence[Backbone | None] = ()
) -> tuple[HeldOut | None, np.ndarray | None]:
    """Validation pairs as the runs predict them, averaged, and how far members lie apart, (N,).

    That is by their networks, and by a backbone where one of `backbones`, each a run's, stands alone. None where a
    run recorded none, or for other genes than are predicted; no distance of a single run.
    """
    found = [load_held_out(run.validation_file) for run in members if run.validation_file.is_file()]
    names = [(held.perturbations, held.contexts, of) for held, of in found]
    if len(found) < len(members) or any(name != names[0] for name in names) or names[0][2] != list(genes):
        return None, None
    backbones = backbones or [None] * len(members)
    made = np.stack([h.predicted if b is None else b.of_validation(h) for (h, _), b in zip(found, backbones)])
    apart = made.std(axis=0, ddof=1).mean(axis=1) if len(members) > 1 else None
    return replace(found[0][0], predicted=made.mean(axis=0)), apart


def _units(held: HeldOut, regime: str, new_context: bool) -> tuple[str, list[str]]:
    """What is exchangeable with what is predicted, contexts where the context is new, else targets; that of each row."""
    if regime in ("C", "J") and new_context and len(set(held.contexts)) > 1:
        return "context", held.contexts
    return "target", [any_order(p) for p in held.perturbations]
