"""Intervals: ranks and spreads by hand, and how often new units are covered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stateshift.effects.conformal import calibrate, coverage_level
from stateshift.effects.conformal.calibration import _interval_score


def made_errors(rng, n_units, n_genes=60, rows=1, unit_spread=0.0):
    """Errors of exchangeable units: genes of different spread, rows of a unit alike, units of different size."""
    size = np.exp(unit_spread * rng.standard_normal((n_units, 1, 1)))
    shared = rng.standard_normal((n_units, 1, n_genes))
    errors = size * (0.8 * shared + 0.6 * rng.standard_normal((n_units, rows, n_genes)))
    units = np.repeat(np.arange(n_units).astype(str), rows)
    return (errors * np.linspace(0.2, 2, n_genes)).reshape(-1, n_genes), units


@pytest.mark.parametrize("n", [10, 11, 19, 20, 29, 30, 99])
def test_one_score_a_unit_gives_the_rank_of_split_conformal_prediction_or_the_next(n):
    scores = np.arange(1.0, n + 1)[:, None]
    rank = np.quantile(scores, coverage_level(scores, np.arange(n)), method="inverted_cdf")
    assert np.ceil(0.9 * (n + 1)) <= rank <= np.ceil(0.9 * (n + 1)) + 1 + 0.03 * n


def test_nine_units_of_one_score_do_not_say_what_nine_in_ten_hold():
    assert coverage_level(np.arange(9.0)[:, None], np.arange(9)) is None


def test_four_units_of_one_score_can_give_no_interval():
    found = calibrate(np.array([[1.0], [2.0], [3.0], [4.0]]), ["a", "b", "c", "d"])
    assert found.quantile == np.inf
    assert (found.units, found.rows) == (4, 4)


def test_a_unit_that_stands_out_raises_the_level():
    """Two units of 100 scores, the second twice as large: of 0..1 and 0..2, worked by hand.

    The first holds none of the second beyond its half, the second all of the first: at the level a the quantiles are 2a
    and a, and the shares min(1, 2a) and a/2; their mean reaches 0.7 at a = 0.8 with (1 + 0.4) / 2.
    """
    scores = np.stack([np.linspace(0.01, 1, 100), np.linspace(0.02, 2, 100)])
    assert coverage_level(scores, np.array([0, 1]), level=0.7) == pytest.approx(0.8, abs=0.011)


@pytest.mark.parametrize(("n_units", "rows", "unit_spread"), [(12, 1, 0.0), (12, 3, 0.3), (40, 1, 0.3), (100, 2, 0.5)])
def test_new_units_are_covered_nine_times_in_ten(n_units, rows, unit_spread):
    covered = []
    for draw in range(60):
        rng = np.random.default_rng(draw)
        errors, units = made_errors(rng, n_units + 20, rows=rows, unit_spread=unit_spread)
        seen = np.isin(units, [str(u) for u in range(n_units)])
        found = calibrate(errors[seen], units[seen])
        half = found.half_widths({}, int((~seen).sum()))
        covered.append((np.abs(errors[~seen]) <= half).mean())
    assert 0.88 < np.mean(covered) < 0.925


def test_the_pooled_quantile_alone_would_cover_too_little():
    """What the leaving out of units is for: three units that differ much."""
    plain, corrected = [], []
    for draw in range(150):
        errors, _ = made_errors(np.random.default_rng(draw), 23, unit_spread=0.8)
        scores = np.abs(errors / np.linspace(0.2, 2, 60))
        at = coverage_level(scores[:3], np.arange(3)) or 1.0
        plain.append((scores[3:] <= np.quantile(scores[:3], 0.9)).mean())
        corrected.append((scores[3:] <= np.quantile(scores[:3], at)).mean())
    assert np.mean(plain) < 0.87
    assert 0.89 < np.mean(corrected) < 0.95


def test_a_better_model_has_narrower_intervals():
    errors, units = made_errors(np.random.default_rng(0), 50)
    wide = calibrate(errors, units).half_widths({}, 1)
    narrow = calibrate(0.7 * errors, units).half_widths({}, 1)
    np.testing.assert_allclose(narrow, 0.7 * wide, rtol=1e-4)


def test_a_higher_level_gives_wider_intervals():
    errors, units = made_errors(np.random.default_rng(0), 50)
    widths = [calibrate(errors, units, level=level).half_widths({}, 1).mean() for level in (0.5, 0.8, 0.9, 0.95)]
    assert widths == sorted(widths)
    assert widths[0] < 0.5 * widths[-1]


def test_genes_that_are_missed_more_have_wider_intervals():
    errors, units = made_errors(np.random.default_rng(0), 80)
    half = calibrate(errors, units).half_widths({}, 1)[0]
    expected = 1.645 * np.linspace(0.2, 2, 60)
    assert np.corrcoef(half, expected)[0, 1] > 0.97
    assert half.mean() == pytest.approx(expected.mean(), rel=0.08)


def test_a_distance_that_tells_of_errors_is_kept_and_one_that_does_not_is_not():
    rng = np.random.default_rng(0)
    distance = rng.uniform(0.5, 2, 100)
    errors = distance[:, None] * rng.standard_normal((100, 60))
    units = np.arange(100).astype(str)
    found = calibrate(errors, units, {"nearest": distance})
    assert found.pair_part == "nearest"
    assert found.slope == pytest.approx(1, abs=0.15)
    near, far = found.half_widths({"nearest": np.array([0.7, 1.4])}, 2).mean(axis=1)
    assert far / near == pytest.approx(2**found.slope, rel=1e-3)
    assert calibrate(errors[:40], units[:40], {"nearest": distance[:40]}).pair_part == "nearest"
    assert calibrate(errors[:39], units[:39], {"nearest": distance[:39]}).pair_part is None, "too few to tell"
    assert calibrate(errors, units, {"nearest": rng.permutation(distance)}).pair_part is None


def test_a_distance_that_is_zero_everywhere_is_passed_over():
    errors, units = made_errors(np.random.default_rng(0), 50)
    assert calibrate(errors, units, {"nearest": np.zeros(50)}).pair_part is None


@pytest.mark.parametrize("rows", [1, 2])
def test_genes_unmeasured_in_some_rows_are_calibrated_on_the_others(rows):
    errors, units = made_errors(np.random.default_rng(0), 60, rows=rows)
    partly = errors.copy()
    partly[::2, 10:20] = np.nan
    whole, some = (calibrate(e, units).half_widths({}, 1)[0] for e in (errors, partly))
    assert np.isfinite(some).all()
    np.testing.assert_allclose(some[20:], whole[20:], rtol=0.1)
    np.testing.assert_allclose(some[10:20], whole[10:20], rtol=0.25)


def test_a_genes_spread_is_drawn_to_the_geometric_mean_of_all_by_two_units():
    # of two units the mean squares are 1 and 16, their geometric mean 4: (1 + 1 + 2 · 4) / 4 and (16 + 16 + 2 · 4) / 4
    found = calibrate(np.array([[1.0, 4.0], [-1.0, 4.0], [1.0, -4.0]]), ["a", "a", "b"])
    assert found.spread == pytest.approx(np.sqrt([2.5, 10]))
    assert (found.units, found.rows) == (2, 3)
    # a gene that no row measures has the geometric mean itself
    partly = calibrate(np.array([[1.0, 4.0, np.nan], [1.0, 4.0, np.nan]]), ["a", "b"])
    assert partly.spread == pytest.approx(np.sqrt([2.5, 10, 4]))


def test_the_quantile_is_that_of_errors_over_the_spread_of_the_other_units():
    errors, units = made_errors(np.random.default_rng(1), 12, n_genes=7, rows=2)
    errors[3:9, 2] = np.nan
    squares = np.ma.masked_invalid(errors.reshape(12, 2, 7) ** 2).mean(axis=1).filled(np.nan)
    typical = np.exp(np.log(np.nanmean(squares, axis=0)).mean())
    scores = np.empty_like(errors)
    for i in range(24):
        others = np.delete(squares, i // 2, axis=0)
        spread = (np.nansum(others, axis=0) + 2 * typical) / ((~np.isnan(others)).sum(axis=0) + 2)
        scores[i] = np.abs(errors[i]) / np.sqrt(spread)
    at = coverage_level(scores, np.unique(units, return_inverse=True)[1], level=0.8)
    expected = np.quantile(scores[~np.isnan(scores)], at, method="inverted_cdf")
    assert calibrate(errors, units, level=0.8).quantile == pytest.approx(expected, rel=1e-4)


def test_the_largest_score_holds_every_row_and_no_less_would():
    errors, units = made_errors(np.random.default_rng(0), 5)
    found = calibrate(errors, units)
    of_half = np.abs(errors) / replace(found, quantile=found.largest).half_widths({}, len(errors))
    assert of_half.max() == pytest.approx(1, rel=1e-5)
    nothing = calibrate(np.full((3, 4), np.nan), ["a", "b", "c"])
    assert (nothing.largest, nothing.quantile) == (np.inf, np.inf)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_intervals_are_in_the_unit_of_the_errors_and_a_silent_gene_has_a_narrow_one(unit):
    errors, units = made_errors(np.random.default_rng(0), 30)
    errors[:, 0] = 0
    half = calibrate(unit * errors, units).half_widths({}, 1)[0]
    np.testing.assert_allclose(half, unit * calibrate(errors, units).half_widths({}, 1)[0], rtol=1e-4)
    assert 0 < half[0] < half[1:].min()


def test_one_unit_alone_gives_no_level():
    assert coverage_level(np.arange(10.0)[None], np.array([0])) is None


def test_of_many_scores_every_so_many_th_gene_is_looked_at(monkeypatch):
    scores = np.abs(np.random.default_rng(0).standard_normal((24, 26)) * np.linspace(1, 3, 26))
    expected = {step: coverage_level(scores[:, ::step], np.arange(24)) for step in (1, 2, 3)}
    for most, step in ((24 * 26, 1), (24 * 26 - 1, 2), (24 * 13, 2), (24 * 13 - 1, 3)):
        monkeypatch.setattr("stateshift.effects.conformal.calibration.ENOUGH_SCORES", most)
        assert coverage_level(scores, np.arange(24)) == expected[step]


def test_beyond_half_and_twice_the_typical_distance_the_last_width_stands():
    rng = np.random.default_rng(0)
    distance = rng.uniform(0.5, 2, 100)
    errors = distance[:, None] * rng.standard_normal((100, 60))
    found = calibrate(errors, np.arange(100).astype(str), {"nearest": distance})
    assert found.typical == pytest.approx(np.exp(np.log(distance).mean()))
    at = found.typical * np.array([0.1, 0.5, 1, 2, 9])
    half = found.half_widths({"nearest": at}, 5)[:, 0]
    assert half / half[2] == pytest.approx(np.array([0.5, 0.5, 1, 2, 2]) ** found.slope)
    assert half[2] == pytest.approx(found.quantile * found.spread[0])


def test_distances_that_are_no_numbers_or_say_nothing_are_passed_over():
    rng = np.random.default_rng(0)
    distance = rng.uniform(0.5, 2, 100)
    errors, units = distance[:, None] * rng.standard_normal((100, 60)), np.arange(100).astype(str)
    useless = {
        "unknown": np.where(np.arange(100) == 3, np.nan, distance),
        "endless": np.where(np.arange(100) == 3, np.inf, distance),
        "zero": np.where(np.arange(100) == 3, 0, distance),
        "same": np.full(100, 0.7),
    }
    for name, values in useless.items():
        assert calibrate(errors, units, {name: values}).pair_part is None, name
    assert calibrate(errors, units, {**useless, "nearest": distance}).pair_part == "nearest"


def test_a_loud_gene_has_no_more_say_in_the_slope_than_a_quiet_one():
    rng = np.random.default_rng(0)
    distance = rng.uniform(0.5, 2, 100)
    errors = distance[:, None] * rng.standard_normal((100, 60))
    errors[:, 0] = 8 * rng.standard_normal(100)  # distance says nothing of this one
    found = calibrate(errors, np.arange(100).astype(str), {"nearest": distance})
    assert found.slope == pytest.approx(1, abs=0.15)


def test_a_distance_that_narrows_intervals_by_less_than_a_hundredth_is_not_kept():
    rng = np.random.default_rng(0)
    distance = rng.uniform(0.5, 2, 200)
    errors, units = rng.standard_normal((200, 60)), np.arange(200).astype(str)
    kept = {
        power: calibrate(distance[:, None] ** power * errors, units, {"nearest": distance}).pair_part
        for power in (0.15, 0.6)
    }
    assert kept == {0.15: None, 0.6: "nearest"}


def test_the_interval_score_is_the_width_and_twenty_times_what_lies_outside():
    # half-width 2: of 1 the width 4, of −3 the width and 2 / 0.1 times 1
    assert _interval_score(np.array([[1.0, -3.0, np.nan]]), np.full((1, 3), 2.0), 0.9) == pytest.approx(4 + 4 + 20)
