"""Scores on a repeated block, on rows written by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import BadInput
from depthscope.measures.induction import copying, eigenvalue_score, repeat_scores

L, START = 3, 1
T = START + 3 * L
QUERIES = torch.arange(T)
NAN = math.nan


def scored(rows: torch.Tensor, window: int | None = None) -> dict[str, list[float]]:
    found = repeat_scores(rows[None, None], QUERIES, START, L, window)
    return {name: values[0, 0].tolist() for name, values in found.items()}


def looks_back(offset: int) -> torch.Tensor:
    """Each row has all its mass `offset` positions back, the rows before that on the first key."""
    rows = torch.zeros(T, T)
    rows[torch.arange(T), (torch.arange(T) - offset).clamp_min(0)] = 1
    return rows


def test_a_head_that_looks_after_the_last_copy_is_an_induction_head() -> None:
    found = scored(looks_back(L - 1))
    nothing, all_later = [NAN] * (START + L), [1.0] * (T - START - L)
    for name in ("prefix_matching", "induction", "induction_argmax"):
        assert found[name] == pytest.approx(nothing + all_later, nan_ok=True)
    assert found["duplicate"] == pytest.approx(nothing + [0.0] * len(all_later), nan_ok=True)


def test_a_head_that_looks_two_copies_back_matches_prefixes_from_the_third_copy_on() -> None:
    # copies at 1..3, 4..6, 7..9; query 7 sees one back at 5, two back at 2. Query 6 is the last of copy 2: 2 L - 1 = 5
    # back is position 1, the token of the block's start, which follows no occurrence
    found = scored(looks_back(2 * L - 1))
    assert found["prefix_matching"][4:] == [0, 0, 0, 1, 1, 1]
    assert found["induction"][4:] == [0] * 6


def test_uniform_attention_gives_one_over_visible_keys() -> None:
    rows = torch.ones(T, T).tril() / torch.arange(1.0, T + 1)[:, None]
    found = scored(rows)
    assert found["induction"][4:] == pytest.approx([1 / (i + 1) for i in range(4, T)])
    assert found["prefix_matching"][7:] == pytest.approx([2 / 8, 2 / 9, 2 / 10])


def test_the_sink_takes_no_part_in_the_argmax() -> None:
    rows = 0.1 * looks_back(L - 1)
    rows[:, 0] += 0.9
    found = scored(rows)
    assert found["induction"][4:] == pytest.approx([0.1] * 6)
    assert found["induction_argmax"][4:] == [1] * 6
    assert scored(looks_back(T))["induction_argmax"][4:] == [0] * 6


def test_keys_outside_a_window_are_undefined_not_zero() -> None:
    # i - L + 1 is L - 1 = 2 back: seen by a window of 3, in which the own token, 3 back, is not
    assert not any(map(math.isnan, scored(looks_back(2), 3)["induction"][4:]))
    assert all(map(math.isnan, scored(looks_back(2), 3)["duplicate"][4:]))
    assert all(map(math.isnan, scored(looks_back(2), 2)["prefix_matching"]))


def test_copying_by_hand() -> None:
    # centred (2, -1, -1): only the own token is raised; (1, 1, -2): the own one and another alike; (-1, 2, -1): another
    direct = torch.tensor([[3.0, 0, 0], [2, 2, -1], [0, 3, 0]])
    ratio, share = copying(direct)
    assert_close(ratio, torch.tensor([1.0, 0.0, -1.0]))
    assert_close(share, torch.tensor([1.0, 0.5, 0.0]))
    assert copying(torch.zeros(2, 2))[0].isnan().all()


def test_an_identity_circuit_copies_and_its_negative_does_the_opposite() -> None:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    found = eigenvalue_score(torch.stack([torch.eye(2), -torch.eye(2), turn]))
    assert_close(found, torch.tensor([1.0, -1.0, 0.0]))


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(BadInput, match="2 tokens or more"):
        repeat_scores(torch.ones(1, 1, T, T), QUERIES, START, 1, None)
