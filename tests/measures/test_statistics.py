"""Intervals and tests: closed forms, independent computations, and coverage on synthetic data."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from depthscope.errors import BadInput
from depthscope.measures.statistics import (
    bootstrap_curve,
    bootstrap_difference,
    bootstrap_median,
    bootstrap_quantile,
    bootstrap_ratio,
    holm,
    permutation_p,
    weighted_median,
)


def test_statistics_import_no_torch() -> None:
    code = "import sys, depthscope.measures.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_ratio_is_a_ratio_of_sums_and_not_a_mean_of_ratios() -> None:
    # (1 + 8) / (1 + 2) = 3, the mean of ratios would be 2.5
    assert bootstrap_ratio(np.array([1.0, 8.0]), np.array([1, 2])).value == 3


def test_equal_units_have_an_interval_without_width() -> None:
    found = bootstrap_ratio(np.full(10, 3.0), np.full(10, 2))
    assert_allclose(found, [1.5, 1.5, 1.5])


def test_interval_agrees_with_resampling_written_as_a_loop() -> None:
    generator = np.random.default_rng(3)
    sums, counts = generator.normal(size=25), generator.integers(1, 9, size=25)
    drawn = []
    for _ in range(4000):
        chosen = generator.integers(0, 25, size=25)
        drawn.append(sums[chosen].sum() / counts[chosen].sum())
    found = bootstrap_ratio(sums, counts, draws=4000)
    assert_allclose([found.low, found.high], np.quantile(drawn, [0.025, 0.975]), atol=0.02)


def test_a_difference_is_the_second_ratio_minus_the_first() -> None:
    # 12 / 3 - (1 + 8) / (1 + 2) = 1; the second unit holds nothing of the second side
    found = bootstrap_difference(*(np.array(x) for x in ([1.0, 8.0], [1, 2], [12.0, 0.0], [3, 0])))
    assert found.value == 1
    assert np.isnan(found.low)  # one unit only on the second side


def test_what_moves_both_sides_of_a_difference_leaves_it_in_place() -> None:
    generator = np.random.default_rng(0)
    level = 10 * generator.normal(size=40)
    counts = np.full(40, 5)
    found = bootstrap_difference(level * 5, counts, (level + 2) * 5, counts)
    assert_allclose(found, [2, 2, 2])
    alone = bootstrap_ratio(level * 5, counts)
    assert alone.high - alone.low > 1


def test_the_interval_of_a_difference_agrees_with_resampling_written_as_a_loop() -> None:
    generator = np.random.default_rng(5)
    sums, counts = generator.normal(size=(2, 25)), generator.integers(1, 9, size=(2, 25))
    drawn = []
    for _ in range(4000):
        chosen = generator.integers(0, 25, size=25)
        a, b = (sums[k][chosen].sum() / counts[k][chosen].sum() for k in (0, 1))
        drawn.append(b - a)
    found = bootstrap_difference(sums[0], counts[0], sums[1], counts[1], draws=4000)
    assert_allclose([found.low, found.high], np.quantile(drawn, [0.025, 0.975]), atol=0.03)


def test_95_percent_intervals_cover_the_truth_in_90_to_99_percent() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for repetition in range(300):
        # 30 documents of 5 to 39 tokens; document means vary around 2, tokens around their document
        counts = generator.integers(5, 40, size=30)
        means = 2 + generator.normal(size=30)
        sums = means * counts + generator.normal(size=30) * np.sqrt(counts)
        _, low, high = bootstrap_ratio(sums, counts, seed=repetition)
        covered += int(low <= 2 <= high)
    assert 270 <= covered <= 297


def test_median_intervals_cover_the_truth_in_90_to_99_percent() -> None:
    generator = np.random.default_rng(1)
    units = np.repeat(np.arange(30), 5)
    covered = 0
    for repetition in range(300):
        values = 2 + generator.normal(size=30)[units] + generator.normal(size=150)
        _, low, high = bootstrap_median(values, units, draws=400, seed=repetition)
        covered += int(low <= 2 <= high)
    assert 270 <= covered <= 297


def test_items_share_their_draws_and_match_the_same_items_alone() -> None:
    generator = np.random.default_rng(0)
    sums, counts = generator.normal(size=(12, 2, 3)), generator.integers(1, 5, size=(12, 2, 3))
    whole = bootstrap_ratio(sums, counts)
    assert whole.value.shape == (2, 3)
    alone = bootstrap_ratio(sums[:, 1, 2], counts[:, 1, 2])
    assert_allclose([end[1, 2] for end in whole], alone)


def test_counts_of_the_leading_axes_serve_all_items() -> None:
    sums, counts = np.arange(12.0).reshape(4, 3), np.array([1, 2, 3, 4])
    assert_allclose(bootstrap_ratio(sums, counts), bootstrap_ratio(sums, np.tile(counts[:, None], 3)))


def test_no_count_gives_nan_and_one_unit_gives_no_interval() -> None:
    sums = np.array([[1.0, 2.0, 0.0], [1.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    counts = np.array([[1, 4, 0], [1, 0, 0], [2, 0, 0]])
    value, low, high = bootstrap_ratio(sums, counts)
    assert_allclose(value, [1.5, 0.5, np.nan])
    assert_array_equal(np.isnan(low), [False, True, True])
    assert_array_equal(np.isnan(high), [False, True, True])


def test_draws_without_any_count_are_left_out() -> None:
    # 2 of 20 units have counts, so about one draw in eight has none; both ratios are 5
    counts = np.zeros(20)
    counts[:2] = 1
    assert_allclose(bootstrap_ratio(counts * 5, counts), [5, 5, 5])


def test_seed_and_level_are_what_they_say() -> None:
    sums, counts = np.random.default_rng(0).normal(size=20), np.ones(20)
    assert bootstrap_ratio(sums, counts, seed=1) == bootstrap_ratio(sums, counts, seed=1)
    wide, narrow = (bootstrap_ratio(sums, counts, level=level) for level in (0.95, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_counts_of_another_shape_are_refused() -> None:
    with pytest.raises(BadInput, match=r"\(4, 3\).*\(4, 2, 3\)"):
        bootstrap_ratio(np.ones((4, 2, 3)), np.ones((4, 3)))


def test_whole_number_weights_give_the_median_of_repeated_values() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        values, weights = generator.normal(size=9), generator.integers(0, 4, size=9)
        if weights.sum():
            assert weighted_median(values, weights) == np.median(np.repeat(values, weights))


def test_weighted_median_by_hand() -> None:
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([0.6, 0.2, 0.2])) == 3
    # the split falls between 1 and 2
    assert weighted_median(np.array([1.0, 2.0]), np.array([0.5, 0.5])) == 1.5
    # NaN is left out
    assert weighted_median(np.array([np.nan, 4.0]), np.array([9.0, 1.0])) == 4


def test_weighted_median_of_nothing_is_nan_and_of_negative_weight_refused() -> None:
    assert np.isnan(weighted_median(np.array([1.0]), np.array([0.0])))
    with pytest.raises(BadInput, match="-1"):
        weighted_median(np.array([1.0]), np.array([-1.0]))


def test_median_resamples_units_and_not_values() -> None:
    # 2 units of 500 equal values: whole units are drawn, so the ends are the units' own values
    values, units = np.repeat([0.0, 1.0], 500), np.repeat(["a", "b"], 500)
    assert_allclose(bootstrap_median(values, units), [0.5, 0, 1])


def test_median_of_singleton_units_agrees_with_resampling_written_as_a_loop() -> None:
    values = np.random.default_rng(0).normal(size=40)
    generator = np.random.default_rng(1)
    drawn = [np.median(values[generator.integers(0, 40, size=40)]) for _ in range(4000)]
    found = bootstrap_median(values, np.arange(40), draws=4000)
    assert found.value == np.median(values)
    assert_allclose([found.low, found.high], np.quantile(drawn, [0.025, 0.975]), atol=0.05)


def test_blocks_do_not_change_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values, units = np.random.default_rng(0).normal(size=60), np.arange(60) % 10
    whole = bootstrap_median(values, units), permutation_p(values[:30], values[30:], draws=500)
    monkeypatch.setattr("depthscope.measures.statistics.BLOCK", 200)
    assert whole == (bootstrap_median(values, units), permutation_p(values[:30], values[30:], draws=500))


def test_median_without_values_or_with_one_unit_has_no_interval() -> None:
    assert np.isnan(bootstrap_median(np.array([np.nan]), np.array([0]))).all()
    assert_allclose(bootstrap_median(np.array([1.0, 3.0]), np.array([7, 7])), [2, np.nan, np.nan])


def test_permutation_p_matches_the_exact_count() -> None:
    # 1 2 3 against 4 5 6: of 20 splits only the two extreme ones differ by 3 or more: p = 0.1
    found = permutation_p(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), draws=20_000)
    assert found == pytest.approx(0.1, abs=0.01)


def test_permutation_p_of_equal_values_is_one_and_never_zero_for_others() -> None:
    assert permutation_p(np.ones(4), np.ones(5)) == 1
    assert permutation_p(np.zeros(30), np.ones(30) * 9, draws=999) == pytest.approx(1 / 1000)


def test_permutation_p_is_uniform_where_there_is_no_difference() -> None:
    generator = np.random.default_rng(0)
    found = [permutation_p(*generator.normal(size=(2, 12)), draws=199, seed=s) for s in range(200)]
    # a 5 % test errs in 10 of 200; four standard errors are 12
    assert sum(p <= 0.05 for p in found) <= 22
    assert 0.4 < np.mean(found) < 0.6


def test_permutation_p_without_a_group_or_with_nan_is_nan() -> None:
    assert np.isnan(permutation_p(np.array([]), np.ones(3)))
    assert np.isnan(permutation_p(np.array([np.nan]), np.ones(3)))


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04: x4 .04, x3 .06, x2 .06, x1 .04 -> running maximum .04 .06 .06 .06
    assert_allclose(holm(np.array([0.04, 0.01, 0.03, 0.02])), [0.06, 0.04, 0.06, 0.06])


def test_holm_is_capped_at_one_and_leaves_nan_uncounted() -> None:
    assert_allclose(holm(np.array([0.9, np.nan, 0.6])), [1, np.nan, 1])
    assert_allclose(holm(np.array([0.3, np.nan])), [0.3, np.nan])


def test_a_quantile_is_the_value_that_a_share_does_not_exceed():
    values, units = np.arange(1.0, 21.0), np.repeat(np.arange(10), 2)
    assert bootstrap_quantile(values, units, 0.95).value == 19
    assert bootstrap_quantile(values, units, 0.951).value == 20
    assert bootstrap_quantile(values, units, 1.0).value == 20
    assert bootstrap_quantile(np.array([np.nan, 3.0]), np.array([0, 1]), 0.5).value == 3
    assert np.isnan(bootstrap_quantile(np.array([np.nan]), np.array([0]), 0.5)).all()
    with pytest.raises(BadInput):
        bootstrap_quantile(values, units, 0.0)


def test_the_quantile_of_each_draw_is_that_of_the_repeated_values():
    rng = np.random.default_rng(3)
    values, units = rng.normal(size=30), np.arange(30) // 3
    drawn = np.random.default_rng(5).multinomial(10, np.full(10, 0.1), size=200)
    tails = [np.quantile(np.repeat(values, d[units]), 0.9, method="inverted_cdf") for d in drawn]
    found = bootstrap_quantile(values, units, 0.9, draws=200, seed=5)
    assert_allclose([found.low, found.high], np.quantile(tails, [0.025, 0.975]))


def test_a_statistic_of_a_curve_is_drawn_with_its_units():
    sums = np.array([[1.0, 4.0], [3.0, 0.0], [2.0, 2.0]])
    counts = np.array([[1, 2], [1, 2], [2, 2]])
    drawn = np.random.default_rng(2).multinomial(3, np.full(3, 1 / 3), size=300)
    curves = (drawn @ sums) / (drawn @ counts)
    found = bootstrap_curve(sums, counts, lambda c: c[:, 0] - c[:, 1], draws=300, seed=2)
    assert found.value == 6 / 4 - 6 / 6
    assert_allclose([found.low, found.high], np.quantile(curves[:, 0] - curves[:, 1], [0.025, 0.975]))
    assert np.isnan(bootstrap_curve(sums[:1], counts[:1], lambda c: c[:, 0]).low)
