"""Heads of two models side by side: values by hand, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, wasserstein_distance

from depthscope.errors import BadInput
from depthscope.measures.head_pairing import (
    birth_step,
    depth_apart,
    index_correlation,
    top_mean,
    values_apart,
)

RNG = np.random.default_rng(3)


def test_scores_correlate_head_by_head_over_those_that_have_both():
    first, second = RNG.normal(size=(3, 40)), RNG.normal(size=(3, 40))
    second[0], second[1, 7:] = 2 * first[0] + 1, np.nan
    second[2] = 5.0
    found = index_correlation(first, second)
    np.testing.assert_allclose(found.value[0], 1)
    theirs = pearsonr(first[1, :7], second[1, :7])
    np.testing.assert_allclose(found.value[1], theirs.statistic)
    np.testing.assert_allclose([found.low[1], found.high[1]], theirs.confidence_interval(0.95), rtol=1e-5)
    assert found.n.tolist() == [40, 7, 40]
    assert np.isnan(found.value[2]), "a constant score correlates with nothing"
    assert np.isnan(index_correlation(first[:, :2], first[:, :2]).value).all()


def test_weight_in_the_first_and_in_the_last_layer_is_the_whole_depth_apart():
    first, last = np.zeros((3, 2)), np.zeros((5, 4))
    first[0], last[-1] = 1, 1
    assert depth_apart(first, last, draws=0).distance == 1
    half = np.zeros((3, 2))
    half[1] = 1
    assert depth_apart(first, half, draws=0).distance == 0.5
    assert np.isnan(depth_apart(first, np.full((2, 2), -1.0)).distance)


def test_distances_are_those_of_scipy_and_layers_without_a_value_weigh_nothing():
    first, second = RNG.random((6, 4)), RNG.random((9, 3))
    second[4] = np.nan
    weights = np.nan_to_num(second.mean(1))
    places = np.linspace(0, 1, 6), np.linspace(0, 1, 9)
    expected = wasserstein_distance(*places, first.mean(1), weights)
    np.testing.assert_allclose(depth_apart(first, second, draws=3).distance, expected)
    np.testing.assert_allclose(values_apart(np.array([0.0, 1.0, np.nan]), np.array([0.5, 1.5])), 0.5)
    assert np.isnan(values_apart(np.array([np.nan]), np.ones(2)))


def test_a_role_in_one_place_is_nearer_than_random_orders_and_an_even_one_is_not():
    one, other = np.full((10, 4), 0.01), np.full((20, 3), 0.01)
    one[4:6], other[9:12] = 1, 1
    found = depth_apart(one, other)
    assert found.distance < 0.1 < found.null
    assert found.p == 1 / 201
    even = depth_apart(np.ones((10, 4)), np.ones((20, 3)))
    assert even.p == 1


def test_a_label_is_born_where_it_comes_to_stay():
    steps = np.array([0, 10, 20, 40])
    has = np.array([[0, 1, 0, 1], [1, 1, 0, 1], [0, 1, 0, np.nan], [1, 1, 1, 0]])
    np.testing.assert_array_equal(birth_step(has, steps), [40, 0, 40, np.nan])
    np.testing.assert_array_equal(birth_step(np.array([np.nan, 1.0]), np.array([3, 4])), 4)
    with pytest.raises(BadInput, match=r"steps are \[1, 1\]"):
        birth_step(np.ones(2), np.ones(2, int))


def test_the_top_is_a_share_of_the_heads_that_were_measured():
    scores = np.array([[0.0, 4, 2, 1], [np.nan, 1, 3, np.nan], [np.nan] * 4])
    np.testing.assert_array_equal(top_mean(scores, 0.5), [3, 3, np.nan])
    np.testing.assert_array_equal(top_mean(scores), [4, 3, np.nan])
    with pytest.raises(BadInput, match="share=0"):
        top_mean(scores, 0.0)
