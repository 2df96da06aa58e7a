"""How alike contexts are, by the deviations of targets that both measured, and by their controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Alike:
    """How the deviations of one target in several contexts go together.

    Parameters
    ----------
    names
        The C training contexts, sorted.
    covariance
        Array (C, C), a gene's mean, free of noise.
    controls
        Array (C, G): control means of these contexts less their mean; None where one is unknown.
    others
        Context without a training row → its control mean, so centred.
    """

    names: list[str]
    covariance: np.ndarray
    controls: np.ndarray | None
    others: dict[str, np.ndarray]

    def to(self, context: str) -> np.ndarray:
        """Covariances (C,) with a context.

        Of one never seen they are as between training contexts, larger with those whose controls are alike.
        """
        if context in self.names:
            return self.covariance[self.names.index(context)]
        C, spread = len(self.names), np.sqrt(np.diag(self.covariance))
        correlation = self.covariance / np.outer(spread, spread)
        between = correlation[~np.eye(C, dtype=bool)].mean() if C > 1 else 1.0
        nearness = np.ones(C)
        if context in self.others:
            nearness = 1 + np.array([_cosine(self.others[context], known) for known in self.controls])
            nearness /= nearness.mean()
        return _within(correlation, np.clip(between * nearness, 0, 1), between) * spread * spread.mean()


def shared_covariance(
    deviations: np.ndarray, noise: np.ndarray, code: np.ndarray, targets: dict[str, np.ndarray], C: int
) -> np.ndarray:
    """Covariance (C, C) of a target's deviations in two contexts, from the targets that both measured.

    A pair that shares none is as alike as the others are. Not above what either context varies by itself, and no
    weighted sum of contexts varies less than nothing: pairs are of different targets, and need not agree.
    """
    total, counted = np.zeros((C, C)), np.zeros((C, C))
    known = np.nan_to_num(deviations)
    share = (~np.isnan(deviations)).astype(np.float32) if np.isnan(deviations).any() else None
    for rows in targets.values():
        places = np.ix_(code[rows], code[rows])
        genes = np.float64(deviations.shape[1]) if share is None else share[rows] @ share[rows].T
        total[places] += known[rows] @ known[rows].T / np.maximum(genes, 1) - np.diag(noise[rows])
        counted[places] += genes > 0
    mean = total / np.maximum(counted, 1)
    variance = np.maximum(np.diag(mean), 1e-12)
    bound = np.sqrt(np.outer(variance, variance))
    correlation = np.clip(mean / bound, 0, 1)
    apart = ~np.eye(C, dtype=bool)
    weight = counted[apart].sum()
    correlation[counted == 0] = (correlation[apart] @ counted[apart]) / weight if weight else 1.0
    np.fill_diagonal(correlation, 1.0)
    return _possible(correlation) * bound


def centred(controls: dict[str, np.ndarray], names: Sequence[str]) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """Control means of the training contexts less their mean, and those of others; None where one has none."""
    if not all(name in controls for name in names):
        return None, {}
    own = np.stack([controls[name] for name in names]).astype(np.float64)
    mean = own.mean(axis=0)
    return own - mean, {c: x - mean for c, x in controls.items() if c not in set(names)}


def _possible(correlation: np.ndarray) -> np.ndarray:
    """Correlations (C, C) without directions of negative variance, which each of them by itself may leave."""
    values, vectors = np.linalg.eigh(correlation)
    clipped = (vectors * np.maximum(values, 0)) @ vectors.T
    spread = np.sqrt(np.diag(clipped))
    return clipped / np.outer(spread, spread)


def _within(correlation: np.ndarray, asked: np.ndarray, between: float) -> np.ndarray:
    """The correlations (C,) asked for of a new context, as far as those of the others (C, C) let one have them.

    A context that varies as much as they do can't be told by them more than wholly: r R⁻¹ r ≤ 1. Where it would be, r
    is drawn to the correlations of their sum, of the same mean.
    """
    C = len(asked)
    among = correlation + 1e-6 * np.eye(C)
    of_sum = among.mean(axis=0)
    of_sum *= between / of_sum.mean()
    step = asked - of_sum
    told = np.linalg.solve(among, np.column_stack([step, of_sum]))
    (size, half), left = step @ told, 1 - of_sum @ told[:, 1]
    reached = np.sqrt(half**2 + size * left) - half
    return of_sum + step * min(1.0, reached / max(size, 1e-300))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length > 0 else 0.0
