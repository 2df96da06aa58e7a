"""Members fitted on training effects, and the weights by which held-out rows put them together in each regime."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.cells.regimes import regimes_of
from stateshift.effects.doubles import Doubles, fit_doubles
from stateshift.effects.main_effects import MainEffects, fit_main_effects
from stateshift.effects.own_target import OwnTarget, fit_own_target, set_apart
from stateshift.effects.stack.folds import Fold, regime_folds
from stateshift.effects.stack.members import Member, members_of
from stateshift.effects.stack.row_space import RowSpace
from stateshift.effects.stack.weights import Products, member_weights
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.progress import track

logger = logging.getLogger(__name__)

MAIN = "main"
"""The name of the main effect's weight."""
FROM_OTHER_CONTEXTS = ("additive", "mapped", "transfer")


@dataclass
class HeldOut:
    """Training rows as predicted by models that had not seen them, in the manner of one regime.

    Parameters
    ----------
    perturbations, contexts
        N names each.
    true, predicted
        Effects (N, G) float32, as measured and as the stack had them; NaN where a row was not measured, or none of those
        that it was predicted from.
    """

    perturbations: list[str]
    contexts: list[str]
    true: np.ndarray
    predicted: np.ndarray


@dataclass
class Stack:
    """Weighted members: main effect of the context, and each member's deviation from it.

    Parameters
    ----------
    weights
        Regime (``C``, ``T``, ``J``) → member → weight, none below zero; ``main`` is the main effect itself.
    held_out
        Regime → the training rows as that regime would have had them. A regime that they can't imitate is absent.
    train
        The training rows; ``shrunk``, where known, is what a measured pair gets.
    space
        Coordinates that the members are fitted in, each row's own target set apart.
    main
        Main effects in these coordinates.
    members, models
        Name → member, and as fitted on all rows.
    own
        What is put into the own target's column.
    doubles
        Predicts doubles that no training row has, from what the stack says of their targets.
    """

    weights: dict[str, dict[str, float]]
    held_out: dict[str, HeldOut]
    train: EffectTable
    space: RowSpace
    main: MainEffects
    members: dict[str, Member]
    models: dict[str, Any]
    own: OwnTarget
    doubles: Doubles = field(init=False)
    _row: dict[tuple[frozenset[str], str], int] = field(init=False)

    def __post_init__(self) -> None:
        pairs = zip(self.train.perturbations, self.train.contexts)
        self._row = {(frozenset(genes_of(p)), c): i for i, (p, c) in enumerate(pairs)}

    def regimes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """The regime of each pair by the training rows."""
        return regimes_of(perturbations, contexts, zip(self.train.perturbations, self.train.contexts))

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G) float32.

        A pair that was measured has what was measured, shrunk where errors are known; a double that never was has
        the sum of its targets and what trained doubles do beyond it (`Doubles`).
        """
        if not len(perturbations):
            return np.zeros((0, len(self.train.genes)), dtype=np.float32)
        untrained = self._untrained_doubles(perturbations)
        if untrained.any():
            effects = np.empty((len(perturbations), len(self.train.genes)), dtype=np.float32)
            for rows, predict in ((untrained, self.doubles.predict), (~untrained, self.predict)):
                at = np.flatnonzero(rows)
                if len(at):
                    effects[at] = predict([perturbations[i] for i in at], [contexts[i] for i in at])
            return effects
        regimes = np.array(self.regimes(perturbations, contexts))
        regimes[regimes == "measured"] = "C"
        main = self.main.of_contexts(contexts)
        total = np.stack([self.weights[regime][MAIN] for regime in regimes])[:, None] * main
        for name, member in self.members.items():
            weight = np.array([self.weights[regime].get(name, 0.0) for regime in regimes])
            at = np.flatnonzero(weight)
            if len(at):
                asked = [perturbations[i] for i in at], [contexts[i] for i in at]
                total[at] += weight[at, None] * member.deviations(self.models[name], main[at], *asked)
        effects = self.space.genes(total)
        self.own.put(effects, perturbations, contexts)
        self._put_measured(effects, perturbations, contexts)
        return effects

    def _untrained_doubles(self, perturbations: Sequence[str]) -> np.ndarray:
        """Mask (R,) of perturbations of several genes that no training row has in any order."""
        trained = {targets for targets, _ in self._row}
        sets = [frozenset(genes_of(p)) for p in perturbations]
        return np.array([len(genes) > 1 and genes not in trained for genes in sets], dtype=bool)

    def _put_measured(self, effects: np.ndarray, perturbations: Sequence[str], contexts: Sequence[str]) -> None:
        shrunk = self.train.effects if self.train.shrunk is None else self.train.shrunk
        for i, (perturbation, context) in enumerate(zip(perturbations, contexts)):
            row = self._row.get((frozenset(genes_of(perturbation)), context))
            if row is not None:
                for known in (self.train.effects[row], shrunk[row]):  # what has no error isn't shrunk
                    effects[i] = np.where(np.isnan(known), effects[i], known)

    def routes(self, perturbations: Sequence[str], contexts: Sequence[str]) -> list[str]:
        """``measured``; ``transfer`` where other contexts told; ``features`` where features did; else ``fallback``.

        A double that no training row has is reached as the least known of its targets, and never measured.
        """
        known = ("fallback", "features", "transfer", "measured")
        untrained = self._untrained_doubles(perturbations)
        parts = [genes_of(p) if double else [p] for p, double in zip(perturbations, untrained)]
        asked = list(dict.fromkeys((p, c) for of, c in zip(parts, contexts, strict=True) for p in of))
        regimes = self.regimes([p for p, _ in asked], [c for _, c in asked])
        route = {pair: self._route(pair[0], regime) for pair, regime in zip(asked, regimes)}
        routes = [min((route[p, c] for p in of), key=known.index) for of, c in zip(parts, contexts)]
        return ["transfer" if double and r == "measured" else r for r, double in zip(routes, untrained)]

    def _route(self, perturbation: str, regime: str) -> str:
        if regime == "measured":
            return "measured"
        used = {name for name, weight in self.weights[regime].items() if weight > 0} - {MAIN}
        if regime == "C" and used & set(FROM_OTHER_CONTEXTS):
            return "transfer"
        tables = [self.members[name].features for name in used]
        told = any(table is not None and not table.missing([perturbation]) for table in tables)
        return "features" if told else "fallback"


def fit_stack(train: EffectTable, features: FeatureTable | None, seed: int = 0) -> Stack:
    """Fit every member, and the weights that put them together, regime by regime, on rows held out in its manner.

    In each regime (`regimes_of`) the prediction is Σ w(m) · (member m − main effect of the context) + w · main
    effect, with weights that are the non-negative least squares of the held-out effects (stacking, Breiman, Machine
    Learning 24, 49, 1996): the amplitude too is what held-out rows ask for. What a member chooses for itself, by
    inner folds that leave genes out, it chooses once on all rows. Each perturbation's own gene is set apart
    (`set_apart`, `OwnTarget`). A regime that the rows can't imitate borrows: see `weights`.

    Parameters
    ----------
    train
        Training rows alone.
    features
        Vectors of the training perturbations' genes. Of a fusion, members stand for the whole and for each part.
        Without any, members are those that need none.
    seed
        Draws the folds.

    Raises
    ------
    StateshiftError
        There is no row, or a training perturbation has no features.
    """
    space, members = RowSpace.of(set_apart(train)), members_of(features, train.control_means)
    main, models = fit_main_effects(space.table), {}
    for name, member in track(list(members.items()), "fitting the stack's members"):
        models[name] = member.fit(space.table, main, seed)
        member.settle(models[name])
    weights, held_out = {}, {}
    for regime, folds in regime_folds(train, seed).items():
        weights[regime], held_out[regime] = _weigh(train, space, members, folds, seed, regime)
    weights = _borrowed(weights, list(members))
    for regime, of in weights.items():
        told = ", ".join(f"{'main effects' if name == MAIN else name} {w:.2f}" for name, w in of.items() if w > 0)
        logger.info("the stack's weights in regime %s: %s.", regime, told)
    stack = Stack(weights, held_out, train, space, main, members, models, fit_own_target(train))
    stack.doubles = fit_doubles(train, features, stack, seed)
    return stack


def _weigh(
    train: EffectTable, space: RowSpace, members: dict[str, Member], folds: list[Fold], seed: int, regime: str
) -> tuple[dict[str, float], HeldOut]:
    """Weights by the folds' held-out rows, and these rows as so predicted."""
    products, kept = [], []
    for fit, held in track(folds, f"inner folds of regime {regime}"):
        inner = _rows(space.table, fit)
        seen = inner.measured.any(axis=0)
        inner = inner.columns(seen)
        pairs = [train.perturbations[i] for i in held], [train.contexts[i] for i in held]
        fitted = fit_main_effects(inner)
        main = fitted.of_contexts(pairs[1])
        inputs = [main, *(m.deviations(m.fit(inner, fitted, seed), main, *pairs) for m in members.values())]
        inputs = [_wide(x, seen) for x in inputs]
        products.append(Products.of(inputs, space.table.effects[held]))
        kept.append((fit, held, inputs))
    weights = member_weights(products)
    if not weights.any():
        logger.info("nothing foretells the held-out rows of regime %s: it is left to the main effect.", regime)
        weights[0] = 1.0
    predicted = np.zeros((sum(len(held) for _, held, _ in kept), len(train.genes)), dtype=np.float32)
    at = 0
    for fit, held, inputs in kept:
        here = predicted[at : at + len(held)]
        here[:] = space.genes(sum(w * x for w, x in zip(weights, inputs)))
        own = fit_own_target(_rows(train, fit))
        own.put(here, [train.perturbations[i] for i in held], [train.contexts[i] for i in held])
        at += len(held)
    rows = np.concatenate([held for _, held, _ in kept])
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    names = [train.perturbations[i] for i in rows], [train.contexts[i] for i in rows]
    held_out = HeldOut(*names, train.effects[rows], predicted[order])
    return dict(zip([MAIN, *members], weights.tolist())), held_out


