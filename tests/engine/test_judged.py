"""Judging a curve: a true winner is found, equal states are not told apart, and choosing brings no luck."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.engine.judged import judged
from depthscope.engine.task_scores import Scored


def right(shares: list[float], items: int, seed: int) -> Scored:
    """Whether each item was right at each state, at random, with these shares."""
    draw = np.random.default_rng(seed).random((len(shares), items))
    return Scored("knn", (draw < np.asarray(shares)[:, None]).astype(float), np.zeros(items))


def test_a_state_that_is_much_better_is_the_best_of_every_draw() -> None:
    found = judged(right([0.3, 0.9, 0.3], 300, 0), 200)
    assert (found.best.value, found.best.low, found.best.high) == (1, 1, 1)
    np.testing.assert_array_equal(found.best_share, [0, 1, 0])
    np.testing.assert_array_equal(found.as_good, [False, True, False])
    assert found.gain.low > 0.4
    assert found.n == 300


def test_equal_states_cannot_be_told_apart() -> None:
    found = judged(right([0.5] * 4, 300, 3), 200)
    assert found.as_good.sum() >= 3
    assert found.best_share.max() < 0.95


def test_choosing_and_scoring_on_the_same_items_is_lucky_and_on_halves_is_not() -> None:
    runs = [judged(right([0.5] * 12, 120, seed), 60) for seed in range(40)]
    seen = np.asarray([float(run.gain_seen.value) for run in runs])
    held = np.asarray([float(run.gain.value) for run in runs])
    assert seen.mean() > 0.05
    assert abs(held.mean()) < 0.025
    covered = np.mean([run.gain.low <= 0 <= run.gain.high for run in runs])
    assert covered >= 0.8


def test_where_the_last_state_is_best_the_gain_lies_below_zero() -> None:
    found = judged(right([0.3, 0.4, 0.9], 300, 0), 200)
    assert found.best.value == 2
    assert found.gain.high < -0.3


def test_a_state_without_a_score_is_never_the_best() -> None:
    scored = right([0.3, 0.9, 0.4], 100, 0)
    scored.values[1] = np.nan
    found = judged(scored, 50)
    assert found.best.value == 2
    assert np.isnan(found.score.value[1])
    nothing = Scored("knn", np.full((3, 9), np.nan), np.zeros(9))
    assert np.isnan(judged(nothing, 20).best.value)


@pytest.mark.parametrize("metric", ["spearman", "average_precision", "v_measure"])
def test_scores_of_whole_sets_are_judged_too(metric: str) -> None:
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 2, 80).astype(float)
    values = np.stack([draw.integers(0, 2, 80).astype(float), gold, draw.integers(0, 2, 80).astype(float)])
    found = judged(Scored(metric, values, gold), 60)
    assert found.best.value == 1
    assert found.gain.low > 0.1
