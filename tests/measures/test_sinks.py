"""Sinks and massive entries of matrices written by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from depthscope.measures.pattern_masses import (
    far_mass,
    group_spread,
    key_masses,
    offset_masses,
    row_divergence,
    weighted,
    without,
)
from depthscope.measures.sinks import (
    bias_constancy,
    key_attention,
    massive,
    median_size,
    peak_score,
    same_number,
    share_above,
)

NAN = math.nan
ROWS = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.8, 0.1, 0.1, 0], [0.5, 0.2, 0.2, 0.1]])[None, None]


def test_a_keys_attention_is_averaged_over_the_queries_that_can_see_it():
    assert_close(key_attention(ROWS, None, causal=True)[0, 0], torch.tensor([0.7, 0.8 / 3, 0.15, 0.1]))
    # an encoder's keys are seen by every query
    assert_close(key_attention(ROWS, None, causal=False)[0, 0], torch.tensor([0.7, 0.2, 0.075, 0.025]))
    # in a window of 2 key 0 is seen by queries 0 and 1 only
    assert_close(key_attention(ROWS, 2, causal=True)[0, 0], torch.tensor([0.75, 0.3, 0.15, 0.1]))


def test_the_sink_share_counts_heads_and_falls_with_the_level():
    alpha = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.2]])
    assert share_above(alpha, 0.3).tolist() == pytest.approx([2 / 3, 1 / 3])
    shares = [share_above(alpha, level).sum() for level in (0.0, 0.15, 0.3, 0.8, 1.0)]
    assert shares == sorted(shares, reverse=True)


def test_masses_by_offset_on_sets_and_far_away():
    rows = ROWS[:, :, [1, 3]]
    found = offset_masses(rows, torch.tensor([1, 3]), 3)[0, 0]
    assert_close(found, torch.tensor([[0.5, 0.5, NAN], [0.1, 0.2, 0.2]]), equal_nan=True)
    kinds = torch.tensor([[True, False, True, False], [False, False, False, False]]).T[None]
    assert_close(key_masses(rows, kinds)[0, 0], torch.tensor([[0.5, 0.0], [0.7, 0.0]]))
    # first key and the two most recent are near; query 1 sees no others
    assert_close(far_mass(rows, torch.tensor([1, 3]), 1, 2)[0, 0], torch.tensor([NAN, 0.2]), equal_nan=True)


def test_rows_without_a_key_and_rows_weighted_by_values_sum_to_one():
    rest = without(ROWS, torch.tensor([[True, False, False, False]]))[0, 0]
    assert_close(rest[2], torch.tensor([0, 0.5, 0.5, 0]))
    assert rest[0].isnan().all()
    # a sink whose value is ten times shorter
    found = weighted(ROWS, torch.tensor([[[0.1, 1, 1, 1]]]))[0, 0]
    assert_close(found[2], torch.tensor([0.08, 0.1, 0.1, 0]) / 0.28)


def test_divergence_of_rows_is_zero_for_equal_and_ln_2_for_apart_ones():
    one, other = torch.tensor([1.0, 0]), torch.tensor([0, 1.0])
    assert float(row_divergence(one, one)) == pytest.approx(0, abs=1e-7)
    assert float(row_divergence(one, other, smoothing=0.0)) == pytest.approx(math.log(2))
    rows = torch.stack([one, one, one, other])[None, :, None]
    found = group_spread(rows, 2)[0, :, 0]
    assert found[:2].tolist() == pytest.approx([0, 0], abs=1e-7)
    assert found[2] == found[3] > 0.68
    assert group_spread(rows, 1).isnan().all()


def test_massive_entries_are_large_and_stand_out_of_their_own_text():
    state = torch.full((2, 3, 4), 0.5)
    state[0, 1, 2], state[1, 0, 3] = -700.0, 400.0
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert_close(median_size(state, mask), torch.tensor([0.5, 0.5]))
    assert massive(state, mask).nonzero().tolist() == [[0, 1, 2]]
    assert massive(state, mask, ratio=800.0).nonzero().tolist() == [[0, 1, 2], [1, 0, 3]]
    assert not massive(state, mask & (torch.arange(3) != 1)).any()
    # one entry e^a above eleven equal ones: (a - a / 12) over the deviation a sqrt(11) / 12
    assert peak_score(state, mask).tolist() == pytest.approx([math.sqrt(11)] * 2, rel=1e-5)


def test_a_constant_draw_is_a_bias_and_a_changing_one_is_not():
    value = torch.tensor([[[[1.0, 0], [0, 1.0]]]])
    rows = torch.tensor([[[[0.5, 0.1], [0.5, 0.3]]]])
    both = torch.ones(1, 2, dtype=torch.bool)
    first, second = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    assert bias_constancy(rows, value, first, both).item() == pytest.approx(0)
    assert bias_constancy(rows, value, second, both).item() == pytest.approx(0.5)
    assert bias_constancy(rows, value, second & first, both).isnan().all()


def test_control_keys_are_as_many_and_others():
    keys, among = torch.tensor([[True, False, False, False]]), torch.tensor([[True, True, True, False]])
    order = torch.tensor([[0, 3, 2, 1]])
    assert same_number(keys, among, order).tolist() == [[False, False, True, False]]
