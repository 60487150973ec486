"""Onsets of curves whose bend is known."""

from __future__ import annotations

import numpy as np
import pytest

from depthscope.errors import BadInput
from depthscope.measures.acceleration import onset_step

STEPS = np.array([0, 1, 3, 7, 15, 31, 63, 127])


def test_a_curve_that_is_flat_and_then_rises_sets_in_where_it_bends():
    curve = np.array([0, 0, 0, 0, 1, 2, 3, 4.0])
    assert onset_step(curve, STEPS) == 7
    assert onset_step(np.stack([curve, np.roll(curve, 1) * (np.arange(8) > 0)]), STEPS).tolist() == [7, 15]


def test_one_point_out_of_line_is_no_onset():
    curve = np.array([0, 9.0, 0, 0, 0, 1, 2, 3])
    assert onset_step(curve, STEPS) == 15


def test_equal_factors_of_training_count_as_equal():
    doubled = np.array([0, 0, 0, 0, 1, 2, 3, 4.0])
    assert onset_step(doubled, 2 * STEPS + 1) == 15
    late = np.where(STEPS < 31, 0.0, np.log1p(STEPS))
    assert onset_step(late, STEPS) == 15


def test_what_only_falls_off_or_has_gaps_has_no_onset():
    assert np.isnan(onset_step(np.array([0, 4, 7, 9, 10, 10.5, 10.6, 10.6]), STEPS))
    assert np.isnan(onset_step(np.array([0, 1, np.nan, 1, 1, 1, 1, 1.0]), STEPS))


def test_too_few_or_unordered_steps_are_refused():
    with pytest.raises(BadInput, match="needs 4 or more, rising"):
        onset_step(np.zeros(3), np.array([0, 1, 2]))
    with pytest.raises(BadInput, match="rising"):
        onset_step(np.zeros(4), np.array([0, 2, 1, 3]))
