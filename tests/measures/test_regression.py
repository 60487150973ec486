"""Least squares against numpy's own, differences of means by hand, and the coverage of the intervals."""

from __future__ import annotations

import numpy as np

from depthscope.measures.statistics import bootstrap_regression


def test_coefficients_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    design = np.concatenate([np.ones((80, 1)), rng.normal(size=(80, 2))], 1)
    values = design @ [1.0, -2.0, 0.5] + rng.normal(size=80)
    expected = np.linalg.lstsq(design, values, rcond=None)[0]
    np.testing.assert_allclose(
        bootstrap_regression(design, values, np.arange(80)).value, expected, atol=1e-10
    )


def test_with_a_group_the_coefficient_is_the_difference_of_means() -> None:
    group = np.array([0, 0, 0, 1, 1])
    values = np.array([1.0, 2.0, 3.0, 10.0, 12.0])
    found = bootstrap_regression(np.stack([np.ones(5), group], 1), values, np.arange(5)).value
    np.testing.assert_allclose(found, [2.0, 9.0])


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(1), 0
    for trial in range(200):
        units = np.repeat(np.arange(60), 3)
        x = rng.normal(size=180)
        y = 0.7 * x + rng.normal(size=60)[units] + rng.normal(size=180)
        found = bootstrap_regression(np.stack([np.ones(180), x], 1), y, units, 200, trial)
        hits += bool(found.low[1] <= 0.7 <= found.high[1])
    assert 0.87 <= hits / 200 <= 0.995


def test_items_with_a_missing_number_are_left_out() -> None:
    design = np.stack([np.ones(4), [0.0, 1.0, 2.0, 3.0]], 1)
    values = np.array([1.0, 3.0, np.nan, 7.0])
    np.testing.assert_allclose(
        bootstrap_regression(design, values, np.arange(4)).value, [1.0, 2.0], atol=1e-12
    )


def test_columns_that_depend_on_each_other_and_single_units_have_no_answer() -> None:
    twice = np.stack([np.ones(6), 2 * np.ones(6)], 1)
    assert np.isnan(bootstrap_regression(twice, np.arange(6.0), np.arange(6))).all()
    line = np.stack([np.ones(6), np.arange(6.0)], 1)
    found = bootstrap_regression(line, np.arange(6.0), np.zeros(6))
    assert np.isfinite(found.value).all()
    assert np.isnan(found.low).all()
