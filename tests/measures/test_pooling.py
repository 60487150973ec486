"""Pooling: every value derived by hand."""

import numpy as np
import pytest
import torch

from depthscope.errors import UnknownName
from depthscope.measures.pooling import POOLINGS, massive_tokens, pool

VECTORS = torch.tensor([[[6.0, 0.0], [0.0, 3.0], [3.0, 3.0], [99.0, 99.0]]])
MASK = torch.tensor([[True, True, True, False]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [3.0, 2.0]),
        ("last", [3.0, 3.0]),
        ("first", [6.0, 0.0]),
        ("weighted_mean", [(6 + 9) / 6, (6 + 9) / 6]),
        ("mean_no_first", [1.5, 3.0]),
        ("mean_no_massive", [3.0, 2.0]),
    ],
)
def test_each_pooling_gives_what_is_derived_by_hand(pooling: str, expected: list[float]) -> None:
    torch.testing.assert_close(pool(VECTORS, MASK, pooling), torch.tensor([expected]))


def test_a_token_ten_times_longer_than_the_median_is_left_out_and_only_at_its_state() -> None:
    states = torch.ones(2, 1, 4, 3)
    states[1, 0, 2] = 10.5
    mask = torch.tensor([[True, True, True, True]])
    assert massive_tokens(states, mask).nonzero().tolist() == [[1, 0, 2]]
    torch.testing.assert_close(pool(states, mask, "mean_no_massive"), torch.ones(2, 1, 3))
    assert float(pool(states, mask, "mean")[1, 0, 0]) > 3
    states[1, 0, 2] = 9.9
    assert not massive_tokens(states, mask).any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_empty_row_gives_the_zero_vector_whatever_stands_in_its_padding(pooling: str) -> None:
    found = pool(VECTORS, torch.zeros(1, 4, dtype=torch.bool), pooling)
    np.testing.assert_array_equal(found.numpy(), np.zeros((1, 2)))


def test_without_its_first_token_a_text_of_one_token_is_empty() -> None:
    found = pool(VECTORS[:, :1], MASK[:, :1], "mean_no_first")
    np.testing.assert_array_equal(found.numpy(), np.zeros((1, 2)))


def test_massive_tokens_can_be_given() -> None:
    given = torch.tensor([[True, False, False, False]])
    torch.testing.assert_close(pool(VECTORS, MASK, "mean_no_massive", given), torch.tensor([[1.5, 3.0]]))


def test_an_unknown_pooling_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="weighted_mean"):
        pool(VECTORS, MASK, "weightedmean")
