import numpy as np
import pytest

from stateshift.effects.conformal import calibrate, coverage_level


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
