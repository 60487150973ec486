"""Transitions of curves: places and sizes known by hand, p-values of order and of none."""

from __future__ import annotations

import numpy as np

from depthscope.measures.statistics import resampled
from depthscope.measures.transitions import last_rise, line_left, two_levels, two_levels_p


def test_the_last_rise_is_the_last_negative_value_before_one_that_is_not() -> None:
    curves = np.array([[-1.0, 1, -2, 0], [1, 2, 3, 4], [-1, -2, -3, -4], [3, -1, 1, -2]])
    np.testing.assert_array_equal(last_rise(curves), [2, np.nan, np.nan, 1])
    assert np.isnan(last_rise(np.array([1.0])))


def test_two_levels_are_found_where_they_were_put() -> None:
    found = two_levels(np.array([1.0, 1, 1, 1, 4, 4, 4]))
    assert found.place == 3
    np.testing.assert_allclose((found.size, found.left), (3, 0), atol=1e-12)


def test_two_levels_equal_a_search_over_all_splits() -> None:
    curve = np.random.default_rng(0).normal(size=11)
    errors = {k: curve[:k].var() * k + curve[k:].var() * (11 - k) for k in range(3, 9)}
    best = min(errors, key=lambda k: errors[k])
    found = two_levels(curve)
    assert found.place == best - 1
    np.testing.assert_allclose(found.left, errors[best] / (curve.var() * 11))
    np.testing.assert_allclose(found.size, curve[best:].mean() - curve[:best].mean())


def test_a_short_flat_or_broken_curve_has_no_change() -> None:
    assert np.isnan(two_levels(np.ones(5)).place)
    assert two_levels(np.ones(8)).left == 1
    assert np.isnan(two_levels(np.array([1.0, np.nan, 1, 1, 2, 2, 2])).place)
    assert two_levels_p(np.ones(8)) == 1
    assert np.isnan(two_levels_p(np.ones(3)))


def test_a_step_has_a_small_p_and_noise_has_a_large_one() -> None:
    step = np.r_[np.zeros(10), np.ones(10)] + 0.1 * np.random.default_rng(1).normal(size=20)
    assert two_levels_p(step) < 0.01
    chance = [two_levels_p(np.random.default_rng(k).normal(size=20), draws=200) for k in range(40)]
    # under the null p is about uniform: 40 of them stay clear of what a biased test would give
    assert 0.3 < np.mean(chance) < 0.7
    assert np.mean(np.less(chance, 0.05)) < 0.2


def test_a_line_fits_a_trend_and_not_a_step() -> None:
    trend, step = np.arange(12.0), np.r_[np.zeros(6), np.ones(6)]
    np.testing.assert_allclose(line_left(trend), 0, atol=1e-12)
    assert line_left(trend) < two_levels(trend).left
    assert line_left(step) > two_levels(step).left
    assert line_left(np.ones(4)) == 1


def test_resampled_curves_are_ratios_of_sums_of_drawn_units() -> None:
    sums, counts = np.array([[2.0, 0], [6, 0]]), np.array([[1, 0], [1, 0]])
    drawn = resampled(sums, counts, draws=200, seed=0)
    assert set(drawn[:, 0]) == {2, 4, 6}
    assert np.isnan(drawn[:, 1]).all()
