"""Scores of items: against scikit-learn and scipy, on items really repeated as often as their weights say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, ndcg_score, v_measure_score

from depthscope.measures.scores import (
    ndcg,
    pair_cosines,
    ranked,
    ranking_precision,
    reciprocal_rank,
    weighted_average_precision,
    weighted_mean,
    weighted_spearman,
    weighted_v_measure,
)

Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _plain_spearman(values: np.ndarray, gold: np.ndarray) -> float:
    return float(np.asarray(spearmanr(values, gold))[0])


def _plain_precision(values: np.ndarray, gold: np.ndarray) -> float:
    return float(average_precision_score(gold, values))


def _plain_v_measure(values: np.ndarray, gold: np.ndarray) -> float:
    return float(v_measure_score(gold, values))


def _plain_mean(values: np.ndarray, gold: np.ndarray) -> float:
    return float(np.nanmean(values))


CASES = [
    (weighted_spearman, _plain_spearman, 5),
    (weighted_average_precision, _plain_precision, 2),
    (weighted_v_measure, _plain_v_measure, 4),
    (weighted_mean, _plain_mean, 3),
]


@pytest.mark.parametrize(("ours", "plain", "golds"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_a_weighted_score_is_the_score_of_repeated_items(
    ours: Score, plain: Callable[[np.ndarray, np.ndarray], float], golds: int
) -> None:
    draw = np.random.default_rng(0)
    for _ in range(5):
        values = draw.integers(0, 6, 30).astype(float)  # few values: many ties
        gold = draw.integers(0, golds, 30).astype(float)
        weights = draw.multinomial(30, np.full(30, 1 / 30), size=3)
        expected = [plain(np.repeat(values, w), np.repeat(gold, w)) for w in weights]
        np.testing.assert_allclose(ours(values, gold, weights), expected, atol=1e-9)


@pytest.mark.parametrize("ours", [case[0] for case in CASES])
def test_a_draw_without_items_has_no_score(ours: Score) -> None:
    values = np.arange(4.0)
    assert np.isnan(ours(values, np.asarray([0.0, 1.0, 1.0, 0.0]), np.zeros((1, 4), np.int64))).all()


def test_items_that_were_never_tested_are_left_out_of_a_mean() -> None:
    values, weights = np.asarray([1.0, np.nan, 0.0]), np.asarray([[1, 5, 1], [0, 1, 0]])
    np.testing.assert_array_equal(weighted_mean(values, values, weights), [0.5, np.nan])


def test_equal_values_have_no_rank_correlation_and_no_ones_no_precision() -> None:
    flat, weights = np.ones(4), np.ones((1, 4))
    assert np.isnan(weighted_spearman(flat, np.arange(4.0), weights)).all()
    assert np.isnan(weighted_spearman(np.arange(4.0), flat, weights)).all()
    assert np.isnan(weighted_average_precision(np.arange(4.0), np.zeros(4), weights)).all()


def test_equal_scores_rank_as_badly_as_they_can() -> None:
    relevant = np.asarray([True, False, False])
    np.testing.assert_array_equal(ranked(np.zeros(3), relevant), [False, False, True])
    np.testing.assert_array_equal(ranked(np.asarray([1.0, 0.0, 2.0]), relevant), [False, True, False])


def test_scores_of_a_ranking_by_hand() -> None:
    relevant = np.asarray([False, True, False, True])
    assert reciprocal_rank(relevant) == 0.5
    assert ranking_precision(relevant) == pytest.approx((1 / 2 + 2 / 4) / 2)
    gain = 1 / np.log2(3) + 1 / np.log2(5)
    assert ndcg(relevant) == pytest.approx(gain / (1 + 1 / np.log2(3)))
    assert ndcg(relevant, 2) == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    nothing = np.zeros(3, bool)
    assert (reciprocal_rank(nothing), ranking_precision(nothing), ndcg(nothing)) == (0.0, 0.0, 0.0)


def test_ndcg_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    scores, relevant = draw.normal(size=40), draw.random(40) < 0.3
    expected = ndcg_score(relevant[None].astype(float), scores[None], k=10)
    assert ndcg(ranked(scores, relevant)) == pytest.approx(expected)


def test_cosines_by_hand() -> None:
    first, second = np.asarray([[3.0, 4.0], [0.0, 0.0]]), np.asarray([[4.0, 3.0], [1.0, 0.0]])
    np.testing.assert_allclose(pair_cosines(first, second), [24 / 25, 0.0])
