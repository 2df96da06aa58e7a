"""The curves against plain sums over every number of counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, nbinom

from stateshift.prediction.emission.curves import TIMES, _mean_log

from .conftest import pseudobulk


def summed(scale: float, count: int, share: float, odds: float, shape: float) -> float:
    """E ln(1 + scale · Y), term by term."""
    more = np.arange(4_000)
    return sum(
        binom.pmf(left, count, share)
        * (nbinom.pmf(more, shape + left, 1 / (1 + odds)) * np.log1p(scale * (left + more))).sum()
        for left in range(count + 1)
    )


@pytest.mark.parametrize(
    ("scale", "count", "share", "odds", "shape"),
    [
        (0.3, 0, 0.95, 0.01, 0.5),
        (3.0, 1, 0.95, 0.2, 0.1),
        (0.5, 40, 0.95, 0.02, 3.0),
        (0.5, 7, 0.3, 0.0, 1.0),
        (2.0, 0, 0.0, 150.0, 2.0),
        (0.2, 500, 0.95, 1.5, 4.0),
    ],
)
def test_the_integral_is_the_expectation(scale, count, share, odds, shape):
    found = _mean_log(scale, np.array([float(count)]), np.ones(1), share, odds, shape, TIMES)
    assert found == pytest.approx(summed(scale, count, share, odds, shape), rel=2e-5)


def test_factors_of_the_controls_own_means_are_close_to_one(screen):
    factors = screen.emitter._curves.factors(screen.emitter._curves.start)
    assert factors[screen.rates > 1e-4] == pytest.approx(1, abs=0.03)


def test_a_curve_inverted_gives_the_effect_of_a_known_factor(screen):
    for factor in (0.3, 4.0):
        g = int(np.argsort(-screen.rates)[60])
        factors = np.ones_like(screen.rates)
        factors[g] = factor
        effect = screen.effect(factors)
        found = screen.emitter.factors(np.where(np.arange(len(effect)) == g, effect, 0))[g]
        error = np.sqrt(pseudobulk(screen.controls)[1][g] * (1 / 2_000 + 1 / 10_000))
        assert np.log(found / factor) == pytest.approx(0, abs=4 * error + 0.02)
