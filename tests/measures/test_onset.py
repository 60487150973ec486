"""Onsets over depth, on hand-written runs of hits (1) and misses (0)."""

import pytest
import torch
from torch.testing import assert_close

from depthscope.errors import BadInput
from depthscope.measures.onset import (
    DEFINITIONS,
    changes,
    first_onset,
    onsets,
    persistent_onset,
    stable_onset,
)


def hits(*rows: str) -> torch.Tensor:
    return torch.tensor([[mark == "1" for mark in row] for row in rows])


@pytest.mark.parametrize(
    ("row", "first", "two_in_a_row", "stable"),
    [
        ("00000", 5, 5, 5),  # never
        ("11111", 0, 0, 0),
        ("01011", 1, 3, 3),  # lost again after state 1
        ("01101", 1, 1, 4),  # two in a row at 1, lost, back at the end
        ("00001", 4, 4, 4),  # cut off by the end of depth: counts
        ("01000", 1, 5, 5),  # one hit only, never two in a row, misses at the end
        ("11110", 0, 0, 5),  # misses at the last state: not stable
    ],
)
def test_onsets_by_hand(row: str, first: int, two_in_a_row: int, stable: int) -> None:
    assert first_onset(hits(row)).item() == first
    assert persistent_onset(hits(row)).item() == two_in_a_row
    assert stable_onset(hits(row)).item() == stable


def test_three_in_a_row_may_be_cut_off_by_the_end_of_depth() -> None:
    assert persistent_onset(hits("110111", "110011", "111000"), m=3).tolist() == [3, 4, 0]


def test_onsets_are_ordered_and_persistence_runs_from_first_to_stable() -> None:
    hit = torch.rand(200, 9) < 0.6
    first, stable = first_onset(hit), stable_onset(hit)
    ladder = torch.stack([persistent_onset(hit, m=m) for m in range(1, 10)])
    assert (ladder[1:] >= ladder[:-1]).all()
    assert_close(ladder[0], first, rtol=0, atol=0)
    assert_close(ladder[-1], stable, rtol=0, atol=0)


def test_onsets_agree_with_a_search_written_as_the_definition_reads() -> None:
    hit = torch.rand(100, 6) < 0.5
    for row, first, stable in zip(
        hit.tolist(), first_onset(hit).tolist(), stable_onset(hit).tolist(), strict=True
    ):
        assert first == min((s for s in range(6) if row[s]), default=6)
        assert stable == min((s for s in range(6) if all(row[s:])), default=6)


def test_a_run_of_no_length_is_refused() -> None:
    with pytest.raises(BadInput, match="m=0"):
        persistent_onset(hits("01"), m=0)


def test_changes_counts_steps_to_another_id() -> None:
    assert changes(torch.tensor([[5, 5, 5, 5], [1, 2, 1, 1], [1, 2, 3, 4]])).tolist() == [0, 2, 3]


def test_one_state_has_no_changes() -> None:
    assert changes(torch.tensor([[7]])).tolist() == [0]


def test_onsets_of_ranks_by_hand() -> None:
    # ranks by state; rank <= 1 at states 3 and 5, rank <= 10 at 1, 3, 4, 5; never rank <= 1 in the second row
    rank = torch.tensor([[50, 7, 20, 1, 2, 1], [9, 9, 9, 99, 9, 9]])
    found = onsets(rank, (1, 10))
    assert found.shape == (2, len(DEFINITIONS), 2)
    assert found[0].tolist() == [[3, 1], [5, 3], [5, 3]]
    assert found[1].tolist() == [[6, 0], [6, 4], [6, 0]]


def test_first_is_never_after_stable_and_a_larger_rank_is_never_reached_later() -> None:
    rank = torch.randint(1, 40, (300, 8))
    first, stable, persistent = onsets(rank, (1, 5, 20)).unbind(1)
    assert (first <= persistent).all()
    assert (persistent <= stable).all()
    for found in (first, stable, persistent):
        assert (found[:, 1:] <= found[:, :-1]).all()


def test_rank_one_of_the_final_prediction_is_always_stable_in_the_end() -> None:
    rank = torch.randint(1, 9, (50, 6))
    rank[:, -1] = 1
    assert (onsets(rank, (1,))[:, 1] <= 5).all()


@pytest.mark.parametrize("within", [(), (0, 1)])
def test_ranks_below_one_are_refused(within: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="1 or more"):
        onsets(torch.ones(1, 3, dtype=torch.long), within)
