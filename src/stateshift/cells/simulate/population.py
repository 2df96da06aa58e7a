"""The generative model of a simulated experiment: its factors, and the expected counts they give a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack
from scipy.special import log_softmax

from stateshift.errors import StateshiftError, some

PROGRAMS, PROGRAM_SHARE, EFFECT_SIZE = 8, 0.15, 0.6
FEATURES, FAMILY_SIZE, WITHIN_FAMILY = 64, 8, 0.6
COMMON, STRENGTH_SPREAD, CONTEXT_SPREAD = 0.6, 0.4, 0.25
SPECIFIC_GENES, SPECIFIC_SIZE = 20, 0.5
GENE_SPREAD, BASELINE_PROGRAMS, BASELINE_SPREAD, BASELINE_NOISE = 1.9, 5, 0.6, 0.3
LARGEST_SHARE = 0.02
BATCH_SPREAD, BATCH_DEPTH_SPREAD = 0.15, 0.2
ESCAPE, RESIDUAL = (2, 20), (3, 17)
BUFFERING, PAIRING = 0.25, 0.5


@dataclass
class Population:
    """Everything a cell's expected counts depend on; what ``uns["simulation"]`` holds.

    A cell of context c and batch b, reached by perturbation p, expects counts proportional to

        exp( baseline(c, g) + batch_effects(b, g) + λ(p, c, g) ),
        λ(p, c, g) = Σ_k activity(p, k) · strength(c, k) · loadings(k, g) + specific(p, g),
        activity(p, k) = common(k) + Σ_f features(p, f) · weights(f, k) + hidden(p, k)

    scaled to the cell's depth; the target itself is multiplied by the share of it that is left, in place of
    λ. A cell that escaped, and a control, has no λ. Logarithms are natural.

    A double (a, b) has both targets' specific effects, and

        activity(a+b, k) = activity(a, k) + activity(b, k) + interaction(a+b, k).

    What is said of P targets below is, in `perturbations`, `activity` and `own`, said of P + D perturbations: targets,
    then doubles.

    Parameters
    ----------
    genes, targets, contexts, batches
        Names: G, P, C and B of them. Every target is one of the genes.
    pairs
        (D, 2): each double's two targets, by their numbers.
    interaction
        (D, K).
    baseline
        (C, G) float32: log of each gene's share in a control cell, batch aside.
    batch_effects
        (B, G) float32.
    loadings
        (K, G) float32: programs, 15 % of genes each.
    strength
        (C, K): how strongly a context answers.
    common, weights, features
        (K,), (F, K) and (P, F): from a target's features to its activity.
    hidden
        (P, K): the part of a target's activity that features don't tell.
    specific
        CSR (P, G): effects on single genes that features don't tell.
    escape
        (P + D,): share of a perturbation's cells that it did not reach.
    residual
        (P + D,): mean share of a target's expression left in a cell that was reached.
    depth
        (B,): median counts of a cell.
    dispersion
        φ of the negative binomial, variance = mean + φ · mean².
    """

    genes: np.ndarray
    targets: np.ndarray
    contexts: np.ndarray
    batches: np.ndarray
    pairs: np.ndarray
    interaction: np.ndarray
    baseline: np.ndarray
    batch_effects: np.ndarray
    loadings: np.ndarray
    strength: np.ndarray
    common: np.ndarray
    weights: np.ndarray
    features: np.ndarray
    hidden: np.ndarray
    specific: csr_matrix
    escape: np.ndarray
    residual: np.ndarray
    depth: np.ndarray
    dispersion: float

    def __post_init__(self) -> None:
        single = self.common + self.features @ self.weights + self.hidden
        self.activity = np.concatenate([single, single[self.pairs].sum(axis=1) + self.interaction]).astype(np.float32)
        doubles = ["+".join(pair) for pair in self.targets[self.pairs]]
        self.perturbations = np.array([*self.targets, *doubles])
        members = np.concatenate([np.tile(np.arange(len(self.targets))[:, None], 2), self.pairs])
        self.own = pd.Index(self.genes).get_indexer(self.targets)[members]
        self._effects = vstack(
            [self.specific, self.specific[self.pairs[:, 0]] + self.specific[self.pairs[:, 1]]], "csr"
        )

    def to_uns(self) -> dict[str, Any]:
        """The fields, as AnnData writes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_uns(cls, stored: Mapping[str, Any]) -> Population:
        """What `to_uns` gave and AnnData read back."""
        absent = [field.name for field in fields(cls) if field.name not in stored]
        if absent:
            raise StateshiftError(
                f'uns["simulation"] has no {some(absent)}: an older version simulated these cells, simulate them anew.'
            )
        return cls(**{field.name: stored[field.name] for field in fields(cls)})

    def log_expression(
        self, context: np.ndarray, target: np.ndarray, reached: np.ndarray, residual: np.ndarray
    ) -> np.ndarray:
        """Log of expression up to a cell's own factor, batch aside.

        Parameters
        ----------
        context, target
            (n,) row numbers, of `contexts` and `perturbations`; a target of −1 is a control.
        reached
            (n,) bool.
        residual
            (n,) share of the target's expression left, where reached.

        Returns
        -------
        ndarray
            (n, G) float32.
        """
        reached = reached & (target >= 0)
        x = (self.activity[target] * self.strength[context] * reached[:, None]) @ self.loadings
        rows = np.flatnonzero(reached)
        specific = self._effects[target[rows]]
        x[np.repeat(rows, np.diff(specific.indptr)), specific.indices] += specific.data
        x[rows[:, None], self.own[target[rows]]] = np.log(np.maximum(residual[rows], 1e-6))[:, None]
        x += self.baseline[context]
        return x

    def means(
        self,
        context: np.ndarray,
        target: np.ndarray,
        batch: np.ndarray,
        reached: np.ndarray,
        residual: np.ndarray,
        depth: np.ndarray,
    ) -> np.ndarray:
        """Expected counts (n, G) float32 of cells, each summing to its depth (n,)."""
        x = self.log_expression(context, target, reached, residual)
        x += self.batch_effects[batch]
        np.exp(x, out=x)
        x *= (depth / x.sum(axis=1)).astype(np.float32)[:, None]
        return x


