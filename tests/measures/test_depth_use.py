"""Halves, the depth that holds most, and means over later layers, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.errors import BadInput
from depthscope.measures.depth_use import depth_holding, half_ratio, row_effect


def test_halves_leave_out_the_first_two_layers_the_last_and_a_middle_one() -> None:
    # layers 2 and 3 against 4, 5 and 6 of eight; of seven, layer 3 stands in the middle
    assert half_ratio(np.array([9, 9, 2.0, 4, 1, 2, 3, 9])) == pytest.approx(2 / 3)
    assert half_ratio(np.array([9, 9, 2.0, 100, 1, 3, 9])) == pytest.approx(1.0)
    assert half_ratio(np.array([[9, 9, 1.0, 2, 2, 9]] * 3)).tolist() == pytest.approx([2, 2, 2])


@pytest.mark.parametrize("profile", [[1.0] * 4, [9, 9, 0.0, 1, 1, 9], [9, 9, np.nan, 1, 1, 9]])
def test_halves_without_layers_or_without_an_effect_in_the_first_are_missing(profile: list[float]) -> None:
    assert np.isnan(half_ratio(np.array(profile)))


def test_the_depth_that_holds_a_share_counts_the_layer_that_reaches_it() -> None:
    effects = np.array([5.0, 3, 1, 1])
    assert depth_holding(effects) == 0.75  # 9 of 10 are reached exactly at the third layer
    assert depth_holding(effects, 0.91) == 1
    assert depth_holding(effects, 0.5) == 0.25
    assert depth_holding(np.array([2.0, -1, 0, 0])) == 0.25
    assert np.isnan(depth_holding(np.zeros(3)))
    with pytest.raises(BadInput, match=r"a share above 0 and at most 1, found 90\.0"):
        depth_holding(effects, 90.0)


def test_the_effect_of_a_row_is_the_mean_of_the_cells_right_of_the_diagonal() -> None:
    effects = np.array([[1.0, 2, 4], [np.nan, 1, 6], [np.nan, np.nan, 1]])
    assert row_effect(effects).tolist() == [3, 6, 0]
