"""Pattern statistics of heads written by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import BadInput
from depthscope.measures.patterns import pattern_statistics

T = 6
NAN = math.nan


def statistics(rows: torch.Tensor, window: int | None = None, causal: bool = True) -> dict[str, list[float]]:
    found = pattern_statistics(rows[None, None], torch.arange(len(rows)), window, causal, None)
    return {name: values[0, 0].tolist() for name, values in found.items()}


def uniform_causal(n: int) -> torch.Tensor:
    return torch.ones(n, n).tril() / torch.arange(1.0, n + 1)[:, None]


def test_uniform_rows_have_normalised_entropy_one() -> None:
    found = statistics(uniform_causal(T))
    assert found["entropy"] == pytest.approx([math.log(n) for n in range(1, T + 1)])
    assert found["entropy_norm"] == pytest.approx([NAN, 1, 1, 1, 1, 1], nan_ok=True)


def test_uniform_rows_by_hand() -> None:
    # query 2 sees keys 0 1 2 with 1/3 each: distance (2 + 1 + 0) / 3; local without key 0: 2/3
    found = statistics(uniform_causal(T))
    assert found["distance"][2] == pytest.approx(1)
    assert [found[name][2] for name in ("previous", "first", "self")] == pytest.approx([1 / 3] * 3)
    assert found["local_8"][2] == pytest.approx(2 / 3)


def test_previous_token_head_has_previous_one_and_distance_one() -> None:
    rows = torch.eye(T).roll(-1, dims=1)
    rows[0] = torch.eye(T)[0]
    found = statistics(rows)
    assert found["previous"] == pytest.approx([NAN, 1, 1, 1, 1, 1], nan_ok=True)
    assert found["distance"] == [0, 1, 1, 1, 1, 1]
    assert found["entropy"] == [0] * T
    # the query at position 1 looks at key 0, which is left out as the sink
    assert found["local_8"] == [0, 0, 1, 1, 1, 1]


def test_first_token_head_has_no_local_mass() -> None:
    rows = torch.zeros(T, T)
    rows[:, 0] = 1
    found = statistics(rows)
    assert found["first"] == [1] * T
    assert found["distance"] == [0, 1, 2, 3, 4, 5]
    assert found["local_8"] == found["local_32"] == [0] * T


def test_local_masses_end_at_their_widths() -> None:
    # one query at 40 that attends evenly to keys 1 .. 40: 8 and 32 of them lie within the widths
    rows = torch.zeros(1, 1, 1, 41)
    rows[..., 1:] = 1 / 40
    found = pattern_statistics(rows, torch.tensor([40]), None, True, None)
    assert found["local_8"].item() == pytest.approx(8 / 40)
    assert found["local_32"].item() == pytest.approx(32 / 40)


def test_window_limits_visible_keys_and_makes_the_first_token_unreachable() -> None:
    # window 3: the query at 5 sees keys 3 4 5
    rows = torch.ones(T, T).tril().triu(-2)
    found = statistics(rows / rows.sum(-1, keepdim=True), window=3)
    assert found["entropy_norm"] == pytest.approx([NAN, 1, 1, 1, 1, 1], nan_ok=True)
    assert found["first"] == pytest.approx([1, 1 / 2, 1 / 3, NAN, NAN, NAN], nan_ok=True)
    assert found["distance"][2:] == pytest.approx([1] * 4)


def test_window_of_one_has_no_previous_token() -> None:
    found = statistics(torch.eye(T), window=1)
    assert all(math.isnan(value) for value in found["previous"] + found["entropy_norm"])
    assert found["self"] == [1] * T


def test_bidirectional_rows_see_all_keys() -> None:
    found = statistics(torch.full((T, T), 1 / T), causal=False)
    assert found["entropy_norm"] == pytest.approx([1] * T)
    # query 0: mean of 0 .. 5; query 2: (2 + 1 + 0 + 1 + 2 + 3) / 6
    assert [found["distance"][i] for i in (0, 2)] == pytest.approx([2.5, 1.5])


def test_padded_keys_are_not_visible() -> None:
    rows = torch.zeros(1, 1, 4, 4)
    rows[..., :2] = 0.5
    mask = torch.tensor([[True, True, False, False]])
    found = pattern_statistics(rows, torch.arange(4), None, False, mask)
    assert_close(found["entropy_norm"][0, 0], torch.ones(4))
    assert found["self"][0, 0].isnan().tolist() == [False, False, True, True]


def test_rows_short_of_one_by_a_learned_sink_are_not_renormalised() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.25, 0.25]])
    found = statistics(rows)
    assert found["first"][1] == 0.25
    assert found["distance"][1] == 0.25
    # 2 * 1/4 ln 4 = ln 2, over ln 2 visible keys
    assert found["entropy"][1] == pytest.approx(math.log(2))
    assert found["entropy_norm"][1] == pytest.approx(1)


def test_chosen_queries_in_any_order_give_what_all_queries_give() -> None:
    rows = torch.randn(2, 3, 9, 9).masked_fill(torch.ones(9, 9).triu(1).bool(), -math.inf).softmax(-1)
    chosen = torch.tensor([7, 2, 0])
    whole = pattern_statistics(rows, torch.arange(9), 4, True, None)
    part = pattern_statistics(rows[:, :, chosen], chosen, 4, True, None)
    for name, values in part.items():
        assert_close(values, whole[name][:, :, chosen], equal_nan=True)


def test_positions_outside_the_keys_are_refused() -> None:
    with pytest.raises(BadInput, match=r"0 \.\. 5"):
        pattern_statistics(torch.eye(T)[None, None], torch.arange(1, T + 1), None, True, None)