def draw_population(
    contexts: int, targets: int, genes: int, batches: int, depth: float, dispersion: float, rng: np.random.Generator
) -> Population:
    """Factors of a `Population`, drawn.

    Gene shares are log-normal (sd 1.9 of the natural log and programmes on top, which leaves some 83 % zeros at 9,000 counts over
    18,080 genes). Targets are drawn among the better expressed half of the genes and belong to families of
    about eight with alike features. ``depth`` is the median of a cell with batches aside.
    """
    baseline = _baseline(contexts, genes, rng)
    expressed = np.argsort(-np.exp(baseline).mean(axis=0))[: max(targets, genes // 2)]
    own = np.sort(rng.choice(expressed, targets, replace=False))
    names = np.array([f"GENE{g + 1:05d}" for g in range(genes)])
    mask = rng.random((PROGRAMS, genes)) < PROGRAM_SHARE
    scale = EFFECT_SIZE / np.sqrt(PROGRAMS)
    return Population(
        genes=names,
        targets=names[own],
        contexts=_numbered("context", contexts),
        batches=_numbered("batch", batches),
        pairs=np.zeros((0, 2), dtype=int),
        interaction=np.zeros((0, PROGRAMS)),
        baseline=baseline,
        batch_effects=(BATCH_SPREAD * rng.standard_normal((batches, genes))).astype(np.float32),
        loadings=(rng.standard_normal((PROGRAMS, genes)) * mask).astype(np.float32),
        strength=np.exp(CONTEXT_SPREAD * rng.standard_normal((contexts, PROGRAMS))).astype(np.float32),
        common=scale * COMMON * rng.standard_normal(PROGRAMS),
        weights=scale * rng.standard_normal((FEATURES, PROGRAMS)) / np.sqrt(FEATURES),
        features=_features(targets, rng),
        hidden=np.zeros((targets, PROGRAMS)),
        specific=_specific(targets, genes, rng),
        escape=rng.beta(*ESCAPE, size=targets),
        residual=rng.beta(*RESIDUAL, size=targets),
        depth=depth * np.exp(BATCH_DEPTH_SPREAD * rng.standard_normal(batches)),
        dispersion=float(dispersion),
    )


def with_hidden_activity(population: Population, share: float, rng: np.random.Generator) -> Population:
    """The population with features that tell `share` of the variance of activity over targets; the rest is drawn."""
    spread = (population.features @ population.weights).std(axis=0)
    hidden = np.sqrt(1 - share) * spread * rng.standard_normal(population.hidden.shape)
    return replace(population, weights=np.sqrt(share) * population.weights, hidden=hidden)


def with_doubles(population: Population, doubles: int, rng: np.random.Generator) -> Population:
    """The population with doubles of random targets, whose interaction is known by rule.

        interaction(a+b, k) = −0.25 · (activity(a, k) + activity(b, k)) + 0.5 · scale · u(a, k) · u(b, k)

    buffers what the two do, and lets features of both, u = features · directions with u of unit variance, decide the
    rest: doubles of the same two families interact alike. A cell is reached by both perturbations or by none.
    """
    P = len(population.targets)
    first, second = np.triu_indices(P, k=1)
    drawn = np.sort(rng.choice(len(first), doubles, replace=False))
    pairs = np.stack([first[drawn], second[drawn]], axis=1)
    u = population.features @ rng.standard_normal((population.features.shape[1], PROGRAMS))
    u = (u - u.mean(axis=0)) / u.std(axis=0)
    interaction = -BUFFERING * population.activity[pairs].sum(axis=1)
    interaction += PAIRING * EFFECT_SIZE / np.sqrt(PROGRAMS) * u[pairs[:, 0]] * u[pairs[:, 1]]
    return replace(
        population,
        pairs=pairs,
        interaction=interaction,
        escape=np.append(population.escape, population.escape[pairs].max(axis=1)),
        residual=np.append(population.residual, population.residual[pairs].mean(axis=1)),
    )


def _numbered(name: str, count: int) -> np.ndarray:
    """Names whose alphabetical order is that of their numbers."""
    return np.array([f"{name}_{i:0{len(str(count))}d}" for i in range(1, count + 1)])


def _baseline(contexts: int, genes: int, rng: np.random.Generator) -> np.ndarray:
    """Log shares (C, G) float32: what contexts have in common, programmes of their own, and single genes; none has a large share."""
    mask = rng.random((BASELINE_PROGRAMS, genes)) < PROGRAM_SHARE
    programmes = rng.standard_normal((BASELINE_PROGRAMS, genes)) * mask
    x = GENE_SPREAD * rng.standard_normal(genes)
    x = x + BASELINE_SPREAD * rng.standard_normal((contexts, BASELINE_PROGRAMS)) @ programmes
    x += BASELINE_NOISE * rng.standard_normal((contexts, genes))
    x = np.minimum(log_softmax(x, axis=1), np.log(max(LARGEST_SHARE, 20 / genes)))
    return log_softmax(x, axis=1).astype(np.float32)


def _features(targets: int, rng: np.random.Generator) -> np.ndarray:
    """Feature vectors (P, F) float32: a family's centre, the target's own part, and its strength."""
    families = -(-targets // FAMILY_SIZE)
    family = rng.permutation(np.arange(targets) % families)
    vectors = rng.standard_normal((families, FEATURES))[family]
    vectors += WITHIN_FAMILY * rng.standard_normal((targets, FEATURES))
    return (vectors * np.exp(STRENGTH_SPREAD * rng.standard_normal((targets, 1)))).astype(np.float32)


def _specific(targets: int, genes: int, rng: np.random.Generator) -> csr_matrix:
    """Effects on a few genes a target, CSR (P, G) float32."""
    few = min(SPECIFIC_GENES, genes // 20)
    columns = np.sort(np.stack([rng.choice(genes, few, replace=False) for _ in range(targets)]), axis=1)
    values = (SPECIFIC_SIZE * rng.standard_normal(columns.size)).astype(np.float32)
    return csr_matrix((values, columns.ravel(), np.arange(targets + 1) * few), shape=(targets, genes))
