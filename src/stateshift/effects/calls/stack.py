"""Members fitted on training effects, and the weights by which inner folds put them together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.calls.members.bilinear import fit_bilinear
from stateshift.effects.calls.members.forest import fit_forest
from stateshift.effects.calls.members.smoother import fit_smoother, fit_strength
from stateshift.effects.calls.members.within_gene import ranking_weights
from stateshift.effects.calls.residuals import GeneMeans
from stateshift.effects.from_features.feature_space import INNER_FOLDS, gene_folds
from stateshift.effects.from_features.knn import fit_knn
from stateshift.effects.from_features.ridge import fit_ridge
from stateshift.effects.models import EFFECT_MODELS, EffectModel
from stateshift.errors import StateshiftError, some, suggestion
from stateshift.feature_table import FeatureTable
from stateshift.progress import track

logger = logging.getLogger(__name__)


class Member(Protocol):
    """What a fitted member can do."""

    def scores(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Deviations from the gene means, (Q, G) float32."""
        ...


@dataclass
class OfEffectModel:
    """One of `EFFECT_MODELS` as a member.

    Parameters
    ----------
    model
        As fitted.
    means
        Gene means of the same rows.
    features
        Where a perturbation without features has no prediction; None where none are needed.
    seen
        Mask (G,) of the genes that these rows measure, which alone are predicted.
    """

    model: EffectModel
    means: GeneMeans
    features: FeatureTable | None
    seen: np.ndarray

    @classmethod
    def of(cls, fit: Callable[..., EffectModel], train: EffectTable, features: FeatureTable | None) -> OfEffectModel:
        """Fitted on the genes that any of the rows measures."""
        seen = train.measured.any(axis=0)
        train = train.columns(seen)
        return cls(fit(train), GeneMeans.of(train), features, seen)

    def scores(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Its predictions less the gene means; zero for a perturbation without features, or a gene not seen."""
        scores = np.zeros((len(perturbations), len(self.seen)), dtype=np.float32)
        can = [i for i, p in enumerate(perturbations) if self.features is None or not self.features.missing([p])]
        names, places = [perturbations[i] for i in can], [contexts[i] for i in can]
        if can:
            scores[np.ix_(can, np.flatnonzero(self.seen))] = self.model.predict(names, places) - self.means(places)
        return scores


Fit = Callable[[EffectTable, FeatureTable, FeatureTable | None], Member]
FITS = {"knn": (fit_knn, "k"), "ridge": (fit_ridge, "alpha")}
"""Effect models that need features, and what their inner folds choose."""


def _effect_model(name: str) -> Fit:
    def fit(train: EffectTable, features: FeatureTable, response_features: FeatureTable | None) -> Member:
        return OfEffectModel.of(lambda rows: EFFECT_MODELS[name](rows, None, 0), train, None)

    return fit


def _feature_model(name: str) -> Fit:
    fit_model, _ = FITS[name]

    def fit(
        train: EffectTable, features: FeatureTable, response_features: FeatureTable | None, **chosen: float
    ) -> Member:
        known = train.rows(np.array([not features.missing([p]) for p in train.perturbations]))
        return OfEffectModel.of(lambda rows: fit_model(rows, features, **chosen), known, features)

    return fit


MEMBERS: dict[str, Fit] = {
    **{name: _effect_model(name) for name in ("mean", "context_mean", "additive")},
    **{name: _feature_model(name) for name in FITS},
    "strength": fit_strength,
    "neighbours": lambda train, features, _: fit_smoother(train, features, None),
    "smoother": fit_smoother,
    "bilinear": fit_bilinear,
    "forest": fit_forest,
    "transfer": lambda train, features, responses: fit_smoother(train, features, responses, across=True),
}
"""Models by name. `neighbours` is the smoother over the response gene alone; `transfer` uses other contexts."""
ACROSS = ("transfer",)
FEWEST_PAIRS = 1000
"""Held-out pairs of a context from which on it has weights of its own."""
MOST_PAIRS = 2_000_000
"""Held-out pairs that the weights are fitted on, drawn evenly where there are more."""
STACK_OF_WHOLE = ("knn", "ridge", "strength")
STACK_OF_PARTLY = ("strength", "neighbours", "smoother", "bilinear", *ACROSS)


@dataclass
class Stack:
    """Members and their weights.

    With member scores s, their scales d, weights w and the gene mean m, a value is m + Σ w s / d; a label's
    probability is σ(b + v logit m + Σ w s / d) (stacked generalisation, Wolpert, Neural Netw. 5, 241, 1992).

    Parameters
    ----------
    members
        Name → fitted member.
    means
        Gene means of the training rows.
    weighing
        Context → ``scales`` d and ``weights`` w, one a member, and ``intercept`` b and ``of_mean`` v, None where
        values are predicted; under "" those of all contexts together, for a context that has too few pairs of its own.
    """

    members: dict[str, Member]
    means: GeneMeans
    weighing: dict[str, dict]

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Values, or probabilities of the label 1, (Q, G) float32."""
        scores = [member.scores(perturbations, contexts) for member in self.members.values()]
        mean = self.means(contexts)
        values = np.empty_like(mean)
        of_row = np.array([c if c in self.weighing else "" for c in contexts])
        for context in np.unique(of_row):
            here, how = of_row == context, self.weighing[context]
            total = sum(w / d * s[here] for w, d, s in zip(how["weights"], how["scales"], scores))
            if how["intercept"] is None:
                values[here] = mean[here] + total
            else:
                values[here] = 1 / (1 + np.exp(-(how["intercept"] + how["of_mean"] * _logit(mean[here]) + total)))
        return values


def fit_stack(
    train: EffectTable,
    features: FeatureTable,
    response_features: FeatureTable | None,
    names: Sequence[str],
    labels: bool,
    regime: str,
    weighing: dict[str, dict] | None = None,
) -> Stack:
    """Fit members on all training rows, and their weights on what inner folds predict of the rows held out.

    Parameters
    ----------
    train
        Training rows alone.
    features, response_features
        Of perturbations and of response genes.
    names
        Members, of `MEMBERS`.
    labels
        Whether values are 0/1: the weights are then those that rank perturbations within a gene (`ranking_weights`),
        else those of least squares, none below zero.
    regime
        ``T``: inner folds hold genes out, in every context. ``C``: rows, so that the same target stays in others.
    weighing
        That of an earlier fit on the same rows; nothing is held out then.

    Raises
    ------
    StateshiftError
        A name is unknown, or there are too few perturbations to hold any out.
    """
    unknown = [name for name in names if name not in MEMBERS]
    if unknown:
        raise StateshiftError(f"`{unknown[0]}` is no model of tables of effects{suggestion(unknown[0], MEMBERS)}.")
    members = {
        name: MEMBERS[name](train, features, response_features) for name in track(names, "fitting on all training rows")
    }
    if weighing is None:
        weighing = _weigh(train, features, response_features, members, labels, regime)
    return Stack(members, GeneMeans.of(train), weighing)


def _weigh(
    train: EffectTable,
    features: FeatureTable,
    response_features: FeatureTable | None,
    members: dict[str, Member],
    labels: bool,
    regime: str,
) -> dict[str, dict]:
    """Scales and weights by the rows that inner folds hold out, of each context and of all.

    What a member chose for itself on all rows, one number, stands in the folds too.
    """
    names, places = list(members), sorted(set(train.contexts))
    chosen = {n: {key: getattr(members[n].model, key)} for n, (_, key) in FITS.items() if n in members}
    folds = gene_folds(train.perturbations) if regime == "T" else _row_folds(len(train))
    if not folds:
        raise StateshiftError("One perturbed gene alone leaves nothing to hold out: two or more are needed.")
    scores, values, means, contexts, groups = [], [], [], [], []
    for number, (fit, held) in enumerate(track(folds, f"inner folds of {some(names)}")):
        inner = train.rows(_mask(fit, len(train)))
        outer = train.rows(_mask(held, len(train)))
        measured = outer.measured
        seen = inner.measured.any(axis=0)
        inner = inner.columns(seen)
        measured = measured & seen
        columns = np.cumsum(seen) - 1
        row, gene = measured.nonzero()
        if len(row) > MOST_PAIRS // len(folds):
            drawn = np.random.default_rng(0).choice(len(row), MOST_PAIRS // len(folds), replace=False)
            row, gene = row[drawn], gene[drawn]
        predicted = [
            MEMBERS[name](inner, features, response_features, **chosen.get(name, {})).scores(
                outer.perturbations, outer.contexts
            )
            for name in names
        ]
        scores.append(np.stack([p[row, columns[gene]] for p in predicted], axis=1))
        values.append(outer.effects[row, gene])
        means.append(GeneMeans.of(inner)(outer.contexts)[row, columns[gene]])
        contexts.append(np.array(outer.contexts)[row])
        of_context = np.searchsorted(places, contexts[-1])
        groups.append((number * len(places) + of_context) * len(train.genes) + gene)
    X, y, mean, context, group = map(np.concatenate, (scores, values, means, contexts, groups))
    if len(np.unique(y)) <= labels:
        told = f"are all labelled {y[0]:g}, and both labels are needed" if len(y) else "are none"
        raise StateshiftError(
            f"The training pairs that inner folds can predict, of genes that several targets are measured on, {told}."
        )
    weighing = {"": _weights(X, y, mean, labels, group)}
    for name in np.unique(context):
        here = context == name
        if here.sum() >= FEWEST_PAIRS and (not labels or 0 < y[here].mean() < 1):
            weighing[str(name)] = _weights(X[here], y[here], mean[here], labels, group[here])
    for name, how in weighing.items():
        told = ", ".join(f"{member} {w:.2f}" for member, w in zip(names, how["weights"]))
        logger.info("weights in %s: %s.", name or "all contexts", told)
    return weighing


def _weights(X: np.ndarray, y: np.ndarray, mean: np.ndarray, labels: bool, group: np.ndarray) -> dict:
    """Scales and weights of member scores (N, M) for truths y with gene means, both (N,).

    Labels: what ranks perturbations within a gene (``group``), then made a probability together with the gene mean.
    """
    scales = np.maximum(X.std(axis=0), 1e-9)
    X = X / scales
    if labels:
        from sklearn.linear_model import LogisticRegression

        ranking = ranking_weights(X, y, group)
        fitted = LogisticRegression(max_iter=1000).fit(np.column_stack([X @ ranking, _logit(mean)]), y.astype(int))
        size, of_mean = fitted.coef_[0].tolist()
        weights = (size * ranking).tolist()
        intercept = float(fitted.intercept_[0])
    else:
        from scipy.optimize import nnls

        weights = nnls(X, y - mean)[0].tolist()
        of_mean = intercept = None
    return {"scales": scales.tolist(), "weights": weights, "intercept": intercept, "of_mean": of_mean}


def _row_folds(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows to predict, each row held out once."""
    parts = np.array_split(np.random.default_rng(0).permutation(n), min(INNER_FOLDS, n))
    return [(np.setdiff1d(np.arange(n), part), np.sort(part)) for part in parts if len(part) < n]


def _mask(rows: np.ndarray, n: int) -> np.ndarray:
    return np.isin(np.arange(n), rows)


def _logit(mean: np.ndarray) -> np.ndarray:
    mean = np.clip(mean, 1e-3, 1 - 1e-3)
    return np.log(mean / (1 - mean))
