"""Leaving out groups: of a mean it gives Student's interval, and no group is left in that belongs out."""

from __future__ import annotations

import numpy as np
from scipy import stats

from depthscope.engine.jackknife import jackknife, jackknifed, without_groups


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])
    value, low, high = jackknifed(lambda kept: np.asarray(values[kept].mean()), list("abcdefgh"))
    expected = stats.t.interval(0.95, 7, values.mean(), values.std(ddof=1) / np.sqrt(8))
    assert value == values.mean()
    np.testing.assert_allclose([low, high], expected)


def test_units_go_to_groups_in_turn_and_a_unit_is_left_out_whole() -> None:
    units = [f"d{k}" for k in (0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 8)]
    left = without_groups(units)
    assert len(left) == 8
    # the ninth unit joins the first in the first group
    np.testing.assert_array_equal(~left[0], [u in ("d0", "d8") for u in units])
    np.testing.assert_array_equal(np.sum([~kept for kept in left], axis=0), np.ones(11))
    assert len(without_groups(list("abc"))) == 3


def test_fewer_than_three_groups_say_nothing_of_spread() -> None:
    assert without_groups(["a", "b", "a"]) == []
    low, high = jackknife(np.array([1.0, 2.0]), [])
    assert np.isnan([*low, *high]).all()
