"""Overlaps of heads by hand, and against scipy."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy.stats import spearmanr

from depthscope.errors import BadInput
from depthscope.measures.head_overlap import (
    _correlated_orders,
    correlation_interval,
    matched_heads,
    overlap,
    rank_correlations,
    rank_correlations_given,
)

RNG = np.random.default_rng(0)


def test_correlations_are_those_of_scipy_over_the_heads_that_have_both():
    scores = RNG.normal(size=(3, 30))
    scores[2, 5:9] = np.nan
    found = rank_correlations(scores)
    keep = np.isfinite(scores[2])
    np.testing.assert_allclose(found[0, 1], spearmanr(scores[0], scores[1]).statistic)
    np.testing.assert_allclose(found[0, 2], spearmanr(scores[0][keep], scores[2][keep]).statistic)
    np.testing.assert_allclose(np.diag(found), 1)
    assert np.isnan(rank_correlations(np.array([[1.0, 1, 1], [1, 2, 3]]))[0, 1])


def test_what_depth_explains_is_taken_out():
    depth = np.repeat(np.arange(10.0), 20)
    noise = RNG.normal(size=(2, 200))
    scores = depth + 2 * noise
    assert rank_correlations(scores)[0, 1] > 0.5
    assert abs(rank_correlations_given(scores, depth)[0, 1]) < 0.2
    alone = rank_correlations_given(scores, np.zeros(200))
    np.testing.assert_allclose(alone, rank_correlations(scores))


def test_overlap_by_hand():
    a = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, np.nan])
    b = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1.0])
    found = overlap(a, b)
    assert (found.both, found.either, found.jaccard) == (2, 4, 0.5)
    by_chance = (comb(3, 2) * comb(7, 1) + comb(3, 3)) / comb(10, 3)
    np.testing.assert_allclose(found.p, by_chance)
    nobody = overlap(np.zeros(4), np.zeros(4))
    assert np.isnan(nobody.jaccard)
    assert np.isnan(nobody.p)


def test_permuted_heads_are_found_again():
    first = RNG.normal(size=(12, 4))
    order = RNG.permutation(12)
    found = matched_heads(first, 5 * first[order] + 3, draws=40)
    assert (order[found.pairs[:, 1]] == found.pairs[:, 0]).all()
    np.testing.assert_allclose(found.correlation, 1)
    assert found.p == found.p_given == 1 / 41
    assert matched_heads(first, RNG.normal(size=(12, 4)), draws=40).p > 0.02


def test_matching_needs_scores_that_vary():
    with pytest.raises(BadInput, match="1 scores vary in both models"):
        matched_heads(np.stack([np.arange(4.0), np.ones(4)], 1), RNG.normal(size=(5, 2)))


def test_heads_of_equal_correlations_are_paired_by_these_alone_and_kinds_of_heads_by_more():
    scale = np.array([[1, 0.9, 0.9], [0, 0.4, 0], [0, 0, 0.4]])
    first, second = (RNG.normal(size=(n, 3)) @ scale for n in (40, 50))
    found = matched_heads(first, second, draws=60)
    assert found.p == 1 / 61
    assert found.p_given > 0.05
    # three kinds that no pair of scores tells: each score is high in one kind alone or in none
    kinds = np.eye(3)[np.arange(48) % 3] * (np.arange(48) < 36)[:, None]
    noisy = [kinds + RNG.normal(0, 0.05, kinds.shape) for _ in range(2)]
    assert matched_heads(*noisy, draws=60).p_given == 1 / 61


def test_orders_that_keep_correlations_keep_every_value_too():
    values = RNG.normal(size=(400, 2)) @ np.array([[1, 0.8], [0, 0.6]])
    values[:, 1] = np.exp(values[:, 1])
    dealt = _correlated_orders(values, 20, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(dealt[0], 0), np.sort(values, 0))
    mean = np.mean([spearmanr(one[:, 0], one[:, 1]).statistic for one in dealt])
    np.testing.assert_allclose(mean, spearmanr(values[:, 0], values[:, 1]).statistic, atol=0.03)


def test_an_interval_of_a_correlation_by_fisher():
    found = correlation_interval(np.array([0.5, 0.5]), np.array([103, 3]))
    np.testing.assert_allclose(found.low[0], np.tanh(np.arctanh(0.5) - 0.1959964), rtol=1e-6)
    assert np.isnan(found.low[1])
