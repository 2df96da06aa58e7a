"""Half-widths of intervals from what was missed on rows that were held out: split conformal prediction.

Shapes: N held-out rows, U units, G genes, R rows to predict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.9
"""Share of true effects that an interval is to hold."""
PRIOR_UNITS = 2
"""Units that the geometric mean over genes counts for in the spread of a gene."""
LEAST_PRIOR = 0.01
"""A gene's spread weighs in that geometric mean with at least this share of the mean over genes, in squares."""
MOST_PARTS = 20
"""Parts that units are left out in; fewer units are left out one by one."""
ENOUGH_SCORES = 2_000_000
"""Scores that a level is found on; of more, every so-many-th gene is looked at."""
LEVELS = np.append(np.arange(0.5, 0.9995, 0.001), 1.0)
LEAST_GAIN = 0.01
"""Share of the interval score that a pair part has to save to be kept."""


@dataclass
class Calibration:
    """What turns a prediction into an interval.

    Parameters
    ----------
    spread
        Array (G,): the gene part of the scale, the root mean square of the errors on held-out rows.
    quantile
        Of errors divided by their scale: a half-width is scale times this.
    units, rows
        Units that are exchangeable, and rows, behind it.
    largest
        Of errors divided by their scale: what holds every held-out row.
    pair_part
        The name of what scales a whole pair, by ``(value / typical) ** slope``; None where nothing earned its place.
    slope, typical
        See `pair_part`.
    """

    spread: np.ndarray
    quantile: float
    units: int
    rows: int
    largest: float
    pair_part: str | None
    slope: float
    typical: float

    def half_widths(self, pairs: Mapping[str, np.ndarray], n: int) -> np.ndarray:
        """Half-widths (R, G) float32.

        Parameters
        ----------
        pairs
            Name → values (R,), as they were given to `calibrate`.
        n
            R.
        """
        scale = np.ones(n)
        if self.pair_part is not None:
            scale = _pair_scale(pairs[self.pair_part], self.slope, self.typical)
        return (self.quantile * scale[:, None] * self.spread).astype(np.float32)


