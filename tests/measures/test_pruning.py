"""Scores of layers, values derived by hand on small vectors."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from depthscope.measures.pruning import angular_distance, influence, sink_writes

EAST, NORTH, WEST = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([-3.0, 0.0])


def test_influence_is_how_far_the_stream_turns() -> None:
    before, after = torch.stack([EAST, EAST, EAST]), torch.stack([EAST, NORTH, WEST])
    assert_close(influence(before, after), torch.tensor([0.0, 1.0, 2.0]))


def test_angular_distance_is_a_share_of_a_half_turn() -> None:
    before, after = torch.stack([EAST, EAST, EAST]), torch.stack([2 * EAST, NORTH, WEST])
    assert_close(angular_distance(before, after), torch.tensor([0.0, 0.5, 1.0]))
    assert_close(angular_distance(EAST, torch.tensor([1.0, 1.0])), torch.tensor(0.25))


def test_a_small_angle_is_not_lost_to_rounding() -> None:
    # the cosine of this angle is 1 in float32
    assert_close(
        angular_distance(EAST, torch.tensor([1.0, 1e-5])), torch.tensor(1e-5 / torch.pi), rtol=1e-4, atol=0
    )


def test_without_a_vector_there_is_no_direction() -> None:
    nothing = torch.zeros(2)
    assert_close(influence(nothing, EAST), torch.tensor(1.0))
    assert_close(angular_distance(nothing, EAST), torch.tensor(0.5))


def test_writes_at_sinks_are_measured_in_medians_of_the_stream_behind() -> None:
    writes = torch.tensor([[[50.0, 900.0, 1.0, 1.0, 7.0]]])
    norms = torch.tensor([[[60.0, 2.0, 4.0, 6.0, torch.nan]]])
    sinks = torch.tensor([[True, False, False, False, False]])
    # the median of 60, 2, 4, 6 is 5; the largest write at a sink is 50, the larger one stands at no sink
    assert_close(sink_writes(writes, norms, sinks), torch.tensor([[10.0]]))
    assert_close(sink_writes(writes, norms, torch.zeros_like(sinks)), torch.tensor([[0.0]]))
