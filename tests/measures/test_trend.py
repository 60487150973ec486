"""Trends over levels against scipy, against all permutations counted out, and against least squares written plainly."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from depthscope.errors import BadInput
from depthscope.measures.trend import (
    WORDS,
    depth_score,
    detectable,
    equivalence_p,
    jonckheere,
    least_squares,
    strata,
    stratified_spearman,
    verdict,
)


def test_the_effect_of_one_layer_scores_that_layer() -> None:
    np.testing.assert_array_equal(depth_score(np.eye(5)), np.arange(5))


def test_depth_scores_are_centres_of_mass_and_nothing_has_none() -> None:
    found = depth_score(np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(found, [1.5, np.nan])


def test_equal_lengths_share_a_stratum_and_others_are_cut_into_thirds() -> None:
    np.testing.assert_array_equal(strata(np.array([7, 7, 7, 7])), [0, 0, 0, 0])
    np.testing.assert_array_equal(np.bincount(strata(np.arange(30))), [10, 10, 10])
    with pytest.raises(BadInput, match="parts=0"):
        strata(np.arange(3), 0)


def test_the_rank_correlation_is_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    level = rng.integers(1, 6, 60)
    score = np.round(level + 3 * rng.normal(size=60))
    found = stratified_spearman(level, score, np.zeros(60, int), draws=2000)
    expected = stats.spearmanr(level, score)
    np.testing.assert_allclose(found.value, expected.statistic, rtol=1e-12)
    assert abs(found.p - expected.pvalue) < 0.02


def test_the_permutation_p_is_the_share_of_all_permutations_within_groups() -> None:
    level, score = np.array([1, 2, 3, 1, 2, 4]), np.array([0.3, 0.1, 0.9, 1.5, 1.2, 2.0])
    x, y = stats.rankdata(level), stats.rankdata(score)
    drawn = np.array([x[[*a, *b]] @ y for a in permutations(range(3)) for b in permutations(range(3, 6))])
    mean = drawn.mean()
    exact = np.mean(np.abs(drawn - mean) >= abs(x @ y - mean) - 1e-12)
    found = stratified_spearman(level, score, np.array([0, 0, 0, 1, 1, 1]), draws=20_000)
    assert abs(found.p - exact) < 0.012


def test_a_trend_that_comes_with_the_length_alone_is_no_evidence() -> None:
    rng = np.random.default_rng(3)
    length = np.repeat([0, 1, 2], 60)
    level = length + rng.integers(0, 2, 180)
    score = 5.0 * length + rng.normal(size=180)
    assert stratified_spearman(level, score, np.zeros(180, int), draws=500).p < 0.01
    assert stratified_spearman(level, score, strata(length), draws=500).p > 0.05


def test_one_level_or_one_score_has_no_correlation() -> None:
    one = np.ones(4)
    assert np.isnan(stratified_spearman(one, np.arange(4), np.zeros(4, int))).all()
    assert np.isnan(jonckheere(np.arange(4), one)).all()
    assert np.isnan(jonckheere(one, np.arange(4))).all()


@pytest.mark.parametrize("score", [[0.1, 0.5, 0.2, 0.9, 0.7, 1.4], [1.0, 2.0, 2.0, 2.0, 3.0, 1.0]])
def test_ordered_groups_are_tested_against_the_moments_of_all_permutations(score: list[float]) -> None:
    level = [1, 1, 2, 2, 3, 3]

    def pairs(of: tuple[float, ...] | list[float]) -> float:
        wins = [
            (of[i] < of[j]) + (of[i] == of[j]) / 2 for i in range(6) for j in range(6) if level[i] < level[j]
        ]
        return float(sum(wins))

    drawn = np.array([pairs(p) for p in permutations(score)])
    z = (pairs(score) - drawn.mean()) / drawn.std()
    found = jonckheere(np.array(level), np.array(score))
    np.testing.assert_allclose(found, [z, 2 * stats.norm.sf(abs(z))], rtol=1e-12)


def test_coefficients_and_clustered_errors_are_those_of_the_formula_written_out() -> None:
    rng = np.random.default_rng(1)
    units = np.repeat(np.arange(12), 4)
    x = np.column_stack([np.ones(48), rng.normal(size=(48, 2))])
    y = x @ [1.0, 0.5, -2.0] + rng.normal(size=12)[units] + rng.normal(size=48)
    found = least_squares(x, y, units)
    beta = np.linalg.lstsq(x, y, rcond=None)[0]
    residual, bread = y - x @ beta, np.linalg.pinv(x.T @ x)
    meat = sum(
        np.outer(x[units == u].T @ residual[units == u], x[units == u].T @ residual[units == u])
        for u in range(12)
    )
    covariance = bread @ meat @ bread * (12 / 11) * (47 / 45)
    np.testing.assert_allclose(found.value, beta, rtol=1e-10)
    np.testing.assert_allclose(found.error, np.sqrt(np.diag(covariance)), rtol=1e-10)
    assert found.freedom == 11


def test_dependent_columns_have_no_coefficients() -> None:
    x = np.column_stack([np.ones(5), np.arange(5), 2 * np.arange(5)])
    assert np.isnan(least_squares(x, np.arange(5), np.arange(5)).value).all()


@pytest.mark.parametrize("shift", [0.0, 0.15, -0.4])
def test_equivalence_is_two_one_sided_t_tests_of_scipy(shift: float) -> None:
    sample = np.random.default_rng(2).normal(shift, 1.0, 40)
    fit = least_squares(np.ones((40, 1)), sample, np.arange(40))
    found = equivalence_p(fit.value[0], fit.error[0], fit.freedom, 0.3)
    above = stats.ttest_1samp(sample, -0.3, alternative="greater").pvalue
    below = stats.ttest_1samp(sample, 0.3, alternative="less").pvalue
    np.testing.assert_allclose(found, max(above, below), rtol=1e-10)


def test_equivalence_at_five_percent_is_the_ninety_percent_interval_within_the_margin() -> None:
    half = stats.t.ppf(0.95, 30) * 0.1
    assert (
        equivalence_p(0.2, 0.1, 30, 0.2 + half + 1e-6) < 0.05 < equivalence_p(0.2, 0.1, 30, 0.2 + half - 1e-6)
    )
    with pytest.raises(BadInput, match="margin above 0"):
        equivalence_p(0.2, 0.1, 30, 0.0)


def test_a_slope_of_the_detectable_size_is_found_about_as_often_as_the_power_says() -> None:
    rng, hits, x = np.random.default_rng(4), 0, np.column_stack([np.ones(60), np.arange(60) % 5])
    slope = detectable(least_squares(x, rng.normal(size=60_000)[:60], np.arange(60)).error[1], 59)
    for _ in range(400):
        fit = least_squares(x, slope * x[:, 1] + rng.normal(size=60), np.arange(60))
        hits += abs(fit.value[1]) > stats.t.ppf(0.975, fit.freedom) * fit.error[1]
    assert 0.65 < hits / 400 < 0.93
    assert np.isnan(detectable(float("nan"), 59))


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (0.1, 0.5, 0.4, "uses more depth"),
        (-0.5, -0.1, 0.4, "uses less depth"),
        (-0.1, 0.1, 0.01, "no meaningful change"),
        (0.01, 0.02, 0.01, "no meaningful change"),
        (-0.4, 0.5, 0.3, "inconclusive"),
        (float("nan"), float("nan"), float("nan"), "inconclusive"),
    ],
)
def test_the_verdict_is_what_interval_and_equivalence_allow(
    low: float, high: float, p: float, said: str
) -> None:
    assert WORDS.get(verdict(low, high, p), "inconclusive") == said
