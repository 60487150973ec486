"""Correlates: by hand, against scipy, and with depth taken out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from depthscope.measures.correlates import correlate, distance_correlation


def test_the_rank_correlation_is_scipys_ties_and_gaps_included() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 5, 20).astype(float), draw.normal(size=20)
    expected = np.asarray(spearmanr(x[1:], y[1:]))[0]
    x[0] = np.nan
    assert correlate(x, y, np.arange(20.0), 9).spearman == pytest.approx(expected)


def test_curves_that_only_share_depth_have_nothing_left_without_it() -> None:
    draw, depth = np.random.default_rng(1), np.arange(200.0)
    x, y = depth + 20 * draw.normal(size=200), depth + 20 * draw.normal(size=200)
    found = correlate(x, y, depth, 9)
    assert found.spearman > 0.8
    assert abs(found.partial) < 0.2
    assert correlate(x, y + 3 * (x - depth), depth, 9).partial > 0.8


def test_the_partial_correlation_is_that_of_residual_ranks() -> None:
    draw = np.random.default_rng(2)
    x, y, z = (draw.permutation(30).astype(float) for _ in range(3))
    design = np.stack([np.ones(30), z], 1)
    left = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    assert correlate(x, y, z, 9).partial == pytest.approx(np.corrcoef(left[0], left[1])[0, 1])


def test_distance_correlation_by_hand() -> None:
    x = np.asarray([0.0, 1.0, 2.0])
    assert distance_correlation(x, -3 * x) == pytest.approx(1.0)
    assert distance_correlation(x, np.full(3, 7.0)) == 0.0
    # y = |x| around 0: no rank correlation, but not independent
    bent = np.arange(-25.0, 26.0)
    found = correlate(bent, np.abs(bent), np.arange(51.0), 99)
    assert abs(found.spearman) < 1e-9
    assert found.distance > 0.4
    assert found.p < 0.05


def test_p_of_unrelated_points_is_spread_and_of_related_ones_small() -> None:
    draw = np.random.default_rng(3)
    ps = [correlate(draw.normal(size=12), draw.normal(size=12), np.arange(12.0), 39, k).p for k in range(30)]
    assert np.mean(np.asarray(ps) <= 0.1) < 0.3
    line = np.arange(12.0)
    assert correlate(line, -line, line, 39).p == pytest.approx(1 / 40)
    assert correlate(line, -line, line, 39).spearman == pytest.approx(-1)


def test_too_few_or_constant_points_have_no_correlation() -> None:
    assert np.isnan(correlate(np.arange(3.0), np.arange(3.0), np.arange(3.0))).all()
    assert np.isnan(correlate(np.ones(9), np.arange(9.0), np.arange(9.0))).all()
