"""Training rows on whose inner folds tables of features are scored: effects of cells, or calls."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stateshift.cells import EffectTable, estimate_effects, read_all
from stateshift.effects.calls.read import read_calls, training_rows
from stateshift.effects.calls.residuals import GeneMeans
from stateshift.effects.calls.score import Pairs, resampled
from stateshift.effects.calls.stack import MEMBERS
from stateshift.effects.from_features.feature_space import gene_folds
from stateshift.effects.models import effect_model
from stateshift.errors import StateshiftError, some, suggestion
from stateshift.feature_table import FeatureTable
from stateshift.genes import GeneNames
from stateshift.metrics import paired_bootstrap, pearson_delta

logger = logging.getLogger(__name__)

DRAWS = 200
"""Resamples of the targets of a table of calls: each walks through all of its pairs."""


class Trial(Protocol):
    """Something that a table is scored on."""

    metric: str
    train: EffectTable

    def score(self, features: FeatureTable | None) -> Any:
        """Scores of the held-out rows; without features those of the main effects."""
        ...

    def mean(self, scores: Any) -> float:
        """One number."""
        ...

    def difference(self, a: Any, others: Sequence[Any]) -> tuple[float, float, float]:
        """Of a and the mean of others, with its interval over targets."""
        ...


@dataclass
class OnEffects:
    """Pseudobulk effects: a Pearson delta a row."""

    train: EffectTable
    model: str
    metric: str = "Pearson delta"

    @classmethod
    def of(cls, experiment: Path, features: FeatureTable, model: str) -> OnEffects:
        effect_model(model)
        _, cells, split = read_all(experiment)
        train = estimate_effects(cells.every_gene or cells, split == "train")
        return cls(with_features(train, features), model)

    def score(self, features: FeatureTable | None) -> np.ndarray:
        name = self.model if features is not None else "additive"
        predicted = np.zeros_like(self.train.effects)
        for inner, outer, rows in _folds(self.train):
            fitted = effect_model(name)(inner, features, 0)
            predicted[rows] = fitted.predict(outer.perturbations, outer.contexts)
        return np.nan_to_num(pearson_delta(predicted, self.train.effects))

    def mean(self, scores: np.ndarray) -> float:
        return float(scores.mean())

    def difference(self, a: np.ndarray, others: Sequence[np.ndarray]) -> tuple[float, float, float]:
        found = paired_bootstrap(a, np.mean(others, axis=0), self.train.perturbations)
        return found.mean, found.low, found.high


@dataclass(frozen=True)
class CallScores:
    """The mean score of held-out pairs, and the means over `DRAWS` resamples of the targets, the same for all tables."""

    mean: float
    drawn: np.ndarray


@dataclass
class OnCalls:
    """A table of calls or values: scores averaged over genes or perturbations."""

    train: EffectTable
    model: str
    responses: FeatureTable | None
    labels: bool

    @classmethod
    def of(
        cls, calls: Path, features: FeatureTable, model: str, responses: FeatureTable | None, names: GeneNames
    ) -> OnCalls:
        if model not in MEMBERS:
            raise StateshiftError(f"`{model}` is no model of tables of effects{suggestion(model, MEMBERS)}.")
        read = read_calls(calls)
        train, _ = training_rows(read, "T", names)
        train = with_features(train, features)
        return cls(train.columns(train.measured.any(axis=0)), model, responses, read.labels)

    @property
    def metric(self) -> str:
        return "AUC per gene" if self.labels else "Pearson per perturbation"

    def score(self, features: FeatureTable | None) -> CallScores:
        predicted = np.full(self.train.effects.shape, np.nan, dtype=np.float32)
        for inner, outer, rows in _folds(self.train):
            seen = inner.measured.any(axis=0)
            inner = inner.columns(seen)
            scores = np.zeros((len(outer), seen.sum()), dtype=np.float32)
            if features is not None:
                scores += MEMBERS[self.model](inner, features, self.responses).scores(
                    outer.perturbations, outer.contexts
                )
            if not self.labels:
                # within a gene the means of different folds are no signal: they fall where a fold holds high rows
                scores += GeneMeans.of(inner)(outer.contexts)
            predicted[np.ix_(rows, seen)] = scores
        row, gene = (self.train.measured & np.isfinite(predicted)).nonzero()
        target = np.unique(np.array(self.train.perturbations, dtype=str), return_inverse=True)[1]
        context = np.unique(np.array(self.train.contexts, dtype=str), return_inverse=True)[1]
        unit, each = target, np.arange(target.max() + 1)
        if not self.labels:
            unit, each = context * len(each) + target, np.tile(each, context.max() + 1)
        of_gene = context[row] * len(self.train.genes) + gene
        pairs = Pairs(predicted[row, gene], self.train.effects[row, gene], unit[row], of_gene, self.labels)
        return CallScores(pairs.mean(), resampled(pairs, pairs, draws=DRAWS, target=each)[0])

    def mean(self, scores: CallScores) -> float:
        return scores.mean

    def difference(self, a: CallScores, others: Sequence[CallScores]) -> tuple[float, float, float]:
        low, high = np.nanpercentile(a.drawn - np.mean([b.drawn for b in others], axis=0), [2.5, 97.5])
        return a.mean - float(np.mean([b.mean for b in others])), float(low), float(high)


def with_features(train: EffectTable, features: FeatureTable) -> EffectTable:
    """The rows whose targets have features in any source; the others are named."""
    keep = np.array([not features.missing([p]) for p in train.perturbations], dtype=bool)
    if not keep.all():
        names = sorted({p for p, k in zip(train.perturbations, keep) if not k})
        logger.warning(
            "%d training perturbations have no features in any source and are left out: %s.", len(names), some(names)
        )
    if len({p for p, k in zip(train.perturbations, keep) if k}) < 2:
        raise StateshiftError(
            f"{int(keep.sum())} of {len(keep)} training rows have features: two targets or more are needed to hold one out."
        )
    return train.rows(keep)


def _folds(train: EffectTable) -> Iterator[tuple[EffectTable, EffectTable, np.ndarray]]:
    """Rows to fit on, rows to predict, and where these lie; a target is held out in all of its contexts."""
    for fit, held in gene_folds(train.perturbations):
        inner, outer = (train.rows(np.isin(np.arange(len(train)), rows)) for rows in (fit, held))
        yield inner, outer, np.sort(held)