def calibrate(
    errors: np.ndarray,
    units: Sequence[str],
    pairs: Mapping[str, np.ndarray] | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> Calibration:
    """Split conformal intervals from errors on rows that the predicting models had not seen.

    A score is |e| / s with s the root mean square of a gene's errors over the *other* units, drawn to the genes' geometric
    mean by `PRIOR_UNITS` units; so no row's score knows its own error, and silent genes get narrow intervals (normalised
    scores: Lei et al., J. Am. Stat. Assoc. 113, 1094, 2018, section 5.2). The half-width is s times the scores' quantile
    at the level that `coverage_level` finds for new units.

    A pair part, s · (value / typical)^slope, is tried for each of `pairs`, its slope by least squares of the rows' log
    errors. One is kept where it lowers the interval score (Gneiting & Raftery, J. Am. Stat. Assoc. 102, 359, 2007,
    equation 43) of units left out by a hundredth at least.

    Parameters
    ----------
    errors
        Array (N, G): true minus predicted effects, NaN where unmeasured.
    units
        N names; rows of one unit depend on each other, units are exchangeable: targets where targets are new, contexts
        where contexts are.
    pairs
        Name → values (N,), positive, that may say how hard a pair is: the distance to the nearest training gene.
    level
        The share of true effects to hold.
    seed
        Deals units to parts.

    Returns
    -------
    Calibration
        Its quantile is infinite where the units are too few for any finite interval.

    Examples
    --------
    >>> errors = np.random.default_rng(0).normal(size=(40, 50)) * np.linspace(0.1, 2, 50)
    >>> found = calibrate(errors, [str(i) for i in range(40)])
    >>> bool(abs(found.quantile - 1.64) < 0.1), bool(found.spread[-1] > 5 * found.spread[0])
    (True, True)
    """
    errors = np.asarray(errors, dtype=np.float32)
    unit = np.unique(np.asarray(units, dtype=str), return_inverse=True)[1]
    name, slope, typical = _choose_pair_part(errors, unit, pairs or {}, level, seed)
    if name is not None:
        errors = errors / _pair_scale(pairs[name], slope, typical)[:, None].astype(np.float32)
    whole, others = _spreads(errors, unit)
    scores = np.abs(errors) / others[unit]
    at = coverage_level(scores, unit, level, seed)
    known = scores[~np.isnan(scores)]
    quantile = float("inf") if at is None else float(np.quantile(known, at, method="inverted_cdf"))
    largest = float(np.nanmax(np.abs(errors) / whole)) if len(known) else float("inf")
    return Calibration(whole, quantile, int(unit.max()) + 1, len(errors), largest, name, slope, typical)


def coverage_level(scores: np.ndarray, units: np.ndarray, level: float = LEVEL, seed: int = 0) -> float | None:
    """The level at which the quantile of all scores covers a *new* unit's.

    The pooled quantile at `level` itself covers too little of a new unit: units differ. So each unit (or each of twenty parts
    of them) is left out in turn, and the smallest level is taken whose quantile over the others holds `level` of what
    was left out, every unit counted once. With one score a unit that is never below the rank ⌈(n + 1) · level⌉ of split
    conformal prediction (Papadopoulos et al., ECML 2002). With many it is an estimate and no bound: a bound for two-layer
    data (Dunn, Wasserman & Ramdas, J. Am. Stat. Assoc. 118, 2491, 2023) is infinite below nine units.

    Parameters
    ----------
    scores
        Array (N, G), NaN where unmeasured.
    units
        Codes (N,) from 0.

    Returns
    -------
    float or None
        None where not even the largest score of the others holds enough.

    Examples
    --------
    Twenty units of one score: the 19th smallest, as (20 + 1) · 0.9 = 18.9. Five can't give 90 %.

    >>> scores = np.arange(1.0, 21.0)[:, None]
    >>> at = coverage_level(scores, np.arange(20))
    >>> float(np.quantile(scores, at, method="inverted_cdf"))
    19.0
    >>> coverage_level(scores[:5], np.arange(5))
    """
    n_units = int(units.max()) + 1
    parts = np.random.default_rng(seed).permutation(np.arange(n_units) % min(MOST_PARTS, n_units))
    thinned = scores[:, :: -(-scores.size // ENOUGH_SCORES)]
    covered = np.zeros(len(LEVELS))
    for part in range(parts.max() + 1):
        out = parts[units] == part
        others = thinned[~out]
        others = others[~np.isnan(others)]
        if not len(others):
            return None
        quantiles = np.quantile(others, LEVELS, method="inverted_cdf")
        for unit in np.unique(units[out]):
            own = thinned[units == unit]
            own = np.sort(own[~np.isnan(own)])
            covered += np.searchsorted(own, quantiles, side="right") / max(len(own), 1)
    enough = np.flatnonzero(covered / n_units >= level - 1e-9)
    if not len(enough):
        return None
    # levels that hold the same scores of few units lie apart when a unit more is counted
    return float(LEVELS[np.flatnonzero(covered == covered[enough[0]])[-1]])


def _spreads(errors: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean squares of genes over all units (G,), and over all but one (U, G)."""
    known = ~np.isnan(errors)
    squares, counts = (np.zeros((unit.max() + 1, errors.shape[1]), np.float32) for _ in range(2))
    np.add.at(squares, unit, np.where(known, errors, 0) ** 2)
    np.add.at(counts, unit, known)
    measured = counts > 0
    by_unit = np.divide(squares, counts, out=np.zeros_like(squares), where=measured)
    total, n = by_unit.sum(axis=0, dtype=np.float64), measured.sum(axis=0)
    overall = np.divide(total, n, out=np.zeros_like(total), where=n > 0)[n > 0]
    prior = _geometric_mean(overall)
    whole = np.sqrt((total + PRIOR_UNITS * prior) / (n + PRIOR_UNITS))
    others = np.sqrt(total - by_unit + PRIOR_UNITS * prior) / np.sqrt(n - measured + PRIOR_UNITS)
    return whole, others.astype(np.float32)


def _geometric_mean(squares: np.ndarray) -> float:
    """Of the genes' mean squares; one where no row misses anything at all, so that scores stay numbers."""
    mean = squares.mean() if len(squares) else 0.0
    return float(np.exp(np.log(np.maximum(squares, LEAST_PRIOR * mean)).mean())) if mean > 0 else 1.0


def _choose_pair_part(
    errors: np.ndarray, unit: np.ndarray, pairs: Mapping[str, np.ndarray], level: float, seed: int
) -> tuple[str | None, float, float]:
    """Name, slope and typical value of the pair part that left-out units speak for; no name where none does."""
    n_units = int(unit.max()) + 1
    told = {name: np.asarray(values, dtype=np.float64) for name, values in pairs.items() if _tells(values)}
    if n_units < 2 * MOST_PARTS or not told:
        return None, 0.0, 1.0
    thinned = errors[:, :: -(-errors.size // ENOUGH_SCORES)]
    part = np.random.default_rng(seed).permutation(np.arange(n_units) % 5)[unit]
    lost = dict.fromkeys([None, *told], 0.0)
    for out in (part == k for k in range(5)):
        for name in lost:
            scale = np.ones(len(errors))
            if name is not None:
                scale = _pair_scale(told[name], *_slope(thinned[~out], unit[~out], told[name][~out]))
            flat = thinned / scale[:, None]
            codes = np.unique(unit[~out], return_inverse=True)[1]
            whole, others = _spreads(flat[~out], codes)
            half = scale[out, None] * whole * np.nanquantile(np.abs(flat[~out]) / others[codes], level)
            lost[name] += _interval_score(thinned[out], half, level)
    best = min(lost, key=lost.__getitem__)
    if best is None or lost[best] > (1 - LEAST_GAIN) * lost[None]:
        return None, 0.0, 1.0
    return best, *_slope(thinned, unit, told[best])


def _interval_score(errors: np.ndarray, half: np.ndarray, level: float) -> float:
    """Width plus 2 / (1 − level) times what lies outside, summed over errors that are known."""
    return float(np.nansum(2 * half + 2 / (1 - level) * np.maximum(np.abs(errors) - half, 0)))


def _pair_scale(values: np.ndarray, slope: float, typical: float) -> np.ndarray:
    """(N,); beyond half and twice the typical value the last scale stands, for want of rows to draw a line through."""
    return np.clip(np.asarray(values, dtype=np.float64) / typical, 0.5, 2.0) ** slope


def _tells(values: np.ndarray) -> bool:
    """Whether values differ, and have logarithms."""
    values = np.asarray(values, dtype=np.float64)
    return bool(np.isfinite(values).all() and (values > 0).all() and np.ptp(values) > 1e-6 * values.max())


def _slope(errors: np.ndarray, unit: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Slope of the rows' log root mean square score on log value, and the value's geometric mean."""
    codes = np.unique(unit, return_inverse=True)[1]
    scores = errors / _spreads(errors, codes)[1][codes]
    size = np.log(np.maximum(np.sqrt(np.nanmean(scores**2, axis=1)), 1e-6))
    x = np.log(values)
    return float(np.polyfit(x, size, 1)[0]), float(np.exp(x.mean()))
