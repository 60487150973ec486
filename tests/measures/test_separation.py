"""Pairs counted by hand, p-values of scipy, and intervals that resample whole units."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control, mannwhitneyu, spearmanr

from depthscope.measures.separation import auc, false_discovery, rank_correlation, rank_sum_p

DRAW = np.random.default_rng(0)
HIGH = np.arange(40) % 3 == 0
VALUES = np.round(DRAW.normal(size=40) + HIGH, 1)  # with ties
EACH = np.arange(40)


def test_the_area_is_the_share_of_pairs_won():
    found = auc(np.array([1.0, 2.0, 2.0, 5.0]), np.array([False, True, False, True]), np.arange(4))
    # 2 against 1 won, 2 against 2 half, 5 against both won
    assert found.value == pytest.approx(3.5 / 4)
    assert auc(VALUES, HIGH, EACH).value == pytest.approx(
        mannwhitneyu(VALUES[HIGH], VALUES[~HIGH]).statistic / (HIGH.sum() * (~HIGH).sum())
    )
    assert np.isnan(auc(VALUES, HIGH & False, EACH).value)


def test_few_units_of_many_items_make_a_wider_interval():
    alone, together = auc(VALUES, HIGH, EACH), auc(VALUES, HIGH, EACH // 10)
    assert alone.low < alone.value < alone.high
    assert together.value == alone.value
    assert np.isnan(auc(VALUES, HIGH, EACH * 0).low)
    # an item repeated within its unit is no new evidence
    twice = auc(np.tile(VALUES, 2), np.tile(HIGH, 2), np.tile(EACH, 2))
    np.testing.assert_allclose(twice, alone, atol=1e-12)


def test_the_rank_sum_p_is_that_of_scipy_with_ties():
    expected = mannwhitneyu(VALUES[HIGH], VALUES[~HIGH], method="asymptotic", use_continuity=False).pvalue
    assert rank_sum_p(VALUES, HIGH) == pytest.approx(expected)
    assert rank_sum_p(np.ones(5), np.arange(5) > 2) == 1
    assert math.isnan(rank_sum_p(VALUES, HIGH | True))


def test_q_values_are_those_of_benjamini_and_hochberg_and_skip_what_was_not_tested():
    p = np.array([0.01, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(false_discovery(p), [0.04, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.5])
    many = DRAW.random(30)
    np.testing.assert_allclose(false_discovery(many), false_discovery_control(many))
    np.testing.assert_allclose(false_discovery(np.array([0.01, np.nan])), [0.01, np.nan])


def test_rank_correlations_of_many_cells_are_those_of_scipy():
    x, y = np.round(DRAW.normal(size=(2, 30, 3)), 1)
    y[:, 2] = 1.0
    found = rank_correlation(x, y + 0.5 * x * (np.arange(3) < 2), np.arange(30))
    expected = [spearmanr(x[:, k], y[:, k] + 0.5 * x[:, k]).statistic for k in range(2)]
    np.testing.assert_allclose(found.value[:2], expected)
    assert np.isnan(found.value[2])
    assert np.isnan(found.low[2])
    assert ((found.low < found.value) & (found.value < found.high))[:2].all()
    assert np.isnan(rank_correlation(x, x, np.zeros(30)).low).all()
