"""Doubles: the sum of what their targets do alone, and what they do beyond it.

Shapes: D doubles, G genes, F features; a double may name more than two genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from stateshift.cells.pseudobulk import EffectTable
from stateshift.effects.from_features.feature_space import INNER_FOLDS, FeatureSpace, first_least
from stateshift.feature_table import FeatureTable, genes_of
from stateshift.genes.doubles import any_order

if TYPE_CHECKING:
    from stateshift.effects.models import EffectModel

ALPHAS = tuple(float(a) for a in np.logspace(3, -2, 11))
"""Penalties of the part that features tell, strongest first."""


@dataclass
class Interaction:
    """What a double does beyond the sum of its targets, as trained doubles show it.

    Parameters
    ----------
    slopes
        (2,): of the sum itself (below 0: it buffers), and of what both targets do in the same direction, of which the
        smaller counts.
    space
        Standardises features; None where features tell nothing.
    pairs
        The targets of each trained double.
    dual
        (D, G): the kernel's coefficients.
    """

    slopes: np.ndarray
    space: FeatureSpace | None
    pairs: list[list[str]]
    dual: np.ndarray

    def __call__(self, perturbations: Sequence[str], singles: list[np.ndarray]) -> np.ndarray:
        """Interactions (R, G) of doubles, from the effects (genes of the double, G) of each one's targets."""
        found = np.stack([np.tensordot(self.slopes, terms(of), 1) for of in singles])
        if self.space is not None:
            found += pair_kernel(self.space, [genes_of(p) for p in perturbations], self.pairs) @ self.dual
        return found


@dataclass
class Doubles:
    """Effects of several targets at once, from an effect model of single ones.

    Parameters
    ----------
    single
        Predicts single targets; where it measured one it should say so.
    interaction
        None where no trained doubles tell of any.
    """

    single: EffectModel
    interaction: Interaction | None

    def predict(self, perturbations: Sequence[str], contexts: Sequence[str]) -> np.ndarray:
        """Effects (R, G) of perturbations that name two genes or more."""
        singles = effects_of_singles(self.single, perturbations, contexts)
        total = np.stack([of.sum(axis=0) for of in singles])
        return (
            total if self.interaction is None else total + self.interaction(perturbations, singles).astype(np.float32)
        )


def fit_doubles(train: EffectTable, features: FeatureTable | None, single: EffectModel, seed: int = 0) -> Doubles:
    """Learn from the training rows that name several genes what they do beyond the sum of their targets.

    The effect of a double is the sum of its targets' effects, a slope on that sum, a slope on the smaller of the two where
    both go the same way, and a kernel ridge of the rest: doubles are alike where their targets are, one by one and as
    pairs. Whether there is any of this, and the kernel's penalty, is what predicts best the doubles that inner folds
    hold out, in every order of their genes; with less than two trained doubles, or where nothing helps, the sum alone is left.

    Parameters
    ----------
    train
        Effects of the training rows; rows of several genes are learned from.
    features
        Vectors of the targets; None leaves the kernel out.
    single
        Fitted on the same rows.
    seed
        Draws the inner folds.
    """
    rows = [i for i, p in enumerate(train.perturbations) if len(genes_of(p)) > 1]
    names = [train.perturbations[i] for i in rows]
    in_one_order = [any_order(name) for name in names]
    distinct = sorted(set(in_one_order))
    if len(distinct) < 2:
        return Doubles(single, None)
    singles = effects_of_singles(single, names, [train.contexts[i] for i in rows])
    rest = train.effects[rows].astype(np.float64) - np.stack([of.sum(axis=0) for of in singles])
    rest, known = np.nan_to_num(rest), ~np.isnan(train.effects[rows])
    explained = np.stack([terms(of) for of in singles]) * known[:, None]
    pairs = [genes_of(p) for p in names]
    space, K = None, None
    if features is not None:
        space = FeatureSpace.of(features, sorted({g for pair in pairs for g in pair}), "doubles")
        K = pair_kernel(space, pairs, pairs)

    order = np.random.default_rng(seed).permutation(len(distinct))
    part_of = dict(zip((distinct[i] for i in order), np.arange(len(order)) % INNER_FOLDS))
    part = np.array([part_of[name] for name in in_one_order])
    ways = [
        (with_slopes, alpha) for with_slopes in (False, True) for alpha in (None, *(ALPHAS if K is not None else ()))
    ]
    errors = np.zeros(len(ways))
    for fold in np.unique(part):
        fit, held = part != fold, part == fold
        for i, (with_slopes, alpha) in enumerate(ways):
            slopes = fitted_slopes(explained[fit], rest[fit]) if with_slopes else np.zeros(2)
            left = rest - np.tensordot(explained, slopes, (1, 0))
            if alpha is not None:
                dual = np.linalg.solve(K[np.ix_(fit, fit)] + alpha * np.eye(fit.sum()), left[fit])
                left = left - np.where(known, K[:, fit] @ dual, 0)
            errors[i] += (left[held] ** 2).sum()
    with_slopes, alpha = ways[first_least(errors)]
    if not with_slopes and alpha is None:
        return Doubles(single, None)
    slopes = fitted_slopes(explained, rest) if with_slopes else np.zeros(2)
    if alpha is None:
        return Doubles(single, Interaction(slopes, None, pairs, np.zeros((len(rows), rest.shape[1]))))
    left = rest - np.tensordot(explained, slopes, (1, 0))
    return Doubles(single, Interaction(slopes, space, pairs, np.linalg.solve(K + alpha * np.eye(len(rows)), left)))


