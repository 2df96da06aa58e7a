"""Which factor of a gene's rate gives which mean expression: a curve a gene, computed once and inverted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from stateshift.cells.matrix.scale import SIZE_FACTOR
from stateshift.prediction.emission.controls import Controls, Tally
from stateshift.prediction.emission.drawing import KEPT
from stateshift.progress import track

NEAR = np.concatenate([[-5.0, -3.5, -2.5], np.arange(-2, 0, 0.25), [np.log(KEPT)], np.arange(0, 2.01, 0.25)])
FAR, LARGEST_RATE = 8, 0.05
"""Logarithms of the factors of every curve; and how many more, up to a twentieth of all counts or 32-fold."""
STEP = 0.7
TIMES = np.exp(np.arange(3.2, -32, -STEP))
GENES_AT_ONCE = 512


@dataclass(frozen=True)
class Curves:
    """Mean log1p_1e4 of emitted cells by factor.

    Parameters
    ----------
    start
        (G,): the controls' mean by the same tally, which effects are added to.
    logs
        (G, J): logarithms of factors, rising.
    heights
        (G, J): ln(expm1(mean)), nearly a straight line over `logs` for rare and abundant genes alike.
    """

    start: np.ndarray
    logs: np.ndarray
    heights: np.ndarray

    def factors(self, means: np.ndarray) -> np.ndarray:
        """The factors (G,) that give means (G,); 0 where a mean is not positive."""
        return _inverted(self.logs, self.heights, means)


def measure_curves(controls: Controls, tally: Tally) -> Curves:
    """The curves of all genes, an expectation over every control cell and every draw.

    With s = 10,000 / N, ln(1 + sY) = ∫ (1 − e^(−stY)) e^(−t) / t dt over t > 0 (Frullani), so that a mean over Y
    needs its probability generating function alone, which thinning to the share k and drawing anew have in closed form:

        E z^Y = a^(−r) · (1 − k + k z / a)^x,    a = 1 + c (1 − z),    c = (f − k) N p / (r + k N p),    r = 1 / φ

    The integral is a trapezoidal sum over ln t, whose error falls exponentially in its step.
    """
    base, most_kept = controls.base, np.where(controls.rates > 0, KEPT, 0.0)
    top = np.log(np.maximum(32, LARGEST_RATE / base))
    far = NEAR[-1] + (top - NEAR[-1])[:, None] * np.arange(1, FAR + 1) / FAR
    logs = np.concatenate([np.broadcast_to(NEAR, (len(base), len(NEAR))), far], axis=1)
    shapes, means = controls.shapes(np.exp(logs)), np.empty(logs.shape)
    for first in track(range(0, len(base), GENES_AT_ONCE), "measuring control cells"):
        here = slice(first, first + GENES_AT_ONCE)
        of_genes = (base[here], most_kept[here], shapes[here], logs[here])
        _curves(tally.cells[here], tally.counts, tally.scales, *of_genes, TIMES, means[here])
    start = np.zeros(len(base))
    for d, scale in enumerate(tally.scales):
        start += tally.cells[:, d] @ np.log1p(scale * tally.counts)
    return Curves(start / len(controls.depths), logs, np.log(np.expm1(means)))


@njit(cache=True, nogil=True)
def _curves(cells, counts, scales, base, most_kept, shapes, logs, times, means):
    held, weights = np.empty(len(counts)), np.empty(len(counts))
    for g in range(len(base)):
        means[g] = 0
        n0 = 0
        for d in range(len(scales)):
            m = 0
            for k in range(len(counts)):
                if cells[g, d, k]:
                    held[m], weights[m] = counts[k], cells[g, d, k]
                    n0 += cells[g, d, k]
                    m += 1
            rate = base[g] * SIZE_FACTOR / scales[d]
            for j in range(logs.shape[1]):
                factor = np.exp(logs[g, j])
                share = min(factor, most_kept[g])
                odds = (factor - share) * rate / (shapes[g, j] + share * rate)
                means[g, j] += _mean_log(scales[d], held[:m], weights[:m], share, odds, shapes[g, j], times)
        means[g] /= n0


@njit(cache=True, nogil=True)
def _mean_log(scale, held, weights, share, odds, shape, times):
    """Sum over cells of E ln(1 + scale · Y), Y what is left of a cell's counts and what is drawn anew."""
    cells = weights.sum()
    mean = odds * shape * cells + share * (1 + odds) * (held * weights).sum()
    most = share * (1 + odds) * held[-1] + odds * shape
    least = np.exp(-8.0) / (1 + scale * most)
    total = 0.0
    for t in times:
        z_left = -np.expm1(-scale * t)
        a = 1 + odds * z_left
        none = a**-shape if odds > 0 else 1.0
        each = 1 - share + share * (1 - z_left) / a
        left, power, before = 0.0, none, 0.0
        for k in range(len(held)):
            gap = held[k] - before
            if gap == 1:
                power *= each
            elif gap > 0:
                power *= each**gap
            before = held[k]
            left += weights[k] * power
        total += STEP * np.exp(-t) * (cells - left)
        if t < least:
            # what is below: 1 − E z^Y is proportional to t there
            return total + STEP * scale * mean * t / np.expm1(STEP)
    return total


@njit(cache=True, nogil=True)
def _inverted(logs, heights, means):
    found = np.zeros(len(means))
    last = logs.shape[1] - 1
    for g in range(len(means)):
        if means[g] <= 0:
            continue
        height = means[g] + np.log(-np.expm1(-means[g]))
        j = min(max(np.searchsorted(heights[g], height), 1), last)
        slope = (logs[g, j] - logs[g, j - 1]) / (heights[g, j] - heights[g, j - 1])
        found[g] = np.exp(logs[g, j] + slope * (height - heights[g, j]))
    return found
