"""Splits: one in each stretch, by the window alone, or where the window says."""

from __future__ import annotations

import pytest

from depthscope.engine.needs import SweepNeed
from depthscope.engine.splits import splits_of
from depthscope.errors import BadInput
from depthscope.materials.window import Window


def window(index: int, length: int = 50, **about: object) -> Window:
    return Window(index, f"d{index}", tuple(range(length)), (), about)


def test_each_stretch_of_a_window_has_one_split() -> None:
    found = splits_of([window(k) for k in range(40)], 42, 4, seed=1)
    assert found.shape == (40, 4)
    for k in range(4):
        assert int(found[:, k].min()) >= 2 + 10 * k
        assert int(found[:, k].max()) < 12 + 10 * k
    assert len({tuple(row) for row in found.tolist()}) > 30, "windows split at different places"


def test_splits_depend_on_the_window_and_the_seed_and_not_on_its_neighbours() -> None:
    alone = splits_of([window(7)], 42, 4, seed=1)
    assert splits_of([window(3), window(7)], 42, 4, seed=1)[1:].tolist() == alone.tolist()
    assert splits_of([window(7)], 42, 4, seed=2).tolist() != alone.tolist()


def test_a_window_that_names_its_splits_keeps_those_that_are_read() -> None:
    found = splits_of([window(0, splits=[30, 5, 45]), window(1, splits=[]), window(2)], 42, 2, seed=1)
    assert found[:2].tolist() == [[5, 30], [-1, -1]]
    assert 2 <= int(found[2, 0]) < 22 <= int(found[2, 1]) < 42


@pytest.mark.parametrize(("length", "expected"), [(2, 0), (3, 1), (5, 3)])
def test_a_short_window_has_as_many_splits_as_it_has_room_for(length: int, expected: int) -> None:
    assert splits_of([window(0)], length, 4, seed=0).shape == (1, expected)


@pytest.mark.parametrize("split", [0, 50, -3])
def test_a_split_outside_the_window_is_refused(split: int) -> None:
    with pytest.raises(BadInput, match=f"names the split {split}; a split stands between tokens, 1 to 49"):
        splits_of([window(0, splits=[split])], 42, 4, seed=0)


def test_a_sweep_of_fewer_than_no_splits_or_without_reach_is_refused() -> None:
    with pytest.raises(BadInput, match=r"future=-1 \(splits\) must be 0 or more"):
        SweepNeed(("block",), future=-1)
    with pytest.raises(BadInput, match=r"reach=0 \(positions\) must be 1 or more"):
        SweepNeed(("block",), future=2, reach=0)