def _borrowed(weights: dict[str, dict[str, float]], names: list[str]) -> dict[str, dict[str, float]]:
    """Weights of every regime, those that were not imitated from what is nearest.

    A known target in a new context has what other contexts showed, whole; two new things have the weights of one;
    and a new target without any other to learn from has the main effect.
    """
    nothing = {MAIN: 1.0, **dict.fromkeys(names, 0.0)}
    borrowed = {"C": {**nothing, "transfer": 1.0}, "T": nothing, "J": weights.get("T", nothing)}
    for regime in sorted(borrowed.keys() - weights.keys()):
        told = (regime, {"C": "main effects and transfer", "T": "main effects", "J": "regime T's"}[regime])
        logger.info("the training rows can't imitate regime %s, whose weights are not fitted: %s.", *told)
    return {regime: weights.get(regime, borrowed[regime]) for regime in borrowed}


def _rows(table: EffectTable, rows: np.ndarray) -> EffectTable:
    return table.rows(np.isin(np.arange(len(table)), rows))


def _wide(predicted: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Predictions of the genes that a fold measures as those of all: NaN elsewhere."""
    if seen.all():
        return predicted.astype(np.float32)
    wide = np.full((len(predicted), len(seen)), np.nan, dtype=np.float32)
    wide[:, seen] = predicted
    return wide