def effects_of_singles(single: EffectModel, perturbations: Sequence[str], contexts: Sequence[str]) -> list[np.ndarray]:
    """For each double its targets' effects (genes of the double, G)."""
    targets = [genes_of(p) for p in perturbations]
    asked = list(dict.fromkeys((g, c) for of, c in zip(targets, contexts, strict=True) for g in of))
    found = dict(zip(asked, single.predict([g for g, _ in asked], [c for _, c in asked])))
    return [np.stack([found[g, c] for g in of]) for of, c in zip(targets, contexts)]


def terms(singles: np.ndarray) -> np.ndarray:
    """What an interaction may be proportional to, (2, G): the sum of effects (n, G), and the smaller of agreeing ones.

    Examples
    --------
    >>> terms(np.array([[1.0, -2.0, 3.0], [2.0, -1.0, -1.0]]))
    array([[ 3., -3.,  2.],
           [ 1., -1.,  0.]])
    """
    agreeing = np.zeros(singles.shape[1])
    for a, b in combinations(singles, 2):
        agreeing += np.where(a * b > 0, np.sign(a) * np.minimum(abs(a), abs(b)), 0)
    return np.stack([singles.sum(axis=0), agreeing])


def fitted_slopes(explained: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Least squares of the rest (D, G) on its terms (D, 2, G), one slope a term."""
    A = np.einsum("dig,djg->ij", explained, explained)
    return np.linalg.lstsq(A, np.einsum("dig,dg->i", explained, rest), rcond=1e-9)[0]


def pair_kernel(space: FeatureSpace, one: list[list[str]], other: list[list[str]]) -> np.ndarray:
    """How alike doubles are, (D, D'): 1 + mean likeness of their targets + that of their pairs, in any order.

    The likeness of pairs (a, b) and (c, d) is k(a, c)·k(b, d) + k(a, d)·k(b, c), k the product of standardised
    features: the kernel of all products of a feature of one target and one of the other. Doubles of three genes have
    the mean over their pairs.
    """
    genes = sorted({g for pair in (*one, *other) for g in pair})
    place = {g: i for i, g in enumerate(genes)}
    z = space(genes)
    k = z @ z.T

    def members(pairs: list[list[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Both ends of every pair of each double, (n,), and averages over a double's pairs, (D, n)."""
        ends = [(d, place[a], place[b]) for d, pair in enumerate(pairs) for a, b in combinations(pair, 2)]
        of, first, second = (np.array(column) for column in zip(*ends))
        average = (of == np.arange(len(pairs))[:, None]).astype(float)
        return first, second, average / average.sum(axis=1, keepdims=True)

    a, b, of_one = members(one)
    c, d, of_other = members(other)
    straight, crossed = (k[np.ix_(a, c)], k[np.ix_(b, d)]), (k[np.ix_(a, d)], k[np.ix_(b, c)])
    alike = (sum(straight) + sum(crossed)) / 4 + straight[0] * straight[1] + crossed[0] * crossed[1]
    return 1 + of_one @ alike @ of_other.T
