"""Early exits by hand: where rules stop, what it costs, how loose they may be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from depthscope.measures.exits import ExitCost, first_check, logistic_probability, loosest, run_length


def test_run_lengths_by_hand() -> None:
    ids = np.array([[4, 4, 4, 4], [1, 2, 2, 1], [7, 7, 8, 8]])
    assert_array_equal(run_length(ids), [[1, 2, 3, 4], [1, 1, 2, 1], [1, 2, 1, 2]])


def test_patience_one_on_identical_predictions_stops_at_the_first_check() -> None:
    patience = run_length(np.full((3, 5), 9))
    assert_array_equal(first_check(patience, np.array([1, 2, 5, 6])), [[0, 1, 4, 5]] * 3)


def test_a_rule_stops_at_the_first_score_that_reaches_the_threshold() -> None:
    score = np.array([[0.1, 0.6, 0.3], [0.5, 0.9, 0.2]])
    assert_array_equal(first_check(score, np.array([0.0, 0.5, 0.6, 0.95])), [[0, 1, 1, 3], [0, 0, 1, 3]])


@pytest.mark.parametrize(
    ("low", "walked"),
    [
        ([0.99, 0.97, 0.96], 3),
        ([0.99, 0.94, 0.96], 1),  # the third passes by luck: not looked at
        ([0.94, 0.99], 0),
        ([np.nan, 0.99], 0),
        ([0.95], 1),
        ([], 0),
    ],
)
def test_the_loosest_threshold_is_the_last_before_the_first_miss(low: list[float], walked: int) -> None:
    assert loosest(np.array(low), 0.95) == walked


def test_net_saving_by_hand() -> None:
    # three blocks of 10, 20, 30 and a head of 40: 100 in all; each look costs 45 (head and a lens of 5)
    cost = ExitCost(np.array([10.0, 20.0, 30.0]), head=40.0, lens=5.0, check=45.0, decodes=True)
    checks = np.array([1, 2])
    # stop at state 1: 10 + 45 = 55. at state 2 after one failed look: 30 + 90 = 120. never: 60 + 90 + 40 = 190
    assert_allclose(cost.saving(np.array([0, 1, 2]), checks), [0.45, -0.20, -0.90])


def test_a_look_that_does_not_decode_pays_for_the_output_when_it_stops() -> None:
    cost = ExitCost(np.array([10.0, 20.0, 30.0]), head=40.0, lens=5.0, check=1.0, decodes=False)
    # stop at state 1: 10 + 1 + 45 = 56. at state 2: 30 + 2 + 45 = 77. never: 60 + 2 + 40 = 102
    assert_allclose(cost.saving(np.array([[0], [1], [2]]), np.array([1, 2])), [[0.44], [0.23], [-0.02]])


def test_a_free_look_that_never_stops_saves_nothing() -> None:
    cost = ExitCost(np.array([1.0, 1.0]), head=2.0, lens=0.0, check=0.0, decodes=False)
    assert_allclose(cost.saving(np.array([1, 1]), np.array([1])), 0)


def test_exits_agree_with_a_simulation_written_as_a_loop() -> None:
    generator = np.random.default_rng(0)
    score, threshold, checks = generator.random((50, 4)), 0.7, np.array([2, 4, 6, 8])
    blocks = generator.random(10)
    cost = ExitCost(blocks, 3.0, 0.5, 3.5, decodes=True)
    expected = []
    for row in score:
        spent, state = 0.0, 0
        for check, value in zip(checks, row, strict=True):
            spent += blocks[state:check].sum() + 3.5
            state = check
            if value >= threshold:
                break
        else:
            spent += blocks[state:].sum() + 3.0
        expected.append(1 - spent / (blocks.sum() + 3.0))
    found = cost.saving(first_check(score, np.array([threshold]))[:, 0], checks)
    assert_allclose(found, expected)


def test_the_probability_is_that_of_a_logistic_regression_on_standardised_features() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    draw = np.random.default_rng(0)
    x, other = draw.normal(3, 2, (300, 3)), draw.normal(3, 2, (40, 3))
    right = draw.random(300) < 1 / (1 + np.exp(-(x[:, 0] - 2 * x[:, 1] + 4)))
    scale = StandardScaler().fit(x)
    plain = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(scale.transform(x), right)
    found = logistic_probability(x, right, other, penalty=2.0)
    assert_allclose(found, plain.predict_proba(scale.transform(other))[:, 1], atol=1e-5)


def test_separable_constant_and_missing_items_give_probabilities() -> None:
    x = np.array([[-1.0, 5.0], [-2.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
    found = logistic_probability(x, x[:, 0] > 0, x)
    assert (found[:2] < 0.5).all()
    assert (found[2:] > 0.5).all()
    assert (logistic_probability(x, np.ones(4, bool), x) > 0.99).all()
    assert_array_equal(logistic_probability(x[:0], np.ones(0, bool), x), 0.5)
