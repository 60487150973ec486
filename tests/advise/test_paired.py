"""Paired comparisons: by hand, against scipy, and how often the interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from depthscope.advise.paired import Comparison, compared, mcnemar
from depthscope.advise.scoring import Scores
from depthscope.errors import BadInput


def sheets(n: int, gained: int, lost: int, right: int = 0) -> tuple[Scores, Scores]:
    """n items of which some are gained, some lost, some right in both."""
    ids = tuple(map(str, range(n)))
    base = [False] * gained + [True] * lost + [True] * right + [False] * (n - gained - lost - right)
    other = [True] * gained + [False] * lost + [True] * right + [False] * (n - gained - lost - right)
    said = ("",) * n
    return Scores("t", "generation", ids, tuple(base), said), Scores(
        "t", "generation", ids, tuple(other), said
    )


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 9), (9, 3), (5, 5), (0, 6)])
def test_mcnemar_is_the_binomial_test_of_the_items_that_differ(gained: int, lost: int):
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    np.testing.assert_allclose(mcnemar(gained, lost), expected, rtol=1e-12)


def test_a_difference_has_the_interval_of_its_normal_limit():
    found = compared(*sheets(2000, 100, 160, 900), margin=0.05)
    assert found.difference == -0.03
    q = 0.13
    half = 1.96 * np.sqrt((q - 0.03**2) / 2000)
    np.testing.assert_allclose([found.low, found.high], [-0.03 - half, -0.03 + half], atol=0.0015)
    assert (found.base, found.other) == (0.53, 0.5)


@pytest.mark.parametrize(
    ("n", "gained", "lost", "verdict"),
    [(400, 2, 2, "holds"), (400, 0, 60, "fails"), (100, 2, 3, "undecided")],
)
def test_the_verdict_is_where_the_interval_lies(n: int, gained: int, lost: int, verdict: str):
    found = compared(*sheets(n, gained, lost), margin=0.02)
    assert found.verdict == verdict
    assert (found.more is None) == (verdict != "undecided")


def test_few_items_that_do_not_differ_show_nothing():
    # resampling equal items never differs; the exact bound of a share never seen in 100 is 1 - 0.025^(1/100)
    found = compared(*sheets(100, 0, 0, 50), margin=0.02)
    np.testing.assert_allclose(found.low, -(1 - 0.025**0.01), rtol=1e-9)
    assert found.verdict == "undecided"
    assert found.more == 83  # ln 0.025 / ln 0.98 = 182.6
    assert compared(*sheets(183, 0, 0), margin=0.02).verdict == "holds"


def test_an_undecided_comparison_says_how_many_items_more():
    # q = 5 of 100, margin 2 points: 3.84 * 0.05 / 0.0004 = 480
    found = compared(*sheets(100, 2, 3), margin=0.02)
    assert found.more == 380
    assert "needs about 380 more items" in found.sentence
    # 600 items are more than that; seen: d = -0.01, q = 0.05: 3.84 * (0.05 - 0.0001) / 0.01^2 = 1916.2
    assert compared(*sheets(600, 12, 18), margin=0.02).more == 1917 - 600


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        gained, lost, _ = rng.multinomial(150, [0.05, 0.10, 0.85])
        found = compared(*sheets(150, gained, lost), draws=1000)
        hits += found.low <= -0.05 <= found.high
    assert hits / 200 > 0.9


def test_what_cannot_be_compared_is_refused():
    base, other = sheets(10, 1, 1)
    with pytest.raises(BadInput, match="score both on the same items"):
        compared(base, other.only(["1", "2"]))
    with pytest.raises(BadInput, match="no loss at all cannot be shown"):
        compared(base, other, margin=0.0)


def test_a_comparison_survives_json():
    found = compared(*sheets(10, 1, 1))
    assert Comparison.of(found.as_dict()) == found
